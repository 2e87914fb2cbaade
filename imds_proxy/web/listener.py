"""A listener: its sockets' connections, each with what stays the same from request to request."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import istr

from imds_proxy.model import canonical_address
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.model import IPAddress
    from imds_proxy.standing import Standing
    from imds_proxy.web.answer import Answer
    from imds_proxy.web.guard import Guard
    from imds_proxy.web.limits import Allowance, CallerLimits

KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 2.0
EXCESS_SECONDS = 2.0
"""For which a connection beyond its caller's limit may ask, to hear 503."""

FIRST_REQUEST_SECONDS = 10.0
"""For which a new connection may stay without a whole request, its TLS handshake included."""

UNREAD_SECONDS = 15.0
"""For which an answer may wait for a peer that does not read (TCP_USER_TIMEOUT, tcp(7))."""

_LONGEST_LINE = 8190

MOST_UNASKED_BYTES = 1_048_576
"""That a connection may bring without a request coming of them: fields without end, an unwanted body."""

_MOST_UNASKED_HEADS = 5000
"""Ends of heads among those bytes: a body of blank lines would have the parser called for each."""

_END_OF_HEAD = re.compile(rb"\n\r\n|\A\r?\n")
"""Also one whose beginning has come before."""

_UPGRADE = istr("Upgrade")
_CODING = istr("Transfer-Encoding")

_log = logging.getLogger(__name__)


class Service(Protocol):
    """What answers the requests of a listener."""

    @property
    def guard(self) -> Guard:
        """Who may talk to the listener at all."""

    def closed(self) -> Service:
        """Return the same service with nobody let in: its address is no longer configured."""

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""

    def answer_to_garbage(self, status: int, error: BaseException | None) -> Answer:
        """Return the answer to what can't be answered otherwise, which aiohttp would give `status`."""


class Connection:
    """What is known of one connection: both ends, and how its peer stands."""

    __slots__ = (
        "allowance",
        "hang_up",
        "has_asked",
        "has_ended",
        "is_admitted",
        "is_excess",
        "is_local",
        "is_pipelining",
        "local_host",
        "pause",
        "peer",
        "service",
        "standing",
        "unasked_bytes",
        "unasked_heads",
    )

    def __init__(
        self, peer: IPAddress | None, local: IPAddress | None, hang_up: Callable[[], object]
    ) -> None:
        self.peer = peer
        self.local_host = str(local) if local is not None else None
        """The address that was connected to, as Host would name it."""
        self.hang_up = hang_up
        """Ends the connection at once, without a word."""
        self.service: Service | None = None
        """The service that looked at the peer; another one (after a reload) looks again."""
        self.has_asked = False
        self.has_ended = False
        self.is_admitted = False
        self.is_excess = False
        self.is_pipelining = False
        self.pause = 0.0
        """Seconds for which the answer to its request has to wait."""
        self.is_local = False
        """Whether it came over a unix socket."""
        self.standing: Standing | None = None
        self.unasked_bytes = 0
        self.unasked_heads = 0
        self.allowance: Allowance | None = None


class _Handler(RequestHandler):
    """aiohttp's protocol; what it can't parse gets a bare status and no traceback in the log."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener, **settings: Any) -> None:
        super().__init__(listener, **settings)
        self._listener = listener

    def data_received(self, data: bytes) -> None:
        """Take in requests one by one: of several at once, aiohttp forgets those in front of a faulty one."""
        if not self._listener.takes(self, size=len(data)):
            return
        start = 0
        for found in _END_OF_HEAD.finditer(data):
            # Once aiohttp has stopped reading it wants no more, and keeps what comes nevertheless for later.
            if found.end() == len(data) or not self._is_reading():
                break
            if not self._listener.takes(self, heads=1):
                return
            super().data_received(data[start : found.end()])
            start = found.end()
        super().data_received(data[start:])

    def _is_reading(self) -> bool:
        return self.transport is not None and self.transport.is_reading()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  aiohttp's; it quotes what the client sent
    ) -> web.StreamResponse:
        """Return the answer to a request that can't be served. Anybody can send garbage, and a lot of it."""
        if isinstance(exc, ConnectionError):
            raise exc  # the caller has hung up: aiohttp takes it from here
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("could not answer %s", request.remote, exc_info=exc)
        else:
            _log.debug("not HTTP from %s: %s", request.remote, type(exc).__name__)
            if not self._listener.admits_peer_of(self):
                status, exc = HTTPStatus.FORBIDDEN, None
        answer = self._listener.service.answer_to_garbage(status, exc)
        answer.force_close()
        return answer


