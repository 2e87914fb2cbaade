"""The hand-over: one request that aiohttp reads and a service answers, on a connection that stays ours.

aiohttp gets a transport of which it can write to the connection and say that it has done. So a connection
costs a parser and a task only while such a request is answered, and the next one is the edge's again.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import istr

from imds_proxy.web.answer import Answer, Reply
from imds_proxy.web.edge.budgets import MAX_FIELD_BYTES

if TYPE_CHECKING:
    from imds_proxy.web.edge.conversation import Conversation

_UPGRADE = istr("Upgrade")
"""It is declined, and what is behind it may be of another protocol."""

_log = logging.getLogger(__name__)


class BodyTooLargeError(Exception):
    """A body goes on beyond what its listener takes."""


class Lease(asyncio.Transport):
    """The transport that aiohttp gets for one request."""

    def __init__(self, connection: Conversation, transport: asyncio.Transport, handler: Handler) -> None:
        super().__init__()
        self.connection = connection
        self.request: web.BaseRequest | None = None
        self._transport = transport
        self._handler: Handler | None = handler
        self._is_over = False
        self._is_too_large = False

    def begin(self, head: bytes) -> None:
        """Let aiohttp read the head."""
        assert self._handler is not None
        self._handler.lease = self
        self._handler.connection_made(self)
        self._handler.data_received(head)

    def feed(self, body: bytes) -> None:
        """Let aiohttp read some of the body."""
        if self._handler is not None:
            self._handler.data_received(body)

    def overflow(self) -> None:
        """Tell the service that the body is larger than it may be."""
        self._is_too_large = True
        if self.request is not None:
            self.request.content.set_exception(BodyTooLargeError())

    def end(self, exc: BaseException | None) -> None:
        """Tell aiohttp that there is no connection any more."""
        self._is_over = True
        # Let go of each other: what is left of a request must not wait for the garbage collector, which
        # holds up everybody while it looks.
        handler, self._handler, self.request = self._handler, None, None
        if handler is not None:
            handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let what is being written wait."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Let what waits be written."""
        if self._handler is not None:
            self._handler.resume_writing()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the service's answer. After it aiohttp gives the connection back."""
        connection = self.connection
        if self._is_over or connection.service is None:
            raise ConnectionResetError("the connection is gone")
        self.request = request
        connection.note_asked()
        if self._is_too_large:
            request.content.set_exception(BodyTooLargeError())
        response = await connection.service.answer(request, connection)
        is_kept = request.keep_alive if response.keep_alive is None else response.keep_alive
        connection.is_last |= not is_kept or _UPGRADE in request.headers or connection.is_draining
        if connection.is_last:
            response.force_close()
        if self._handler is not None:
            self._handler.close()
        return response

    def answer_to_garbage(self, status: int, error: BaseException | None) -> web.StreamResponse:
        """Return the answer to a request that can't be served. Anybody can send garbage, and a lot of it."""
        connection = self.connection
        assert connection.service is not None
        connection.note_asked()
        connection.is_last = True
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("could not answer %s", connection.peer, exc_info=error)
        else:
            _log.debug("not HTTP from %s: %s", connection.peer, type(error).__name__)
        answer = Answer(Reply(connection.service.page_for_garbage(status, error)))
        answer.force_close()
        return answer

    # --- what aiohttp asks of a transport ------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes on the connection."""
        if not self._is_over:
            self._transport.write(data)

    def close(self) -> None:
        """Give the connection back: the answer is written."""
        if not self._is_over:
            self._is_over = True
            self.connection.take_back()

    def abort(self) -> None:
        """End the connection."""
        self._is_over = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._is_over or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Do nothing: the edge bounds what it gives."""

    def resume_reading(self) -> None:
        """Do nothing: the edge bounds what it gives."""

    def is_reading(self) -> bool:
        """Tell that the edge gives what it has."""
        return True


class Handler(RequestHandler):
    """aiohttp's protocol for one request; what it can't parse gets a bare status and no traceback."""

    __slots__ = ("lease",)

    lease: Lease

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  aiohttp's; it quotes what the client sent
    ) -> web.StreamResponse:
        """Return the answer to a request that can't be served."""
        if isinstance(exc, ConnectionError):
            raise exc  # the caller has hung up: aiohttp takes it from here
        return self.lease.answer_to_garbage(status, exc)


class Handlers(web.Server):
    """aiohttp's low-level server: the handlers of all requests that are being answered."""

    def __init__(self) -> None:
        super().__init__(_answer)

    def lend(self, connection: Conversation, transport: asyncio.Transport) -> Lease:
        """Return the lease of a connection for one request."""
        handler = Handler(
            self,
            loop=asyncio.get_running_loop(),
            # No timers of aiohttp's, neither for idle connections nor for bodies: those are the edge's.
            keepalive_timeout=0,
            lingering_time=0,
            tcp_keepalive=False,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            # Unpacking bodies would be work that anyone could order.
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # its documentation says None
            logger=_log,
        )
        return Lease(connection, transport, handler)


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    handler = request.protocol
    assert isinstance(handler, Handler)
    return await handler.lease.answer(request)
