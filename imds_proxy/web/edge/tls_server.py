"""Connections with TLS: counted and timed from their first packet on, not from the end of the handshake.

`loop.create_server(ssl=...)` tells nobody of a connection until its handshake is over, so one caller could
hold any number of them.
"""

from __future__ import annotations

import asyncio
import logging
from traceback import clear_frames
from typing import TYPE_CHECKING

from imds_proxy.sockets import ACCEPTS_PER_ROUND

if TYPE_CHECKING:
    import socket
    import ssl

    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.listener import Listener

SHUTDOWN_SECONDS = 2.0
"""For which we wait for the other side's goodbye (close_notify) before a connection is cut."""

_PAUSE = 1.0
"""Seconds until we accept again when there was no file descriptor left."""

_log = logging.getLogger(__name__)


class TLSServer:
    """A listening socket whose connections speak TLS. Stands where an `asyncio.Server` would."""

    def __init__(self, listener: Listener, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Begin to accept. `sock` listens already and does not block."""
        self.context = context
        """What new connections get."""
        self._listener = listener
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._begin()

    def close(self) -> None:
        """Accept nothing more; connections go on."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _begin(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_ROUND):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(_PAUSE, self._begin)
                return
            sock.settimeout(0)
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        try:
            peer = sock.getpeername()
        except OSError:  # the caller has gone already
            sock.close()
            return
        connection = self._listener()
        handshake = _Handshake(sock, connection)
        delay = connection.expect(peer, handshake.cancel)
        if delay is None:
            handshake.end()
            return
        task = handshake.task = self._loop.create_task(self._shake_hands(handshake, delay))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)
        # A task that is cancelled in the turn in which it was made never begins.
        task.add_done_callback(lambda _: handshake.end())

    async def _shake_hands(self, handshake: _Handshake, delay: float) -> None:
        """Encrypt a connection, after a delay (seconds). The edge ends what takes too long."""
        try:
            await asyncio.sleep(delay)
            handshake.is_begun = True
            await self._loop.connect_accepted_socket(
                lambda: handshake.connection,
                handshake.sock,
                ssl=self.context,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as error:
            _log.debug("no TLS with %s: %s", handshake.connection.peer, error)
            clear_frames(error.__traceback__)
        except asyncio.CancelledError as error:
            # asyncio's frames refer to each other by the error, and to the connection.
            clear_frames(error.__traceback__)
            raise


class _Handshake:
    """A connection on its way to be encrypted."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.sock = sock
        self.connection = connection
        self.task: asyncio.Task[None] | None = None
        self.is_begun = False
        """Whether asyncio has the socket, and closes it."""

    def cancel(self) -> None:
        """Give it up."""
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """Give back what has come to nothing."""
        if not self.is_begun:
            self.sock.close()
        self.connection.forget_unless_made()
