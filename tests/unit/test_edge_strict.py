"""The strict form: no mutation of it is taken, and aiohttp reads what is taken in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imds_proxy.web.edge.ask import AUTHORIZATION, FORWARDING_HEADERS, HOST, LIFE_HEADER, TOKEN_HEADER
from imds_proxy.web.edge.heads import find_head, length_of_body
from imds_proxy.web.edge.strict import MAX_STRICT_BYTES, parse_strict
from tests.standins.parsing import parse_with_aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.web.edge.ask import Ask

VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(
    lambda text: text.strip() or "x"
)
VALUES = {
    "Host": st.sampled_from(["169.254.169.254", "127.0.0.1:80", "[fd00:ec2::254]:8080", "imds.rz.example"]),
    "X-aws-ec2-metadata-token": st.text(st.sampled_from("AZaz09_-="), min_size=1, max_size=56),
    "X-aws-ec2-metadata-token-ttl-seconds": st.text(st.sampled_from("0123456789"), min_size=1, max_size=9),
    "Authorization": st.text(VISIBLE, min_size=1, max_size=40),
    "Connection": st.sampled_from(["close", "keep-alive", "Keep-Alive", "CLOSE"]),
    "Content-Length": st.just("0"),
    "Accept": texts,
    "Accept-Encoding": texts,
    "Accept-Language": texts,
    "amz-sdk-invocation-id": texts,
    "amz-sdk-request": texts,
    "Cache-Control": texts,
    "User-Agent": texts,
    "x-amz-user-agent": texts,
}
paths = st.one_of(
    st.sampled_from(["/", "/latest/api/token", "//", "/latest/meta-data/iam/security-credentials/a@b,c=d+e"]),
    st.text(st.sampled_from("abzAZ09/._~+=,@-"), max_size=40).map(lambda text: "/" + text),
)
cases: st.SearchStrategy[Callable[[str], str]] = st.sampled_from([str, str.lower, str.upper, str.swapcase])


@st.composite
def strict_requests(draw: st.DrawFn) -> bytes:
    """Draw a request of the strict form."""
    more = draw(st.lists(st.sampled_from(sorted(set(VALUES) - {"Host"})), max_size=6, unique=True))
    names = draw(st.permutations(["Host", *more]))
    case = draw(cases)
    lines = [f"{case(name)}: {draw(VALUES[name])}" for name in names]
    method, path = draw(st.sampled_from(["GET", "PUT"])), draw(paths)
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def split(request: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    """Return method, path and header fields of a request as they stand there."""
    first, *lines = request.decode().removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def values_of(fields: list[tuple[str, str]], name: str) -> tuple[str, ...]:
    """Return all values of a header, in any case."""
    return tuple(value for given, value in fields if given.lower() == name.lower())


@given(strict_requests())
def test_the_strict_form_is_taken(request: bytes) -> None:
    """Every request of the form is taken, with what stands in it and nothing else."""
    ask = parse_strict(request)
    method, path, fields = split(request)
    assert ask is not None
    assert (ask.method, ask.path, ask.authority, ask.is_forwarded) == (method, path, None, False)
    for found, name in (
        (ask.hosts, HOST),
        (ask.tokens, TOKEN_HEADER),
        (ask.lives, LIFE_HEADER),
        (ask.authorizations, AUTHORIZATION),
    ):
        assert tuple(found) == values_of(fields, name)
    assert ask.is_last == ([value.lower() for value in values_of(fields, "Connection")] == ["close"])


def assert_read_alike(request: bytes, ask: Ask) -> None:
    """Check that aiohttp takes a request for the same."""
    message = parse_with_aiohttp(request)
    assert message is not None
    assert (message.method, message.path) == (ask.method, ask.path)
    assert (message.version.major, message.version.minor) == (1, 1)
    for found, name in (
        (ask.hosts, HOST),
        (ask.tokens, TOKEN_HEADER),
        (ask.lives, LIFE_HEADER),
        (ask.authorizations, AUTHORIZATION),
    ):
        assert tuple(found) == tuple(message.headers.getall(name, ()))
    assert message.should_close == ask.is_last
    assert not any(name in message.headers for name in FORWARDING_HEADERS)
    assert not (message.chunked)
    assert not (message.upgrade)
    assert not (message.compression)
    assert message.headers.get("Content-Length", "0") == "0"


@given(strict_requests())
def test_aiohttp_reads_the_same(request: bytes) -> None:
    """aiohttp reads a request that is taken as the same method, path and header fields, without a body."""
    ask = parse_strict(request)
    assert ask is not None
    assert_read_alike(request, ask)
    assert find_head(request, 0, max_bytes=MAX_STRICT_BYTES, max_fields=64) == len(request)
    assert length_of_body(request) == 0


def insert_line(request: bytes, line: bytes, place: int = 1) -> bytes:
    """Return a request with one more line, which ends as it is given."""
    lines = request.removesuffix(b"\r\n").split(b"\r\n")[:-1]
    where = 1 + place % len(lines)
    return (
        b"".join(one + b"\r\n" for one in lines[:where])
        + line
        + b"".join(one + b"\r\n" for one in [*lines[where:], b""])
    )


FORWARDED = [name.encode() for name in FORWARDING_HEADERS]
LINES = [
    *(
        b"Host: x\r\n",
        b"host: 169.254.169.254\r\n",
        b"HOST: x\r\n",
        b"Host:\r\n",
        b"Host : x\r\n",
        b"Host:x\r\n",
    ),
    *(b" folded\r\n", b"\tfolded\r\n", b"\r\n", b"\n", b"X: y\r\n", b"X\r\n", b":\r\n", b": x\r\n"),
    *(
        b"Content-Length: 1\r\n",
        b"Content-Length: 00\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: 0 \r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: identity\r\n", b"TE: trailers\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: Upgrade\r\n",
        b"Connection: close, x\r\n",
    ),
    *(b"Accept: a\0b\r\n", b"Accept: a\tb\r\n", b"Accept: \r\n", b"Accept:  x\r\n", b"Accept: x \r\n"),
    *(
        b"Accept : x\r\n",
        b"Accept\t: x\r\n",
        b"Accept:x\r\n",
        b" Accept: x\r\n",
        b"Accept: \xe4\r\n",
        b"Accept: x\n",
    ),
    *(b"Accept: x\r\r\n", b"Accept: x\ry\r\n", b"X-aws-ec2-metadata-token: a b\r\n", b"Accept: \x7f\r\n"),
    *(b"X-aws-ec2-metadata-token-ttl-seconds: -1\r\n", b"X_aws_ec2_metadata_token: x\r\n", b"Trailer: x\r\n"),
    *(
        case(name) + b": 10.0.0.1\r\n"
        for name in FORWARDED
        for case in (bytes.lower, bytes.upper, bytes.swapcase)
    ),
    *(case(name) + b":\r\n" for name in FORWARDED for case in (bytes.lower, bytes.title)),
]


few = settings(max_examples=20)


@pytest.mark.parametrize("line", LINES)
@few
@given(request=strict_requests(), place=st.integers(0, 20))
def test_lines_that_are_not_of_the_form(line: bytes, request: bytes, place: int) -> None:
    """A request with one such line is not taken, wherever that stands."""
    assert parse_strict(insert_line(request, line, place)) is None


@given(request=strict_requests(), data=st.data())
def test_doubled_fields(request: bytes, data: st.DataObject) -> None:
    """No header field may be there twice, in whatever case."""
    lines = request.split(b"\r\n")[1:-2]
    line = data.draw(st.sampled_from(lines))
    name, _, rest = line.partition(b":")
    cased = data.draw(cases)(name.decode()).encode()
    place = data.draw(st.integers(0, 20))
    assert parse_strict(insert_line(request, cased + b":" + rest + b"\r\n", place)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"),
        (b" HTTP/1.1\r\n", b" HTTP/1.2\r\n"),
        (b" HTTP/1.1\r\n", b" http/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"  HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"\tHTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b" HTTP/1.1 \r\n"),
        (b" HTTP/1.1\r\n", b" HTTP/1.1\n"),
        (b" HTTP/1.1\r\n", b"\r\n"),
        (b" HTTP/1.1\r\n", b"%2e HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"? HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"#x HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b";x HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"\\ HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b":x HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"\xc3\xa4 HTTP/1.1\r\n"),
        (b" HTTP/1.1\r\n", b"\0 HTTP/1.1\r\n"),
        (b" /", b" http://169.254.169.254/"),
        (b" /", b" *"),
        (b" /", b" x/"),
        (b" /", b"  /"),
        (b" /", b"\t/"),
        (b"T /", b"t /"),
        (b"T /", b" /"),
        (b"T /", b"TX /"),
        (b"\r\n", b"\n"),
        (b"\r\n", b"\r"),
        (b"\r\n", b"\0\r\n"),
        (b"\r\n\r\n", b"\n\r\n"),
        (b"\r\n\r\n", b"\r\n\n"),
        (b"\r\n\r\n", b"\n\n"),
        (b"\r\n\r\n", b"\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\nx"),
        (b"\r\n\r\n", b"\r\n \r\n\r\n"),
        (b": ", b":"),
        (b": ", b" : "),
        (b": ", b":\t"),
        (b": ", b":  "),
    ],
)
@few
@given(request=strict_requests())
def test_mutations(old: bytes, new: bytes, request: bytes) -> None:
    """A request in which one thing is not as the form wants it is not taken."""
    assert old in request
    assert parse_strict(request.replace(old, new, 1)) is None


@given(first=strict_requests(), second=strict_requests())
def test_two_requests_in_one(first: bytes, second: bytes) -> None:
    """Two requests are not one, and neither is one with a part of another behind it."""
    assert parse_strict(first + second) is None
    assert parse_strict(first + second[: len(second) // 2]) is None
    assert parse_strict(b"\r\n" + first) is None


@given(request=strict_requests())
def test_parts(request: bytes) -> None:
    """No part of a request is taken."""
    assert all(parse_strict(request[:end]) is None for end in range(len(request)))


def test_without_a_host() -> None:
    """A request must have a Host."""
    assert parse_strict(b"GET / HTTP/1.1\r\n\r\n") is None
    assert parse_strict(b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n") is None


def test_length() -> None:
    """A request up to the limit is taken, one byte more is not."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\nAccept: "
    longest = start.ljust(MAX_STRICT_BYTES - 4, b"x") + b"\r\n\r\n"
    assert parse_strict(longest) is not None
    assert parse_strict(longest.replace(b"xx", b"xxx", 1)) is None


@given(
    request=strict_requests(),
    edits=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 3),
            st.one_of(
                st.binary(max_size=2), st.sampled_from([b"\r\n", b": ", b"Via: x\r\n", b"\r\n\r\n", b" "])
            ),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_anything_nearly_of_the_form(request: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Whatever is taken of requests with a few bytes changed, aiohttp reads in the same way."""
    for where, length, new in edits:
        start = where % len(request)
        request = request[:start] + new + request[start + length :]
        assume(request)
    ask = parse_strict(request)
    if ask is not None:
        assert_read_alike(request, ask)
