"""The supervisor's end of sd_notify(3): when did the daemon feed its watchdog?"""

from __future__ import annotations

import asyncio
import socket
import time
from bisect import bisect_right
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WATCHDOG_SECONDS = 5.0
"""How long the daemon may be silent."""
_FEED = b"WATCHDOG=1"
_DATAGRAM = 4096


class Supervisor:
    """Socket that the daemon reports to, and when its watchdog messages arrived."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._arrivals: list[float] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that tell the daemon of this supervisor."""
        return {
            "NOTIFY_SOCKET": self._socket.getsockname(),
            "WATCHDOG_USEC": f"{WATCHDOG_SECONDS * 1_000_000:.0f}",
        }

    def read(self) -> None:
        """Note the messages that have arrived."""
        while True:
            try:
                message = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            if _FEED in message.splitlines():
                self._arrivals.append(time.monotonic())

    def longest_silence(self, since: float) -> float:
        """Return the longest time without a watchdog message since `since`, until now.

        It begins with the last message before `since`.
        """
        self.read()
        start = max(0, bisect_right(self._arrivals, since) - 1)
        edges = [*(self._arrivals[start:] or [since]), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(edges))


@contextmanager
def supervisor(folder: Path) -> Iterator[Supervisor]:
    """Listen on a socket in `folder` until the block ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        sock.bind(str(folder / "notify"))
        listening = Supervisor(sock)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock.fileno(), listening.read)
        try:
            yield listening
        finally:
            loop.remove_reader(sock.fileno())