class Listener(web.Server):
    """aiohttp's low-level server with one service behind it, which a reload replaces."""

    def __init__(self, service: Service, limits: CallerLimits) -> None:
        super().__init__(self._answer)
        self.service = service
        self.limits = limits
        self.is_draining = False
        self._open: dict[RequestHandler, Connection] = {}

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Handler(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            # Bodies are skipped, not read: unpacking them would be work that anyone could order.
            auto_decompress=False,
            access_log=None,
            logger=_log,
        )

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Note both ends of a new connection and whether its caller has too many."""
        super().connection_made(handler, transport)
        expected = self._open.get(handler)
        if expected is not None:
            expected.hang_up = transport.abort
            _end_unless_read(transport.get_extra_info("socket"))
            return
        connection = Connection(
            _address_of(transport.get_extra_info("peername")),
            _address_of(transport.get_extra_info("sockname")),
            transport.abort,
        )
        sock = transport.get_extra_info("socket")
        connection.is_local = sock is not None and sock.family == socket.AF_UNIX
        _end_unless_read(sock)
        self._count(handler, connection, self._allowance_of(connection, transport))

    def expect(self, peer: object, local: object, hang_up: Callable[[], object]) -> RequestHandler:
        """Count a connection between two socket names that is not encrypted yet; return its protocol.

        Its time runs from now on; `hang_up` ends what goes on until the protocol has its connection.
        """
        connection = Connection(_address_of(peer), _address_of(local), hang_up)
        handler = self()
        allowance = None if connection.peer is None else self.limits.allowance_of(connection.peer)
        self._count(handler, connection, allowance)
        return handler

    def forget_unless_made(self, handler: RequestHandler) -> None:
        """Give an expected connection back that has come to nothing."""
        if handler in self._open and handler not in self._connections:
            self._give_back(handler)

    def takes(self, handler: RequestHandler, *, size: int = 0, heads: int = 0) -> bool:
        """Tell whether a connection may bring `size` bytes or `heads` more; end it when that is too much.

        A head here is one with more behind it: it comes before the answers to those in front of it.
        """
        connection = self._open.get(handler)
        if connection is None:
            return True
        connection.is_pipelining |= heads > 0
        connection.unasked_bytes += size
        connection.unasked_heads += heads
        is_endless = (
            connection.unasked_bytes > MOST_UNASKED_BYTES or connection.unasked_heads > _MOST_UNASKED_HEADS
        )
        if is_endless:
            self.limits.dropped["endless"] += 1
            connection.hang_up()
        return not is_endless

    def pre_shutdown(self) -> None:
        """End the connections that nobody is asking on."""
        super().pre_shutdown()
        for handler, connection in self._open.items():
            if handler not in self._connections:
                connection.hang_up()

    def _count(self, handler: RequestHandler, connection: Connection, allowance: Allowance | None) -> None:
        connection.allowance = allowance
        if allowance is not None:
            connection.is_excess = not self.limits.allow_connection(allowance)
        self._open[handler] = connection
        if not self.limits.make_room():
            connection.is_excess = True
        self.limits.note_idle(connection)
        # Thousands that never ask would use up our file descriptors, which are everybody's.
        patience = EXCESS_SECONDS if connection.is_excess else FIRST_REQUEST_SECONDS
        asyncio.get_running_loop().call_later(patience, self._drop_silent, connection)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Give the connection back to its caller's allowance."""
        super().connection_lost(handler, exc)
        if isinstance(exc, TimeoutError):
            self.limits.dropped["unread"] += 1
        self._give_back(handler)

    def _give_back(self, handler: RequestHandler) -> None:
        connection = self._open.pop(handler, None)
        if connection is None:
            return
        connection.has_ended = True
        if connection.allowance is not None:
            self.limits.end_connection(connection, connection.allowance)

    def _allowance_of(self, connection: Connection, transport: asyncio.Transport) -> Allowance | None:
        if connection.peer is not None:
            return self.limits.allowance_of(connection.peer)
        try:
            uid = peer_of(transport, None).uid
        except ConnectionResetError:
            return None
        return None if uid is None else self.limits.allowance_of_user(uid)

    def admits_peer_of(self, handler: RequestHandler) -> bool:
        """Tell whether the peer of an open connection may talk to this listener at all."""
        connection = self._open.get(handler)
        if connection is None:
            return False
        peer = connection.peer
        return connection.is_local or (peer is not None and self.service.guard.admits_peer(peer))

    def _drop_silent(self, connection: Connection) -> None:
        if connection.has_ended:
            return
        if connection.is_excess:
            self.limits.dropped["excess"] += 1
        elif not connection.has_asked:
            self.limits.dropped["silent"] += 1
        else:
            return
        connection.hang_up()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = self._open.get(request.protocol)
        if connection is None:
            raise ConnectionResetError("the connection is gone")
        connection.has_asked = True
        connection.unasked_bytes = connection.unasked_heads = 0
        self.limits.note_busy(connection)
        if connection.is_pipelining:
            # aiohttp would answer all of a pipeline, thousands maybe, before anybody else's turn comes.
            await asyncio.sleep(0)
        response = await self.service.answer(request, connection)
        if connection.pause:
            await asyncio.sleep(connection.pause)
            connection.pause = 0.0
        if not connection.has_ended:
            self.limits.note_idle(connection)
        headers = request.headers
        # aiohttp loses what follows an upgrade that is declined, and takes a trailer of chunks for a header
        # of the next request.
        if self.is_draining or _UPGRADE in headers or _CODING in headers:
            response.force_close()
        return response


def _address_of(name: object) -> IPAddress | None:
    """Return the address in a socket name; None for a unix socket or a connection that is gone already."""
    if isinstance(name, tuple) and name:
        try:
            return canonical_address(str(name[0]))
        except ValueError:
            return None
    return None


def _end_unless_read(sock: socket.socket | None) -> None:
    """Have the kernel end a connection whose peer takes nothing of what we have sent."""
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))


def lower_hop_limit(transport: asyncio.Transport, hops: int) -> None:
    """Let what this connection sends from now on travel no further than `hops`.

    It is never raised again: TCP stamps the limit when it transmits, so the retransmission of a lost packet
    would leave with the raised one and carry the token out.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
