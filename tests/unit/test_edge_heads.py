"""Heads of requests: where they end, in whatever pieces they come, and how long their bodies are."""

from __future__ import annotations

import pytest
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from imds_proxy.web.edge.heads import (
    INCOMPLETE,
    NOT_HTTP,
    TOO_LARGE,
    UNKNOWN_LENGTH,
    find_head,
    length_of_body,
)
from tests.standins.parsing import parse_with_aiohttp

MAX_BYTES, MAX_FIELDS = 300, 5

pieces = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"\r", b"\n\r\n", b"\n\n", b"\r\n\r\n"),
        *(b"PRI * HTTP/2.0\r\n", b"PRI", b"A: b", b": ", b"\0", b"\x16\x03\x01", b"x" * 100, b"X: y\r\n"),
    ]
)
data = st.one_of(
    st.binary(max_size=60), st.lists(st.one_of(pieces, st.binary(max_size=5)), max_size=30).map(b"".join)
)


def find(data: bytes, scanned: int = 0) -> int:
    """Return what is found under small bounds."""
    return find_head(data, scanned, max_bytes=MAX_BYTES, max_fields=MAX_FIELDS)


def drip(data: bytes, splits: list[int]) -> int:
    """Return what is found when data come in pieces: the first thing that is not INCOMPLETE."""
    scanned, found = 0, INCOMPLETE
    for end in sorted({min(split, len(data)) for split in splits} - {0} | {len(data)}):
        found = find(data[:end], scanned)
        if found != INCOMPLETE:
            return found
        scanned = end
    return found


@given(data=data, splits=st.lists(st.integers(1, 400), max_size=10))
def test_any_split(data: bytes, splits: list[int]) -> None:
    """The same head is found however the bytes are split. What is refused is refused as well, if not for the
    same reason: a piece may show one fault before the rest shows another.
    """
    if not data:
        return
    at_once = find(data)
    for found in (drip(data, splits), drip(data, list(range(1, len(data))))):
        assert found == at_once or (found < 0 and at_once < 0)


@given(data=data)
def test_what_is_found(data: bytes) -> None:
    """A head is the least that ends in an empty line, is within the bounds, and begins with a letter."""
    found = find(data)
    lines = data.split(b"\n")
    blank = next((number for number, line in enumerate(lines) if number and line in (b"", b"\r")), None)
    is_whole = blank is not None and blank < len(lines) - 1
    size = sum(len(line) + 1 for line in lines[: blank + 1]) if is_whole and blank is not None else len(data)
    if found > 0:
        assert is_whole
        assert found == size <= MAX_BYTES
        assert data[:found].count(b"\n") <= MAX_FIELDS + 2
        assert data[:1].isalpha()
    elif found == INCOMPLETE:
        assert not is_whole
        assert len(data) <= MAX_BYTES
    elif found == TOO_LARGE:
        assert size > MAX_BYTES or data[:size].count(b"\n") > MAX_FIELDS + 2
    else:
        assert found == NOT_HTTP
        assert not data[:1].isalpha() or data.startswith(b"PRI * HTTP/2.0\r\n")


@pytest.mark.parametrize("fields", [MAX_FIELDS, MAX_FIELDS + 1])
def test_fields_are_counted(fields: int) -> None:
    """As many fields as allowed are a head; one more is too large, with or without its end."""
    head = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * fields + b"\r\n"
    assert find(head) == (len(head) if fields == MAX_FIELDS else TOO_LARGE)
    assert find(head + b"more\n" * 100) == find(head)
    assert find(head[:-2]) == INCOMPLETE


@pytest.mark.parametrize("size", [MAX_BYTES, MAX_BYTES + 1])
def test_bytes_are_counted(size: int) -> None:
    """As many bytes as allowed are a head; one more is too large, and needs no end for that."""
    head = b"GET / HTTP/1.1\r\nX: ".ljust(size - 4, b"y") + b"\r\n\r\n"
    assert len(head) == size
    assert find(head) == (size if size == MAX_BYTES else TOO_LARGE)
    assert find(b"G" * size) == (INCOMPLETE if size == MAX_BYTES else TOO_LARGE)


# --- bodies ----------------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(
        ["Content-Length", "content-length", "CONTENT-LENGTH", "Content-Length ", "Content-Lengt"]
    ),
    st.sampled_from(
        ["Content-Length-X", "X-Content-Length", "Content-Length\t", " Content-Length", "Content_Length"]
    ),
    st.sampled_from(
        ["Transfer-Encoding", "transfer-encoding", "Transfer-Encoding ", "Transfer-Encodings", "X"]
    ),
)
values = st.one_of(
    st.sampled_from(
        ["0", "5", "64", "00005", " 7", "7 ", "7\t", "+5", "-1", "5, 5", "5,6", "0x5", "5_0", "1e3"]
    ),
    st.sampled_from(["", "chunked", "Chunked", "identity", "gzip, chunked", "chunked, identity", "\u0665"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6),
)
separators = st.sampled_from([":", ": ", ":\t", " : ", "", "\r\n:", ":\r\n "])
ends = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r", "\0\r\n", "\r\r\n"])
fields = st.lists(st.tuples(names, separators, values, ends), max_size=4)


@given(fields=fields)
@example(fields=[("Content-Length-X", ": ", "5", "\r\n")])
def test_a_body_is_as_long_as_the_parser_says(fields: list[tuple[str, str, str, str]]) -> None:
    """Of a head that aiohttp takes, its length of the body is ours, or ours is unknown: then the request is
    the last of its connection.
    """
    text = "".join("".join(field) for field in fields)
    head = f"PUT / HTTP/1.1\r\nHost: x\r\n{text}\r\n".encode()
    if find_head(head, 0, max_bytes=10_000, max_fields=64) != len(head):
        return
    message = parse_with_aiohttp(head)
    length = length_of_body(head)
    if message is None or length == UNKNOWN_LENGTH:
        return
    assert not message.chunked
    assert length == int(message.headers.get("Content-Length", "0"))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("Content-Length: 0", 0),
        ("content-length:12", 12),
        ("CONTENT-LENGTH: 0012  ", 12),
        ("Content-Length: 999999999", 999_999_999),
        ("Content-Length: 1000000000", UNKNOWN_LENGTH),
        ("Content-Length: 5\r\nContent-Length: 5", UNKNOWN_LENGTH),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", UNKNOWN_LENGTH),
        ("Transfer-Encoding: identity", UNKNOWN_LENGTH),
        ("Transfer-Encoding : chunked", UNKNOWN_LENGTH),
        ("Content-Length: ", UNKNOWN_LENGTH),
        ("Content-Length: -1", UNKNOWN_LENGTH),
        ("Content-Length: 5, 5", UNKNOWN_LENGTH),
        ("X-Content-Length: 5", 0),
        ("X: y\nContent-Length: 5", 5),
    ],
)
def test_lengths(text: str, length: int) -> None:
    """One Content-Length of digits is the length. Everything else that is about a body is unknown."""
    assert length_of_body(f"PUT / HTTP/1.1\r\nHost: x\r\n{text}\r\n\r\n".encode()) == length


def test_the_parser_of_these_tests_is_the_daemon_s() -> None:
    """aiohttp's parser in C, which the daemon hands its requests to, is the one compared with."""
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"
