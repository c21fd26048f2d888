"""Sentences, words, their numbers, and changes of their order, by hand-made cases and literal loops."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from seehear.errors import DataError, RunError
from seehear.words.changes import shuffle_sentences, swap_words
from seehear.words.tokens import sentences, words
from seehear.words.vectors import read_vectors, vector_length
from seehear.words.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A dog barks.", ["a", "dog", "barks"]),
        ("Don't STOP—it’s loud!", ["don't", "stop", "it's", "loud"]),
        ("'quoted' rock 'n' roll'", ["quoted", "rock", "n", "roll"]),
        ("[Music] (applause) ♪ la-la ♪", ["music", "applause", "la", "la"]),
        ("3.5 km, 24/7", ["3", "5", "km", "24", "7"]),
        ("snake_case\ttab\u00a0no-break\u200bzero", ["snake", "case", "tab", "no", "break", "zero"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("ＦＵＬＬ ﬁne", ["full", "fine"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("犬が吠える dog", ["犬", "が", "吠", "え", "る", "dog"]),
        ("straße", ["straße"]),
        ("👍 … ?!", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_in_lower_case(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "go." Then (he left.) Done', ['He said "go."', "Then (he left.)", "Done"]),
        ("It costs 3.50 here. Yes...no", ["It costs 3.50 here.", "Yes...no"]),
        ("First line\nsecond line\r\n\r\nthird", ["First line", "second line", "third"]),
        ("犬が吠える。猫が鳴く！「静か。」終わり", ["犬が吠える。", "猫が鳴く！", "「静か。」", "終わり"]),
        ("  . ! ?  Only this.  ", ["Only this."]),
        ("no end", ["no end"]),
        ("", []),
        ("...", []),
    ],
)
def test_sentences_end_with_a_mark_and_a_space_or_a_line(text, found):
    assert sentences(text) == found


def test_shuffling_draws_every_other_order_alike_and_never_the_same():
    text = "One dog. Two cats! Three birds?"
    parts = ["One dog.", "Two cats!", "Three birds?"]
    others = {" ".join(order) for order in itertools.permutations(parts)} - {text}
    counts = Counter(shuffle_sentences(text, np.random.default_rng(seed)) for seed in range(2000))
    assert set(counts) == others
    assert max(counts.values()) < 1.4 * min(counts.values())


@pytest.mark.parametrize("text", ["Only one sentence.", "", "Again. Again.", "…"])
def test_what_cannot_be_shuffled_stays(text):
    assert shuffle_sentences(text, np.random.default_rng(0)) == text


def test_shuffling_keeps_sentences_that_occur_twice():
    found = {shuffle_sentences("Go. Go. Stop.", np.random.default_rng(seed)) for seed in range(50)}
    assert found == {"Go. Stop. Go.", "Stop. Go. Go."}


def swapped_by_a_loop(text, seed, share):
    """Random swap of Wei and Zou, written out: draw a word's sentence and two places of it, swap, n times."""
    rng = np.random.default_rng(seed)
    parts = [words(part) for part in sentences(text)]
    n = max(1, round(share * sum(map(len, parts))))
    sizes = [len(part) if len(part) > 1 else 0 for part in parts]
    for _ in range(n):
        which = rng.choice(len(parts), p=[size / sum(sizes) for size in sizes])
        places = rng.choice(len(parts[which]), 2, replace=False)
        first, second = parts[which][places[0]], parts[which][places[1]]
        parts[which][places[0]], parts[which][places[1]] = second, first
    return " ".join(" ".join(part) + "." for part in parts)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_swaps_are_those_of_a_loop_and_keep_every_sentence_its_words(seed, share):
    text = "The quick brown fox jumps. Wow! It was quite a sight to see, they said."
    found = swap_words(text, np.random.default_rng(seed), share)
    assert found == swapped_by_a_loop(text, seed, share)
    before, after = ([Counter(words(part)) for part in sentences(t)] for t in (text, found))
    assert before == after


def test_one_swap_of_few_words_changes_two_places():
    text = "a b c d e"
    for seed in range(20):
        found = words(swap_words(text, np.random.default_rng(seed)))
        assert sum(x != y for x, y in zip(found, words(text), strict=True)) == 2


@pytest.mark.parametrize("text", ["", "One.", "One! Two? Three."])
def test_without_two_words_in_a_sentence_nothing_is_swapped(text):
    assert swap_words(text, np.random.default_rng(0)) == text


class TestVocabulary:
    def test_words_stand_by_frequency_then_by_alphabet(self):
        known = Vocabulary.of(["b a c", "c b", "c d"], most=3)
        assert known.words == ("c", "b", "a")
        assert len(known) == 3

    def test_numbers_with_unknown_words_and_padding(self):
        known = Vocabulary(("dog", "cat"))
        assert known.numbers("Dog! bird CAT", 5).tolist() == [FIRST, UNKNOWN, FIRST + 1, PADDING, PADDING]
        assert known.numbers("cat cat cat", 2).tolist() == [FIRST + 1] * 2
        assert known.numbers(" ... ", 5) is None
        assert known.unknown(["dog bird", "cat"]) == (1, 3)

    def test_it_comes_back_from_a_file(self, tmp_path):
        known = Vocabulary.of(["naïve 犬 don't"], most=9)
        (tmp_path / "v.json").write_text(known.to_json(videos=3), encoding="utf-8")
        assert Vocabulary.load(tmp_path / "v.json") == known

    @pytest.mark.parametrize("text", ["", "{}", '{"words": "abc"}', '{"words": [1]}', '{"words": ["a", "a"]}'])
    def test_a_damaged_file_is_refused_by_name(self, tmp_path, text):
        (tmp_path / "v.json").write_text(text)
        with pytest.raises(RunError, match=r"v\.json holds no vocabulary"):
            Vocabulary.load(tmp_path / "v.json")


class TestVectors:
    GLOVE = "the 0.5 -1 2e-1\ncat 1 2 3\n. . . 7 8 9\ncat 9 9 9\n"

    @pytest.mark.parametrize("head", ["", "4 3\n"])
    def test_both_text_forms_are_read(self, tmp_path, head):
        path = tmp_path / "vectors.txt"
        path.write_text(head + self.GLOVE)
        assert vector_length(path) == 3
        found = read_vectors(path, {"cat", "the", "dog", ". . ."})
        assert {word: vector.tolist() for word, vector in found.items()} == {
            "the": pytest.approx([0.5, -1, 0.2]), "cat": [1, 2, 3], ". . .": [7, 8, 9]
        }  # fmt: skip
        assert all(vector.dtype == np.float32 for vector in found.values())

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "no word vectors"),
            ("a 1 2\nb 1\n", "line 2 has 1 numbers, the first has 2"),
            ("a 1 2\nb 1 x\n", "line 2 holds something else"),
            ("a 1 2\nb 1 nan\n", "line 2 holds a number that is not finite"),
            ("a 1 2\nb\n", "line 2 has a word and no numbers"),
            (b"\xff\xfe\x00", "is not UTF-8"),
        ],
    )
    def test_what_is_wrong_is_said_with_file_and_line(self, tmp_path, text, said):
        path = tmp_path / "v.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=said) as caught:
            read_vectors(path, {"a", "b"})
        assert "v.txt" in str(caught.value)
        assert caught.value.remedy

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            vector_length(tmp_path / "none.txt")
