"""The load of warm callers: each begins its next unit of work as soon as it has done the last one."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.processes import ServerProcess

TOKEN_GOES_HERE = b"%s"
"""Stands in a request for the body of the first answer on the same connection."""

_HEAD_END = b"\r\n\r\n"
_LEAD = 0.3  # seconds of load before a slice counts: connections, caches and branch predictors warm up
_AGAIN = 0.05  # seconds until a caller connects again after a failure
_BUFFER = 65_536
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; the kernel then takes ports again that are in TIME_WAIT


@dataclass(frozen=True, slots=True)
class Step:
    """Request whose answer is known to be 200 with a body of a known length."""

    request: bytes
    body_length: int


@dataclass(frozen=True, slots=True)
class Work:
    """Unit of work of a caller: its steps one after the other on one connection.

    The connection is kept for the next unit, or the caller closes it and opens a new one.
    """

    source: str
    steps: tuple[Step, ...]
    keeps_connection: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """What a server did in one slice of time."""

    units_per_second: float
    server_cpu: float
    """Seconds of the server's processor time for one unit of work."""
    load_busy: float
    """The share of the load's core that making the load took, 0 to 1."""
    failures: int


class _SteadyCaller:
    """Caller on a socket of its own: a transport for each connection would cost more than the connection."""

    def __init__(self, port: int, work: Work) -> None:
        self._port = port
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._step = 0
        self._token = b""
        self._buffer = b""
        self._retry: asyncio.TimerHandle | None = None
        self.units = 0
        self.failures = 0

    def connect(self) -> None:
        """Open a connection and send the first request."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket = sock
        self._step = 0
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((self._work.source, 0))
        sock.connect_ex(("127.0.0.1", self._port))
        self._loop.add_reader(sock.fileno(), self._read)
        # On loopback the connection is there when connect() returns, unless the server's queue is full.
        self._send()

    def close(self) -> None:
        """Close the connection and open no other."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send(self) -> None:
        assert self._socket is not None
        request = self._work.steps[self._step].request
        if self._step:
            request = request.replace(TOKEN_GOES_HERE, self._token, 1)
        try:
            self._socket.send(request)
        except OSError:
            self._fail()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            received = self._socket.recv(_BUFFER)
        except OSError:
            received = b""
        data = self._buffer + received
        if not received or not data.startswith(b"HTTP/1.1 200 "):
            self._fail()
            return
        start = data.find(_HEAD_END) + len(_HEAD_END)
        if start < len(_HEAD_END) or len(data) - start < self._work.steps[self._step].body_length:
            self._buffer = data
            return
        self._buffer = b""
        if not self._step:
            self._token = data[start:]
        self._go_on()

    def _go_on(self) -> None:
        self._step += 1
        if self._step == len(self._work.steps):
            self._step = 0
            self.units += 1
            if not self._work.keeps_connection:
                self.close()
                self.connect()
                return
        self._send()

    def _fail(self) -> None:
        self.failures += 1
        self._buffer = b""
        self.close()
        self._retry = self._loop.call_later(_AGAIN, self.connect)


async def measure_slice(server: ServerProcess, works: Sequence[Work], seconds: float) -> Slice:
    """Keep a server busy for `seconds` with one caller for each work and return what it did."""
    with _callers(server.port, works) as callers:
        await asyncio.sleep(_LEAD)
        units = sum(caller.units for caller in callers)
        cpu, own_cpu, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - began
        cpu, own_cpu = server.cpu_seconds() - cpu, time.process_time() - own_cpu
        units = sum(caller.units for caller in callers) - units
        failures = sum(caller.failures for caller in callers)
    return Slice(units / elapsed, cpu / max(units, 1), own_cpu / elapsed, failures)


@contextmanager
def _callers(port: int, works: Sequence[Work]) -> Iterator[list[_SteadyCaller]]:
    callers = [_SteadyCaller(port, work) for work in works]
    try:
        for caller in callers:
            caller.connect()
        yield callers
    finally:
        for caller in callers:
            caller.close()
