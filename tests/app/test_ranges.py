"""Ranges against the examples and rules of RFC 9110."""

from __future__ import annotations

import pytest

from seehear.app.ranges import http_date, part_of

SIZE, ETAG, MODIFIED = 10_000, '"abc"', 1_700_000_000.7


def ask(method="GET", **headers):
    return part_of(method, {k.replace("_", "-"): v for k, v in headers.items()}, SIZE, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-499", 206, 0, 499),  # the RFC's own examples, 14.1.2
        ("bytes=500-999", 206, 500, 999),
        ("bytes=-500", 206, 9500, 9999),
        ("bytes=9500-", 206, 9500, 9999),
        ("BYTES=0-0", 206, 0, 0),  # units are case-insensitive
        ("bytes= 0 - 0", 206, 0, 0),
        ("bytes=0-,", 206, 0, 9999),  # a list may have empty elements
        ("bytes=0-99999", 206, 0, 9999),
        ("bytes=-99999", 206, 0, 9999),
        ("bytes=9999-9999", 206, 9999, 9999),
        ("bytes=10000-", 416, 0, -1),
        ("bytes=10000-10001", 416, 0, -1),
        ("bytes=-0", 416, 0, -1),
        ("bytes=5-2", 200, 0, 9999),  # invalid: to be ignored
        ("bytes=a-b", 200, 0, 9999),
        ("bytes=-", 200, 0, 9999),
        ("bytes=", 200, 0, 9999),
        ("bytes=0-0x10", 200, 0, 9999),
        ("bytes=--5", 200, 0, 9999),
        ("bytes=0-0,-1", 200, 0, 9999),  # several: the whole is a valid answer
        ("lines=0-5", 200, 0, 9999),
        ("0-5", 200, 0, 9999),
    ],
)
def test_a_range_is_answered_as_the_standard_has_it(asked, status, first, last):
    part = ask(range=asked)
    assert (part.status, part.first, part.last) == (status, first, last)
    assert part.headers["content-length"] == str(max(0, last - first + 1))
    if status == 206:
        assert part.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    if status == 416:
        assert part.headers["content-range"] == f"bytes */{SIZE}"


def test_without_a_range_the_whole_is_sent_and_ranges_are_offered():
    part = ask()
    assert (part.status, part.length, part.headers["accept-ranges"]) == (200, SIZE, "bytes")


def test_a_head_request_has_no_ranges():
    assert ask("HEAD", range="bytes=0-9").status == 200


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (ETAG, 206),
        ('"other"', 200),
        ('W/"abc"', 200),  # weak tags never match in If-Range
        (http_date(MODIFIED), 206),
        (http_date(MODIFIED + 60), 200),
        ("nonsense", 200),
    ],
)
def test_a_range_of_another_version_gives_the_whole(condition, status):
    assert ask(range="bytes=0-9", if_range=condition).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": '"x", W/"abc"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_modified_since": http_date(MODIFIED)}, 304),
        ({"if_modified_since": http_date(MODIFIED - 10)}, 200),
        ({"if_modified_since": "nonsense"}, 200),
        ({"if_none_match": '"x"', "if_modified_since": http_date(MODIFIED)}, 200),  # tags tell alone
        ({"if_none_match": ETAG, "range": "bytes=99999-"}, 304),  # looked at before the range
    ],
)
def test_what_the_client_has_is_not_sent_again(headers, status):
    part = ask(**headers)
    assert part.status == status
    assert ("content-length" in part.headers) == (status != 304)
