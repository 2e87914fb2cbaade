"""Callers that take their time, or never come to an end: they are answered in time, or not at all.

All in virtual time, both ends in one loop: minutes pass at once.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy.web.answer import Answer, Reply
from imds_proxy.web.edge.admission import empty_page
from imds_proxy.web.edge.budgets import MACHINES
from imds_proxy.web.edge.conversation import MAX_LINGER_BYTES
from imds_proxy.web.edge.limits import CallerLimits, Rates
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import OpenConnections
from imds_proxy.web.edge.timeouts import (
    FIRST_REQUEST_SECONDS,
    KEEP_ALIVE_SECONDS,
    LINGER_SECONDS,
    TURNED_AWAY_SECONDS,
)
from tests.standins.answer_stream import split_answers
from tests.standins.virtual_time import VirtualClock, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from imds_proxy.errors import RefusalKind
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.service import Service

MOMENT = 0.01
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n"
LONG_PUT = PUT.replace(b"40", b"999999999")
CHUNKED = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Ready:
    """A service with an answer to everything, which takes a turn of the loop."""

    bounds = MACHINES

    def admits(self, _connection: Connection) -> bool:
        return True

    def answer_at_once(self, _ask: Ask, _connection: Connection) -> None:
        return None

    def turn_away(self, _kind: RefusalKind) -> Page:
        return empty_page(503)

    def page_for_garbage(self, status: int, _error: BaseException | None) -> Page:
        return empty_page(status)

    async def answer(self, _request: web.BaseRequest, _connection: Connection) -> web.StreamResponse:
        return Answer(Reply(empty_page(200)))


class Sender:
    """A client that sends when it likes."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = socket.create_connection(where)
        self._sock.setblocking(False)
        self._began = self._loop.time()

    @property
    def age(self) -> float:
        """Seconds since it was connected."""
        return self._loop.time() - self._began

    async def drip(self, data: bytes, pause: float, size: int = 1) -> None:
        """Send some bytes after each pause (seconds), until all is sent or the other side has had enough."""
        for start in range(0, len(data), size):
            await asyncio.sleep(pause)
            try:
                self._sock.send(data[start : start + size])
            except OSError:
                return

    async def statuses_to_end(self) -> list[int]:
        """Return the statuses of all answers, once the other side has ended the connection."""
        received = b""
        with suppress(ConnectionResetError):
            while some := await self._loop.sock_recv(self._sock, 65536):
                received += some
        self._sock.close()
        return [answer.status for answer in split_answers(received)]

    async def drip_and_read(self, data: bytes, pause: float, size: int = 1) -> tuple[list[int], float]:
        """Return the statuses of all answers, and the seconds after which the connection was ended."""
        dripping = asyncio.ensure_future(self.drip(data, pause, size))
        statuses = await self.statuses_to_end()
        age = self.age
        dripping.cancel()
        return statuses, age


@asynccontextmanager
async def listening(connections: int = 9) -> AsyncIterator[tuple[str, int]]:
    """Run a listener; all it had is given back at the end."""
    rates = Rates(
        connections=connections,
        requests_per_second=1000,
        new_connections_per_second=1000,
        tls_handshakes_per_second=1000,
    )
    limits = CallerLimits(rates, clock=VirtualClock().clock())
    open_connections = OpenConnections(limits, max_connections=100)
    listener = Listener(cast("Service", _Ready()), open_connections)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()
    await listener.shutdown(1)
    await asyncio.sleep(MOMENT)
    assert (open_connections.count, len(listener.connections)) == (0, 0)


@pytest.mark.parametrize("data", [b"", b"G", GET[:-1], b"\r\n\r\n", b"\r\n" * 500])
@in_virtual_time
async def test_who_asks_nothing(data: bytes) -> None:
    """A connection without a whole request ends, half a header or not, whatever comes meanwhile."""
    async with listening() as where:
        statuses, age = await Sender(where).drip_and_read(data, 0.5)
        assert (statuses, round(age)) == ([], FIRST_REQUEST_SECONDS)


@in_virtual_time
async def test_one_byte_after_the_other() -> None:
    """A request whose end comes in time is answered, one that takes longer is not."""
    async with listening() as where:
        in_time = FIRST_REQUEST_SECONDS / len(GET)
        statuses, age = await Sender(where).drip_and_read(GET, in_time - MOMENT)
        assert statuses == [200]
        assert round(age) == round(FIRST_REQUEST_SECONDS + KEEP_ALIVE_SECONDS)
        statuses, age = await Sender(where).drip_and_read(GET, in_time + MOMENT)
        assert (statuses, round(age)) == ([], FIRST_REQUEST_SECONDS)


