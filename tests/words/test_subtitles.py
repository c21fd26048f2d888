"""Subtitle files as they are found: what is read of them, and what is said of those that are broken."""

from __future__ import annotations

import json

import pytest

from seehear.words.cues import Cue, from_cell, said, to_cell, with_words
from seehear.words.subtitles import SubtitleError, read_subtitles


def read(text):
    return [(cue.start_seconds, cue.end_seconds, cue.text) for cue in read_subtitles(text)]


SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello there.\n\n2\n00:01:00,250 --> 01:00:00,000\nTwo\nlines.\n"
PLAIN = [(1.0, 2.5, "Hello there."), (60.25, 3600.0, "Two lines.")]


@pytest.mark.parametrize(
    "text",
    [
        SRT,
        "\ufeff" + SRT,
        SRT.replace("\n", "\r\n"),
        SRT.replace("\n", "\r"),
        SRT.replace("1\n00:00:01", "00:00:01").replace("\n2\n", "\n"),  # without numbers
        SRT.replace(",", "."),
        SRT.replace("\n\n2\n", "\n2\n"),  # without an empty line between
        SRT.rstrip("\n"),
        "\n\n  \n" + SRT + "\n\n\n",
        SRT.replace("00:00:01,000 --> 00:00:02,500", "0:0:1,0-->0:0:2,5"),
        SRT.replace("00:00:02,500", "00:00:02,500  X1:53 X2:303 Y1:438 Y2:453"),
        SRT.replace("Hello there.", '<i>Hello</i> {\\an8}<font color="#fff">there.</font>'),
        SRT.replace("Hello there.", "Hello&nbsp;there."),
        SRT.replace("\n\n2\n", "\n \n2\n"),
        "WEBVTT - title\nKind: captions\n\nNOTE a remark\nover --- lines\n\nSTYLE\n::cue { color: red }\n\n"
        + SRT.replace(",", ".").replace("00:00:01.000 -->", "00:01.000 -->").replace("2.500", "2.500 align:start"),
        "WEBVTT\n\nintro-1\n00:01.000 --> 00:02.500 line:0\n<v Fred Smith>Hello <b.loud>there.</b>\n\n"
        "00:01:00.250 --> 01:00:00.000\nTwo\nlines.",
    ],
    ids=range(16),
)
def test_the_same_cues_in_every_dress(text):
    assert read(text) == PLAIN


def test_cues_come_by_time_and_may_overlap():
    text = "00:05.000 --> 00:06.000\nthird\n\n00:01.000 --> 00:04.000\nfirst\n\n00:02.000 --> 00:03.000\nsecond\n"
    assert read(text) == [(1.0, 4.0, "first"), (2.0, 3.0, "second"), (5.0, 6.0, "third")]


def test_cues_without_a_word_or_a_time_to_be_seen_are_left_out():
    text = (
        "00:01.000 --> 00:02.000\n♪ ♪\n\n00:02.000 --> 00:02.000\nnever\n\n00:03.000 --> 00:04.000\n\n"
        "00:04.000 --> 00:05.000\nok\n"
    )
    assert read(text) == [(4.0, 5.0, "ok")]


def test_rolling_captions_say_each_line_once_and_each_word_at_its_time():
    text = (
        "WEBVTT\nKind: captions\nLanguage: en\n\n"
        "00:00:00.160 --> 00:00:02.389 align:start position:0%\n"
        " \nhello<00:00:00.560><c> big</c><00:00:01.000><c> world</c>\n\n"
        "00:00:02.389 --> 00:00:02.399 align:start position:0%\nhello big world\n \n\n"
        "00:00:02.399 --> 00:00:04.000 align:start position:0%\nhello big world\nthis<00:00:02.800><c> is</c>\n\n"
        "00:00:04.000 --> 00:00:04.010 align:start position:0%\nthis is\n \n\n"
        "00:00:06.000 --> 00:00:07.000\nthis is\n"
    )
    # The first line of YouTube's cues is a space: it must not end the cue.
    assert read(text) == [
        (0.16, 0.56, "hello"), (0.56, 1.0, "big"), (1.0, 2.389, "world"),
        (2.399, 2.8, "this"), (2.8, 4.0, "is"),
        (6.0, 7.0, "this is"),  # later, it is said again
    ]  # fmt: skip


def test_a_cue_that_goes_on_in_another_lasts_as_long():
    text = "00:01.000 --> 00:03.000\nla la\n\n00:03.000 --> 00:05.000\nla la\n"
    assert read(text) == [(1.0, 5.0, "la la")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no line has times"),
        ("just a text\nof two lines\n", "no line has times"),
        ("1\n00:00:01,000 --> soon\nx\n", "line 2 has no times"),
        ("x\n\n1\n0:61 -> 0:62\n", "no line has times"),
        ("1\n00:00:05,000 --> 00:00:01,000\nx\n", "line 2: the cue ends before it begins"),
    ],
)
def test_a_broken_file_is_refused_with_the_line(text, why):
    with pytest.raises(SubtitleError, match=why):
        read_subtitles(text)


def test_what_is_said_in_a_stretch_of_time():
    cues = [Cue(0.0, 1.0, "one"), Cue(0.5, 2.0, "two"), Cue(3.0, 4.0, "three")]
    assert said(cues, 0.0, 0.5) == "one"
    assert said(cues, 0.75, 1.5) == "one two"
    assert said(cues, 1.0, 3.0) == "two"  # touching is not overlapping
    assert said(cues, 2.0, 3.0) == ""
    assert said([Cue(None, None, "always")], 7.0, 8.0) == "always"
    assert with_words([Cue(None, None, " ?! "), Cue(None, None, "a")]) == (Cue(None, None, "a"),)


def test_cues_come_back_from_a_cell():
    cues = (Cue(0.1 + 0.2, 1.5, 'say "hi", 犬'), Cue(None, None, "x"))
    assert from_cell(to_cell(cues)) == cues
    assert from_cell(None) == from_cell("") == ()
    for wrong in ("{", "[1]", "3", json.dumps([[1]])):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever says so
            from_cell(wrong)
