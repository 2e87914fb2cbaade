"""The load of warm callers: each asks again as soon as it has its answer, over one kept-alive connection."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.processes import ServerProcess

_HEAD_END = b"\r\n\r\n"
_LEAD = 0.3  # seconds of load before a slice counts: connections, caches and branch predictors warm up


@dataclass(frozen=True, slots=True)
class SteadyRequest:
    """A request whose answers are known to be 200 with a body of a known length."""

    source: str
    request: bytes
    body_length: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What a server did in one slice of time."""

    requests_per_second: float
    server_cpu: float
    """Seconds of the server's processor time for one request."""
    load_busy: float
    """The share of the load's core that making the load took, 0 to 1."""
    failures: int


class _SteadyCaller(asyncio.Protocol):
    def __init__(self, steady: SteadyRequest) -> None:
        self._request = steady.request
        self._body_length = steady.body_length
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.answers = 0
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head_length = data.find(_HEAD_END)
        if head_length < 0 or len(data) - head_length - len(_HEAD_END) < self._body_length:
            self._buffer = data
            self.failures += not data.startswith(b"HTTP/1.1 200 ")
            return
        self._buffer = b""
        self.answers += 1
        self.failures += not data.startswith(b"HTTP/1.1 200 ")
        assert self._transport is not None
        self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def measure_slice(server: ServerProcess, requests: Sequence[SteadyRequest], seconds: float) -> Slice:
    """Keep a server busy for `seconds` with one connection per request and return what it did."""
    async with _callers(server.port, requests) as callers:
        await asyncio.sleep(_LEAD)
        answers = sum(caller.answers for caller in callers)
        cpu, own_cpu, began = server.cpu_seconds(), time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - began
        cpu, own_cpu = server.cpu_seconds() - cpu, time.process_time() - own_cpu
        answers = sum(caller.answers for caller in callers) - answers
        failures = sum(caller.failures for caller in callers)
    return Slice(answers / elapsed, cpu / max(answers, 1), own_cpu / elapsed, failures)


@asynccontextmanager
async def _callers(port: int, requests: Sequence[SteadyRequest]) -> AsyncIterator[list[_SteadyCaller]]:
    loop = asyncio.get_running_loop()
    callers: list[_SteadyCaller] = []
    try:
        for steady in requests:
            _, caller = await loop.create_connection(
                partial(_SteadyCaller, steady), "127.0.0.1", port, local_addr=(steady.source, 0)
            )
            callers.append(caller)
        yield callers
    finally:
        for caller in callers:
            caller.close()
