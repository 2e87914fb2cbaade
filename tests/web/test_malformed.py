"""What is no HTTP, or not all of it: a status and not a word more, and nothing of it in the log."""

from __future__ import annotations

import logging
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH, WireConnection
from tests.web.machines import FOO, FOO_ROLE, OUTSIDE, V1

if TYPE_CHECKING:
    from tests.standins.site_thread import RunningSite

GOOD = f"GET {ROLES_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n".encode()
MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "unknown method": b"FROB / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(189),
    "the PROXY protocol": b"PROXY TCP4 127.0.0.2 127.0.0.1 4711 80\r\n" + GOOD + b"\r\n",
    "lines that end in LF": GOOD.replace(b"\r\n", b"\n") + b"\n",
    "a CR in a header": GOOD + b"X-Y: SECRET\rHost: 169.254.169.254\r\n\r\n",
    "two hosts": GOOD + b"Host: 169.254.169.254\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "chunks, then length": GOOD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "chunked twice": GOOD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked, but not last": GOOD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a backslash for a slash": b"GET \\latest HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    "a NUL in a path": b"GET /\0 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: 169.254.169.254\r\n\r\n",
    "a header without a colon": GOOD + b"X-aws-ec2-metadata-token SECRET\r\n\r\n",
    "a header with a NUL": GOOD + b"X-aws-ec2-metadata-token: SEC\0RET\r\n\r\n",
    "a name with a blank": GOOD + b"X-aws-ec2-metadata-token : SECRET\r\n\r\n",
    "a folded header": GOOD + b"X-aws-ec2-metadata-token: SEC\r\n RET\r\n\r\n",
    "two lengths": GOOD + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "a negative length": GOOD + b"Content-Length: -1\r\n\r\n",
    "length and chunks": GOOD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a long path": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    "a long header": GOOD + TOKEN_HEADER.encode() + b": " + b"SECRET" * 2000 + b"\r\n\r\n",
    "many headers": GOOD + b"".join(b"X-%d: SECRET\r\n" % number for number in range(200)) + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests(
    request_bytes: bytes, shared_site: RunningSite, caplog: pytest.LogCaptureFixture
) -> None:
    """400 with an empty body in the service's own words, then the end; the log has no traceback of it and
    nothing that was sent: it may be a token.
    """
    with caplog.at_level(logging.DEBUG):
        for before in (b"", shared_site.caller(FOO).render("GET", "/")):
            with shared_site.caller(FOO).connected() as connection:
                if before:
                    connection.send(before)
                    assert connection.read_answer().status == 401
                connection.send(request_bytes)
                answer = connection.read_answer()
                assert (answer.status, answer.body) == (400, b"")
                assert answer.header("Server") == "EC2ws"
                assert answer.header("Connection") == "close"
                assert connection.read_to_end() == b""
    assert "SEC" not in caplog.text
    assert "Traceback" not in caplog.text


def test_malformed_requests_of_strangers(shared_site: RunningSite) -> None:
    """A peer outside `callers` hears 403 whatever it sends."""
    for request_bytes in MALFORMED.values():
        answer = shared_site.caller(OUTSIDE).exchange(request_bytes)
        assert (answer.status, answer.body) == (403, b"")


