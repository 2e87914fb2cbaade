"""What a supervisor such as systemd is told: ready, reloading, stopping, how things are, that it is alive.

sd_notify(3): datagrams of `NAME=value` lines to the socket that `$NOTIFY_SOCKET` names. Without it nobody
is told anything. What can't be told changes nothing for callers, so it is logged once and that is all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

FEEDS_PER_PERIOD = 3
"""How often the watchdog is fed in the time after which it bites (sd_watchdog_enabled(3): twice at least)."""

_PATIENCE = 1.0
"""Seconds for which a message that must arrive may wait for room in the supervisor's line."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")

_log = logging.getLogger(__name__)


class Supervisor:
    """Who started us and wants to know how we are, if anybody does."""

    def __init__(self, address: str | None = None, watchdog_period: float | None = None) -> None:
        """`address` is a path, or `@` and an abstract name; `watchdog_period` is in seconds."""
        self._address = address
        self.watchdog_period = watchdog_period
        self._is_ready = False
        self._is_stopping = False
        self._status: str | None = None
        self._has_failed = False

    def ready(self, status: str) -> None:
        """Say that we serve: at the start, and after each reload whatever came of it."""
        if self._is_stopping:
            return
        self._is_ready = True
        self._status = status
        self._tell("READY=1", _line(status), patience=_PATIENCE)

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it. Nothing before the first `ready`: that is a start."""
        if self._is_ready and not self._is_stopping:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", patience=_PATIENCE)

    def stopping(self) -> None:
        """Say that the end has begun. Nothing but the watchdog's feed comes after it."""
        self._is_stopping = True
        self._tell("STOPPING=1", _line("stopping"))

    def tell_status(self, status: str) -> None:
        """Say how things are, in a line, if that has changed."""
        if status != self._status and not self._is_stopping:
            self._status = status
            self._tell(_line(status))

    async def feed_watchdog(self) -> None:
        """Say that we are alive, until cancelled. Returns at once when no watchdog waits for it.

        A task of the loop that accepts and answers: what holds that up for longer holds this up as well, and
        a thread would go on.
        """
        if self._address is None or self.watchdog_period is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_period / FEEDS_PER_PERIOD)

    def _tell(self, *lines: str, patience: float = 0) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(patience)
                sock.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.warning("cannot tell the supervisor at %s: %s", self._address, error.strerror or error)


def _line(status: str) -> str:
    """Return what tells a status: one line, for a second one would be a message of its own."""
    return f"STATUS={' '.join(status.split())}"


def take_supervisor(environ: MutableMapping[str, str]) -> Supervisor:
    """Return whom to tell, and take the variables out of `environ`: programs that we start are not us."""
    taken = {name: environ.pop(name) for name in _VARIABLES if name in environ}
    address = taken.get("NOTIFY_SOCKET") or None
    if address is not None and address[0] not in "/@":
        _log.warning("NOTIFY_SOCKET: neither a path nor an abstract name: nobody is told anything")
        address = None
    return Supervisor(address, _watchdog_period(taken))


def _watchdog_period(variables: Mapping[str, str]) -> float | None:
    """Return after how many seconds the watchdog bites; None: there is none, or it is another process's."""
    period = variables.get("WATCHDOG_USEC")
    if period is None or variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    # systemd counts in 64 bits: 20 digits.
    if not (period.isascii() and period.isdigit() and len(period) <= 20 and int(period) > 0):
        _log.warning("WATCHDOG_USEC: not a number of microseconds: the watchdog is not fed")
        return None
    return int(period) / 1_000_000
