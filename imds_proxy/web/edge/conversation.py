"""A conversation: the requests on one connection, from the first byte to the last.

What happens to the bytes that arrive, in this order:

1. A stranger, and a connection beyond its caller's limit, hears 403 or 503. Nothing of what it sends is
   looked at.
2. One request of the strict form with nothing to wait for is answered on the spot (`strict`).
3. All else is held until the head is complete (`heads`), within the budgets (`budgets`), and then handed to
   aiohttp, one request at a time (`handover`). Bodies that nobody reads are dropped unparsed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imds_proxy.errors import RefusalKind
from imds_proxy.web.answer import render_answer
from imds_proxy.web.edge import timeouts
from imds_proxy.web.edge.budgets import READ_BYTES
from imds_proxy.web.edge.connection import Connection
from imds_proxy.web.edge.heads import INCOMPLETE, TOO_LARGE, UNKNOWN_LENGTH, find_head, length_of_body
from imds_proxy.web.edge.strict import parse_strict

if TYPE_CHECKING:
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.handover import Lease
    from imds_proxy.web.edge.listener import Listener

MAX_LINGER_BYTES = 16_384
"""Bytes that are read and dropped at the end of a connection; what is beyond them is not even read."""

_EVERYTHING = -1
"""Whatever still comes is dropped."""

_BUFFER = memoryview(bytearray(READ_BYTES))
"""What one read of one connection may bring. All share it: what was read is copied before the next read."""

_KIND_OF = {"stranger": RefusalKind.NOT_ADMITTED, "excess": RefusalKind.OVER_LIMIT}


class Conversation(Connection):
    """A connection with what has arrived of a request, and the answer that is being made."""

    __slots__ = (
        "_body",
        "_has_eof",
        "_held",
        "_is_cut",
        "_is_held_up",
        "_is_paced",
        "_is_paused",
        "_is_scheduled",
        "_lease",
        "_lingered",
        "_scanned",
        "_taken",
        "is_last",
    )

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self.is_last = False
        """Whether the answer that is being made is the last."""
        self._lease: Lease | None = None
        self._held = b""
        """What has arrived and is not looked at yet, or is the beginning of a head."""
        self._scanned = 0
        """How many bytes of that were looked at."""
        self._taken = 0
        """Bytes that aiohttp was given of the request that is being answered."""
        self._body = 0
        """Bytes of a body that are still to come, or _EVERYTHING."""
        self._has_eof = False
        """Whether nothing more arrives."""
        self._is_cut = False
        """Whether the body is longer than what is taken of it, or may be."""
        self._lingered = 0
        """Bytes that nobody wanted, since the last request."""
        self._is_held_up = False
        self._is_paced = False
        """Whether the head in front has waited for its turn."""
        self._is_paused = False
        self._is_scheduled = False

    @property
    def is_draining(self) -> bool:
        """Whether every answer is the last."""
        return self.listener.is_draining or self.is_distrusted

    @property
    def is_idle(self) -> bool:
        """Whether no answer is being made or sent."""
        return self._lease is None and not self.is_unread and self.turned_away is None

    # --- what arrives ------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  asyncio's; ours is always as large
        """Return where the next bytes go."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what has arrived."""
        data = bytes(_BUFFER[:nbytes])
        self._held = self._held + data if self._held else data
        self._go_on()

    def _go_on(self) -> None:
        """Do one step with what has arrived."""
        service = self.listener.service
        if service is not self.service and self._lease is None:
            self.judge_again(service)
        if self._body:
            self._take_body()
        if self._lease is not None or self._is_held_up or self.is_unread or self._is_scheduled:
            if self._held:
                self._stop_reading()
                self._hold_head()
        elif self._held and self._body != _EVERYTHING:
            if self.turned_away is not None:
                self._turn_away()
            else:
                self._take_head()
        else:
            self._read_on()

    def _schedule(self) -> None:
        """Go on in the next turn of the loop: everybody else's turn comes in between."""
        if not self._is_scheduled and (self._held or self._is_paused or self._has_eof):
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on_after, "_is_scheduled")

    def hold_up(self, seconds: float) -> None:
        """Do nothing with what arrives for so many seconds."""
        self._is_held_up = True
        asyncio.get_running_loop().call_later(seconds, self._go_on_after, "_is_held_up")

    def _go_on_after(self, what: str) -> None:
        setattr(self, what, False)
        if not self.has_ended and self.transport is not None and not self.transport.is_closing():
            self._go_on()

    def _stop_reading(self) -> None:
        if not self._is_paused and self.transport is not None and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Wait for more to arrive."""
        if self._body == _EVERYTHING and self._lingered > MAX_LINGER_BYTES:
            return
        if self._has_eof and self.transport is not None:
            self.transport.close()
        elif self._is_paused and self.transport is not None and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _turn_away(self) -> None:
        """Answer what was not even looked at."""
        assert self.service is not None
        assert self.turned_away is not None
        self._send_last(self.service.turn_away(_KIND_OF[self.turned_away]))

    def _send_last(self, page: Page) -> None:
        assert self.transport is not None
        self.has_asked = True
        self.transport.write(render_answer(page, is_last=True))
        self._finish()

    def _take_head(self) -> None:
        """Begin a request, if all of its head is there and its caller's turn has come."""
        was_scanned = bool(self._scanned)
        ask = None if was_scanned else parse_strict(self._held)
        end = len(self._held) if ask is not None else self._find_head()
        if not end or self._is_held_up_by_pace():
            return
        head, self._held = self._held[:end], self._held[end:]
        self._scanned, self._lingered, self._is_paced = 0, 0, False
        if ask is None and (self._held or was_scanned):
            ask = parse_strict(head)
        self._begin(head, ask)
        self._schedule()

    def _find_head(self) -> int:
        """Return where the head ends; 0: it is not whole yet, or is refused."""
        assert self.service is not None
        bounds = self.service.bounds
        if not self._scanned and not self._skip_blank_lines(bounds.head_bytes):
            return 0
        end = find_head(self._held, self._scanned, max_bytes=bounds.head_bytes, max_fields=bounds.fields)
        if end > 0:
            return end
        if end == INCOMPLETE:
            self._scanned = len(self._held)
            self._hold_head()
            self._read_on()
            return 0
        if end == TOO_LARGE:
            self.open.dropped["endless"] += 1
        self._send_last(self.service.page_for_garbage(400, None))
        return 0

    def _skip_blank_lines(self, most: int) -> bool:
        """Skip blank lines in front of a request (RFC 9112 section 2.2); False: nothing else is there."""
        before = len(self._held)
        self._held = self._held.lstrip(b"\r\n")
        self._lingered += before - len(self._held)
        if self._lingered > most:
            self.open.drop(self, "endless")
        elif not self._held:
            self._read_on()
        return bool(self._held) and self._lingered <= most

    def _is_held_up_by_pace(self) -> bool:
        """Tell whether a request must wait for the turns of others; it then begins by itself."""
        if not self._is_paced:
            delay = self.open.limits.delay_request(self.allowance)
            if delay:
                self._is_paced = True
                self.hold_up(delay)
                return True
        return False

    def _hold_head(self) -> None:
        """Count what is kept of requests in the budget of all connections."""
        size = self._taken + len(self._held)
        if size or self.is_holding:
            self.is_holding = bool(size)
            self.open.hold_head(self, size)

    # --- answers -----------------------------------------------------------------------------------

    def _begin(self, head: bytes, ask: Ask | None) -> None:
        """Answer a request at once if that can be done, else hand it to aiohttp."""
        assert self.service is not None
        reply = self.service.answer_at_once(ask, self) if ask is not None else None
        if ask is None or reply is None:
            self._hand_over(head)
            return
        self._hold_head()
        assert self.transport is not None
        self.has_asked = True
        is_last = ask.is_last or self.is_draining
        self.transport.write(render_answer(reply.page, reply.extra, is_last=is_last))
        if is_last:
            self._finish()
        else:
            self.open.timeouts.start(self, timeouts.KEEP_ALIVE_SECONDS)

    def _hand_over(self, head: bytes) -> None:
        """Let aiohttp read a request and the service answer it; `take_back` comes after that."""
        assert self.service is not None
        bounds = self.service.bounds
        self._taken = len(head)
        self._hold_head()
        if self.is_dropped:
            return  # it was the largest of too many
        length = length_of_body(head)
        self._is_cut = length == UNKNOWN_LENGTH or length > bounds.body_bytes
        self.is_last = self._is_cut
        if self._is_cut:
            length = bounds.body_bytes if bounds.reads_bodies else _EVERYTHING
        self._body = length
        self._lease = self.listener.hand_over(self)
        self._lease.begin(head)
        if self._body and self._held:
            self._take_body()

    def note_asked(self) -> None:
        """Note that aiohttp has found a request in what it was given: it has as long as the answer takes."""
        self.has_asked = True
        self.open.timeouts.stop(self)

    def take_back(self) -> None:
        """Go on after the answer to a request that was handed over."""
        lease, self._lease = self._lease, None
        if lease is None or self.has_ended:
            return
        lease.end(None)
        self._taken = 0
        self._hold_head()
        if self.is_last:
            self._finish()
            return
        is_whole = not self._body
        self.open.timeouts.start(self, timeouts.KEEP_ALIVE_SECONDS if is_whole else timeouts.LINGER_SECONDS)
        self._schedule()

    def _take_body(self) -> None:
        """Drop what has come of a body, or give it to whoever reads it."""
        if self._body == _EVERYTHING:
            self._drop()
            return
        piece, self._held = self._held[: self._body], self._held[self._body :]
        self._body -= len(piece)
        assert self.service is not None
        if self._lease is not None and self.service.bounds.reads_bodies:
            self._taken += len(piece)
            self._hold_head()
            self._lease.feed(piece)
        if self._body:
            return
        if self._is_cut and self._held:
            if self._lease is not None:
                self._lease.overflow()
            self._body = _EVERYTHING
            self._drop()
        elif self._is_cut:
            self._body = _EVERYTHING
        elif self._lease is None:
            self.open.timeouts.start(self, timeouts.KEEP_ALIVE_SECONDS)

    def _drop(self) -> None:
        self._lingered += len(self._held)
        self._held = b""
        if self._lingered > MAX_LINGER_BYTES:
            self._stop_reading()

    def pause_writing(self) -> None:
        """Answer nothing more until the peer has taken what was sent."""
        self.is_unread = True
        if self.transport is not None:
            self.open.hold_unsent(self, self.transport.get_write_buffer_size())
        if self._lease is not None:
            self._lease.pause_writing()

    def resume_writing(self) -> None:
        """Go on with what has arrived meanwhile."""
        self.is_unread = False
        self.open.hold_unsent(self, 0)
        if self._lease is not None:
            self._lease.resume_writing()
        self._schedule()

    # --- its end -----------------------------------------------------------------------------------

    def time_out(self) -> None:
        """End the connection: its time is over."""
        if self._lingered > MAX_LINGER_BYTES:
            self.open.dropped["body"] += 1
        super().time_out()

    def eof_received(self) -> bool:
        """End the connection, after the answers to what has arrived."""
        is_plain = self.transport is not None and self.transport.can_write_eof()
        is_done = self._lease is None and (not self._held or self._body == _EVERYTHING)
        if not is_plain or is_done:
            return False
        self._has_eof = True
        self._schedule()
        return True

    def _finish(self) -> None:
        """End the connection after what was sent.

        The kernel resets a connection that is closed with bytes unread, and a reset may overtake the answer.
        So what still comes is read and dropped for a while.
        """
        assert self.transport is not None
        has_more = bool(self._held or self._body or self._is_paused)
        self._body = _EVERYTHING
        self._held = b""
        has_more = has_more and not self._has_eof
        if has_more and self.transport.can_write_eof() and not self.transport.is_closing():
            self.open.timeouts.start(self, timeouts.LINGER_SECONDS)
            try:
                self.transport.write_eof()
            except OSError:  # the peer has reset the connection
                self.transport.abort()
            self._read_on()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back that the connection had."""
        self._held = b""
        super().connection_lost(exc)
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.end(exc)