@pytest.mark.parametrize(
    "target", ["169.254.169.254:80", "*", "latest/api/token", "?", "#", "http:///latest", "//", "http://"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT"])
def test_targets_that_are_no_path(method: str, target: str, shared_site: RunningSite) -> None:
    """Refused or malformed, never an error of the service's own, and the connection survives or ends."""
    answer = shared_site.caller(FOO, listener=V1).ask(method, target)
    assert answer.status in {400, 403, 404, 405} or (answer.status, target) == (200, "//")


@pytest.mark.parametrize(
    "headers", [("Upgrade: websocket", "Connection: Upgrade"), ("Upgrade: h2c", "Connection: upgrade")]
)
def test_upgrades_are_declined(headers: tuple[str, str], shared_site: RunningSite) -> None:
    """An upgrade is not taken up: the request is answered as if nothing had been asked, and is the last."""
    caller = shared_site.caller(FOO, listener=V1)
    extra = [(name, value) for name, _, value in (header.partition(": ") for header in headers)]
    region = caller.render("GET", "/latest/meta-data/placement/region", *extra)
    with caller.connected() as connection:
        connection.send(region + caller.render("GET", "/latest/meta-data/local-ipv4"))
        answer = connection.read_answer()
        assert (answer.text, answer.header("Connection")) == ("eu-central-1", "close")
        assert connection.read_to_end() == b""


def test_whole_requests_before_a_malformed_one(shared_site: RunningSite) -> None:
    """They are answered, also when all came in one packet; after the 400 comes nothing."""
    caller = shared_site.caller(FOO, listener=V1)
    region = caller.render("GET", "/latest/meta-data/placement/region")
    for faulty in MALFORMED.values():
        with caller.connected() as connection:
            connection.send(region * 3 + faulty)
            assert [connection.read_answer().status for _ in range(4)] == [200, 200, 200, 400]
            assert connection.read_to_end() == b""


def test_small_bodies(shared_site: RunningSite) -> None:
    """A body of 64 bytes is skipped, whatever is in it, and the next request is answered."""
    caller = shared_site.caller(FOO, listener=V1)
    region = caller.render("GET", "/latest/meta-data/placement/region", ("Content-Length", "64"))
    with caller.connected() as connection:
        for body in (b"x" * 64, GOOD[:64], b"\r\n" * 32):
            connection.send(region + body)
            answer = connection.read_answer()
            assert (answer.text, answer.header("Connection")) == ("eu-central-1", None)


@pytest.mark.parametrize("size", [65, 100_000, 10_000_000])
def test_large_bodies(size: int, shared_site: RunningSite) -> None:
    """The request is answered and the connection ends; nothing in the body is taken for a request."""
    caller = shared_site.caller(FOO, listener=V1)
    smuggled = caller.render("GET", ROLES_PATH)
    body = smuggled * (size // len(smuggled) + 1)
    region = caller.render("GET", "/latest/meta-data/placement/region", ("Content-Length", str(len(body))))
    with caller.connected() as connection:
        with suppress(ConnectionError):
            connection.send(region + body)
        answer = connection.read_answer()
        assert (answer.text, answer.header("Connection")) == ("eu-central-1", "close")
        assert connection.read_to_end() == b""


@pytest.mark.parametrize("trailer", [f"{TOKEN_HEADER}: x", "Host: attacker.example", "Via: 1.1 x"])
def test_trailers_are_nobodys_headers(trailer: str, shared_site: RunningSite) -> None:
    """What stands behind a chunked body is no header of the next request: that has no next one."""
    caller = shared_site.caller(FOO, listener=V1)
    body = f"3;x=y\r\nabc\r\n0\r\n{trailer}\r\n\r\n".encode()
    region = "/latest/meta-data/placement/region"
    with caller.connected() as connection:
        connection.send(caller.render("GET", region, ("Transfer-Encoding", "chunked")) + body)
        assert connection.read_answer().text == "eu-central-1"
        with suppress(OSError):
            connection.send(caller.render("GET", region))
        assert connection.read_to_end() == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_bodies_are_not_unpacked(encoding: str, shared_site: RunningSite) -> None:
    """A body that says it is packed is skipped as it is: unpacking it is work that anyone could order."""
    caller = shared_site.caller(FOO)
    headers = [(LIFE_HEADER, "60"), ("Content-Encoding", encoding), ("Content-Length", "8")]
    with caller.connected() as connection:
        for _ in range(2):
            connection.send(caller.render("PUT", TOKEN_PATH, *headers) + b"no such!")
            assert connection.read_answer().status == 200


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nabc", b"fffffffffffffffff\r\n", b"3;x=\0\r\nabc\r\n0\r\n\r\n"]
)
def test_broken_chunks(chunk: bytes, shared_site: RunningSite) -> None:
    """A chunked body that is broken spoils its own connection and no more."""
    caller = shared_site.caller(FOO)
    headers = [(LIFE_HEADER, "60"), ("Transfer-Encoding", "chunked")]
    with caller.connected() as connection:
        connection.send(caller.render("PUT", TOKEN_PATH, *headers) + chunk)
        assert connection.read_answer().status in {200, 400}
        connection.socket.shutdown(socket.SHUT_WR)
        connection.read_to_end()
    assert caller.put_token("60").status == 200


def cut(connection: WireConnection) -> None:
    """End a connection with a reset."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


def test_callers_that_hang_up(shared_site: RunningSite) -> None:
    """A connection that is reset at any byte of a request leaves no error behind.

    (The site's end fails this test when something was logged, or left unhandled in its loop.)
    """
    caller = shared_site.caller(FOO)
    put = caller.render(
        "PUT", TOKEN_PATH, (LIFE_HEADER, "60"), ("Expect", "100-continue"), ("Content-Length", "0")
    )
    get = caller.render("GET", ROLES_PATH + FOO_ROLE, (TOKEN_HEADER, caller.fetch_token()))
    for request in (put, get, put + get, get * 3):
        for sent in {0, 1, len(request) // 2, len(request) - 1, len(request)}:
            for _ in range(5):
                with caller.connected() as connection:
                    connection.send(request[:sent])
                    cut(connection)
    assert caller.put_token("60").status == 200
