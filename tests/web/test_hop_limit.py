"""How far the token travels: the hop limit is on the connection before the first byte, and stays."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.packets import Capture, CaptureUnavailableError, capturing
from tests.standins.wire import LIFE_HEADER, TOKEN_HEADER, TOKEN_PATH, WireCaller, WireConnection
from tests.web.machines import DUAL, FOO, LISTENERS, SIX, V2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

REGION = "/latest/meta-data/placement/region"
ENDS = [(FOO, V2), (FOO, DUAL), (SIX, DUAL)]
"""IPv4, IPv4 on a socket of both families, IPv6."""


@contextmanager
def watching(port: int) -> Iterator[Capture]:
    """Watch what leaves from a port; skip the test where that is not allowed."""
    with ExitStack() as stack:
        try:
            capture = stack.enter_context(capturing(port))
        except CaptureUnavailableError as error:
            pytest.skip(str(error))
        yield capture


def hops_of(site: RunningSite, listener: int, connection: WireConnection) -> tuple[int, int | None]:
    """Return the limits of a connection at the service's end: IPv4's and, on such a socket, IPv6's."""
    port = connection.socket.getsockname()[1]

    def read() -> tuple[int, int | None]:
        transports = [handler.transport for handler in site.listeners[listener].connections]
        (transport,) = [one for one in transports if one and one.get_extra_info("peername")[1] == port]
        sock: Any = transport.get_extra_info("socket")
        four = sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
        if sock.family != socket.AF_INET6:
            return four, None
        return four, sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)

    result: tuple[int, int | None] = site.do(read)
    return result


def fetch_token(connection: WireConnection, caller: WireCaller) -> str:
    """Return a token that was asked for over this connection."""
    connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
    answer = connection.read_answer()
    assert answer.status == 200
    return answer.text


@pytest.mark.parametrize("hops", [1, 2, 64])
@pytest.mark.parametrize(("source", "listener"), ENDS)
def test_the_limit_of_a_connection(source: str, listener: int, hops: int, start_site: StartSite) -> None:
    """TOKEN sets it; what follows on that connection does not raise it again: a retransmission of the token
    would leave with the raised one.
    """
    site = start_site(listen=[{**listen, "hop_limit": hops} for listen in LISTENERS])
    caller = site.caller(source, listener=listener)
    with caller.connected() as connection:
        token = fetch_token(connection, caller)
        expected = (hops, None if listener == V2 else hops)
        assert hops_of(site, listener, connection) == expected
        connection.send(caller.render("GET", REGION, (TOKEN_HEADER, token)))
        assert connection.read_answer().status == 200
        assert hops_of(site, listener, connection) == expected


def test_connections_without_a_token(start_site: StartSite) -> None:
    """Only TOKEN's answers are held back: data goes as far as ever."""
    site = start_site()
    caller = site.caller(FOO)
    token = caller.fetch_token()
    with caller.connected() as connection:
        connection.send(caller.render("GET", REGION, (TOKEN_HEADER, token)))
        assert connection.read_answer().status == 200
        hops, _ = hops_of(site, V2, connection)
    assert hops > 1


@pytest.mark.parametrize(("source", "listener"), ENDS)
def test_every_packet_of_the_answer(source: str, listener: int, start_site: StartSite) -> None:
    """No byte of a TOKEN's answer leaves with more than one hop, `100 Continue` included; a GET's does."""
    site = start_site()
    caller = site.caller(source, listener=listener)
    headers = [(LIFE_HEADER, "60"), ("Expect", "100-continue"), ("Content-Length", "0")]
    with watching(site.ports[listener]) as capture:
        with caller.connected() as connection:
            connection.send(caller.render("PUT", TOKEN_PATH, *headers))
            assert connection.read_answer().status == 100
            token = connection.read_answer().text
        sent = capture.take_segments()
        assert b"".join(segment.payload for segment in sent).count(b"HTTP/1.1 ") == 2
        assert token.encode() in b"".join(segment.payload for segment in sent)
        assert {segment.hops for segment in sent} == {1}
        assert caller.get(REGION, token).status == 200
        sent = capture.take_segments()
        assert b"".join(segment.payload for segment in sent).count(b"HTTP/1.1 200") == 1
        assert all(segment.hops > 1 for segment in sent)
