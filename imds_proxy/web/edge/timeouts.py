"""When connections end by themselves: one timer for all, instead of one for each.

Connections that have equally long stand in a queue in the order of their ends, so the next one to end is
always at the front of one of a few queues.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.web.edge.connection import Connection

FIRST_REQUEST_SECONDS = 10.0
"""How long a new connection may stay without a whole request, its TLS handshake included."""

TURNED_AWAY_SECONDS = 2.0
"""How long a connection of a stranger, or beyond its caller's limit, may stay to hear 403 or 503."""

KEEP_ALIVE_SECONDS = 75.0
"""How long an idle connection is kept."""

LINGER_SECONDS = 2.0
"""How long bytes that nobody wants are read and dropped, so that the answer is not lost by a reset."""

MAX_DELAY_SECONDS = 2.0
"""How long a new connection beyond its caller's rate may wait; one that would wait for longer is closed."""

MAX_HANDSHAKE_DELAY_SECONDS = 0.5
"""How long the TLS handshake of a connection may wait that is to hear 403 or 503."""

SWEEP_SECONDS = 0.1
"""The least time between two looks at the queues."""


class Timeouts:
    """The ends of all connections."""

    def __init__(self) -> None:
        self._queues: dict[float, dict[Connection, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, connection: Connection, seconds: float) -> None:
        """End a connection after so many seconds, instead of what was said before."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = {}
        if connection.queue is not None:
            del connection.queue[connection]
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        end = queue[connection] = loop.time() + seconds
        connection.queue = queue
        if self._timer is None or self._timer.when() > end:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(end, self._sweep)

    def stop(self, connection: Connection) -> None:
        """Let a connection stay until something else is said."""
        if connection.queue is not None:
            del connection.queue[connection]
            connection.queue = None

    def first(self, seconds: float) -> tuple[Connection, float] | None:
        """Return who ends first of those that have so many seconds, and for how long it has waited."""
        for connection, end in self._queues.get(seconds, {}).items():
            return connection, asyncio.get_running_loop().time() - end + seconds
        return None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for queue in self._queues.values():
            over = []
            for connection, end in queue.items():
                if end > now:
                    break
                over.append(connection)
            for connection in over:
                self.stop(connection)
                connection.time_out()
        ends = [next(iter(queue.values())) for queue in self._queues.values() if queue]
        self._timer = None
        if ends:
            self._timer = loop.call_at(max(min(ends), now + SWEEP_SECONDS), self._sweep)