@in_virtual_time
async def test_a_second_request_that_never_ends() -> None:
    """It has as long as an idle connection is kept."""
    async with listening() as where:
        for half in (b"GET /", GET[:-2]):
            statuses, age = await Sender(where).drip_and_read(GET + half, 1.0, len(GET))
            assert statuses == [200]
            assert round(age) == round(1 + KEEP_ALIVE_SECONDS)


@pytest.mark.parametrize("data", [PUT, PUT + b"x" * 39])
@in_virtual_time
async def test_a_body_that_never_ends(data: bytes) -> None:
    """The answer waits for no body; the connection then waits for it, but not for long."""
    async with listening() as where:
        statuses, age = await Sender(where).drip_and_read(data, 1.0, len(data))
        assert (statuses, round(age)) == ([200], 1 + LINGER_SECONDS)


@pytest.mark.parametrize(
    "data", [CHUNKED, CHUNKED + b"1", CHUNKED + b"5;x\r\nab", CHUNKED + b"0\r\nX: y", LONG_PUT]
)
@in_virtual_time
async def test_a_body_of_unknown_or_great_length(data: bytes) -> None:
    """The answer is the last, and the connection ends with it."""
    async with listening() as where:
        statuses, age = await Sender(where).drip_and_read(data, 1.0, len(data))
        assert (statuses, round(age)) == ([200], 1)


@pytest.mark.parametrize(
    ("head", "more", "answered"),
    [
        (GET[:-2], b"X: " + b"y" * 5000 + b"\r\n", [400]),
        (GET[:-2], b"X: y\r\n", [400]),
        (GET[:-2] + b"X: ", b"y" * 5000, [400]),
        (b"", b"\r\n" * 4096, []),
        (LONG_PUT, b"x" * 16384, [200]),
        (LONG_PUT, b"\r\n\r\n" * 4096, [200]),
        (CHUNKED, b"1\r\na\r\n" * 4096, [200]),
    ],
    ids=[
        "large fields",
        "fields",
        "a field",
        "blank lines in front",
        "a body",
        "a body of blank lines",
        "chunks",
    ],
)
@in_virtual_time
async def test_what_comes_of_no_request(head: bytes, more: bytes, answered: list[int]) -> None:
    """Fast as it comes it is not taken in without end: it costs memory, and time that is everybody's."""
    async with listening() as where:
        data = head + more * (3 * MAX_LINGER_BYTES // len(more))
        statuses, age = await Sender(where).drip_and_read(data, 0.0001, len(head) + len(more))
        assert statuses == answered
        assert age < 1


@in_virtual_time
async def test_many_requests_are_no_such_thing() -> None:
    """What a connection brings counts from request to request."""
    async with listening() as where:
        request = GET[:-2] + b"X: " + b"y" * 8000 + b"\r\n\r\n"
        number = 2 * MAX_LINGER_BYTES // len(request)
        statuses, _ = await Sender(where).drip_and_read(request * number, 0.001, len(request))
        assert statuses == [200] * number


@in_virtual_time
async def test_a_connection_too_many() -> None:
    """One beyond its caller's limit hears 503 as soon as it sends anything, and ends soon if it does not."""
    async with listening(connections=1) as where:
        within = Sender(where)
        for data in (b"G", b"\r\n", PUT, b"\0"):
            statuses, age = await Sender(where).drip_and_read(data, 0.01, len(data))
            assert (statuses, round(age)) == ([503], 0)
        statuses, age = await Sender(where).drip_and_read(b"", 0.1)
        assert (statuses, round(age)) == ([], TURNED_AWAY_SECONDS)
        assert await within.statuses_to_end() == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(st.sampled_from([GET, PUT + b"x" * 40]), min_size=1, max_size=5),
    pause=st.floats(0, 30),
    size=st.integers(1, 200),
)
def test_any_pace(requests: list[bytes], pause: float, size: int) -> None:
    """At whatever pace requests come, the connection ends, with one answer to each that was there in time."""

    @in_virtual_time
    async def run() -> None:
        async with listening() as where:
            statuses, age = await Sender(where).drip_and_read(b"".join(requests), pause, size)
            assert statuses == [200] * len(statuses)
            assert len(statuses) <= len(requests)
            first_is_there = pause * -(-len(requests[0]) // size)
            if first_is_there < FIRST_REQUEST_SECONDS - 1:
                assert statuses
            patience = FIRST_REQUEST_SECONDS + LINGER_SECONDS + len(statuses) * KEEP_ALIVE_SECONDS
            assert age < patience + 1

    run()
