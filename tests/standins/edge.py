"""Connections of the edge without a network: the peer is at any address, and a service that answers all.

    far = connect(listener, "fd77::1")
    far.send(REQUEST)
    await asyncio.sleep(0)
    assert far.received.startswith(b"HTTP/1.1 200 ")

The connections, their listener and what it counts are the program's own; only the transport is made up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from imds_proxy.web.answer import Answer, Reply
from imds_proxy.web.edge.admission import empty_page
from imds_proxy.web.edge.budgets import MACHINES
from imds_proxy.web.edge.limits import CallerLimits, Rates
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import OpenConnections
from tests.standins.virtual_time import VirtualClock

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.errors import RefusalKind
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.conversation import Conversation
    from imds_proxy.web.edge.service import Service

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
"""Is answered at once."""

SLOW_REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
"""Is answered when the service is released."""

PLENTY = Rates(
    connections=1000,
    requests_per_second=10**6,
    new_connections_per_second=10**6,
    tls_handshakes_per_second=10**6,
)


class ReadyService:
    """Service that answers GET with 200 at once, and everything else with 200 once it is released."""

    bounds = MACHINES

    def __init__(self) -> None:
        self.strangers: set[str] = set()
        """Peers that are turned away."""
        self.is_released = asyncio.Event()

    def admits(self, connection: Conversation) -> bool:
        """Tell whether a peer is not a stranger."""
        return str(connection.peer) not in self.strangers

    def answer_at_once(self, _ask: Ask, _connection: Conversation) -> Reply:
        """Return a reply to a request of the strict form."""
        return Reply(empty_page(200))

    def turn_away(self, _kind: RefusalKind) -> Page:
        """Return a page for a peer that is turned away."""
        return empty_page(403)

    def page_for_garbage(self, status: int, _error: BaseException | None) -> Page:
        """Return a page for what is not HTTP."""
        return empty_page(status)

    async def answer(self, _request: web.BaseRequest, _connection: Conversation) -> web.StreamResponse:
        """Answer once released."""
        await self.is_released.wait()
        return Answer(Reply(empty_page(200)))


class Far(asyncio.Transport):
    """Both ends of a connection: what the program writes to, and what the peer sends and receives."""

    def __init__(self, connection: Conversation, peer: str) -> None:
        super().__init__({"peername": (peer, 50_000), "sockname": ("127.0.0.1", 80)})
        self.connection = connection
        self.received = b""
        self.is_over = False
        self.unsent = 0
        """Bytes that the peer has not taken yet."""
        self.is_reading_now = True
        self._loop = asyncio.get_running_loop()

    # --- the peer's end -------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Let bytes arrive, as many at a time as one read brings; return how many were read."""
        sent = 0
        while sent < len(data) and not self.is_over and self.is_reading_now:
            buffer = self.connection.get_buffer(-1)
            piece = data[sent : sent + len(buffer)]
            buffer[: len(piece)] = piece
            sent += len(piece)
            self.connection.buffer_updated(len(piece))
        return sent

    def go(self) -> None:
        """End the connection from the peer's side."""
        self._end()

    # --- the program's end ----------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the peer."""
        if not self.is_over:
            self.received += bytes(data)

    def abort(self) -> None:
        """End the connection; its protocol hears of it in the next turn of the loop, as with a socket."""
        self._end()

    def close(self) -> None:
        """End the connection."""
        self._end()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._loop.call_soon(self.connection.connection_lost, None)

    def is_closing(self) -> bool:
        """Tell whether the connection ends."""
        return self.is_over

    def can_write_eof(self) -> bool:
        """Tell that half of the connection can be closed."""
        return True

    def write_eof(self) -> None:
        """Send the end; the peer goes on sending for as long as it likes."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer has not taken yet."""
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: a test says when writing is paused."""

    def pause_reading(self) -> None:
        """Read nothing more."""
        self.is_reading_now = False

    def resume_reading(self) -> None:
        """Read on."""
        self.is_reading_now = True


def make_listener(
    *, rates: Rates = PLENTY, max_connections: int = 10_000
) -> tuple[Listener, ReadyService, OpenConnections]:
    """Return a listener on no socket, its service and the connections it counts; in virtual time."""
    limits = CallerLimits(rates, clock=VirtualClock().clock())
    open_connections = OpenConnections(limits, max_connections=max_connections)
    service = ReadyService()
    return Listener(cast("Service", service), open_connections), service, open_connections


def connect(listener: Listener, peer: str) -> Far:
    """Return a new connection from an address."""
    connection = listener()
    far = Far(connection, peer)
    connection.connection_made(far)
    return far
