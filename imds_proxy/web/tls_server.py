"""Connections with TLS: counted and timed from their first packet on, not from the end of the handshake.

`loop.create_server(ssl=...)` tells nobody of a connection until its handshake is over, so one caller could
hold any number of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from imds_proxy.sockets import ACCEPTS_PER_ROUND

if TYPE_CHECKING:
    import socket
    import ssl

    from imds_proxy.web.listener import Listener

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
            task = self._loop.create_task(self._shake_hands(sock))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, sock: socket.socket) -> None:
        """Let the listener answer on a connection once it is encrypted. It ends what takes too long."""
        try:
            ends = sock.getpeername(), sock.getsockname()
        except OSError:  # the caller has gone already
            sock.close()
            return
        task = asyncio.current_task()
        assert task is not None
        handler = self._listener.expect(*ends, hang_up=task.cancel)
        try:
            await self._loop.connect_accepted_socket(
                lambda: handler, sock, ssl=self.context, ssl_shutdown_timeout=SHUTDOWN_SECONDS
            )
        except OSError as error:
            _log.debug("no TLS with %s: %s", ends[0], error)
        finally:
            self._listener.forget_unless_made(handler)
