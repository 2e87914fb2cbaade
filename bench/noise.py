"""Neighbours nobody wants: slow senders, and one caller who asks as fast as it can. A process of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal, cast, get_args

from bench.bare_server import PATH
from bench.callers import caller_address
from bench.loops import known_loops, run_on
from bench.machine import raise_file_limit, take_load_core
from bench.wire import get_request

if TYPE_CHECKING:
    from collections.abc import Iterator

Manner = Literal["one by one", "pipelines", "new connections"]

SLOW_PER_ADDRESS = 100
_FIRST_SLOW = 1_000_000
_NOISY = 900_000
_BYTE_PAUSE = 2.0
_PIPELINE = 50
_AGAIN = 0.05
_ANSWER = b"HTTP/1.1 "
_NICENESS = 10  # the polite caller's clock is in another process on the same core


class _NoisyCaller(asyncio.Protocol):
    """Sends again as soon as everything is answered; connects again as soon as it is cut off."""

    def __init__(self, request: bytes, manner: Manner, again: asyncio.Event) -> None:
        self._batch = _PIPELINE if manner == "pipelines" else 1
        self._hangs_up = manner == "new connections"
        self._request = request * self._batch
        self._again = again
        self._answers = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._answers += data.count(_ANSWER)
        if self._answers < self._batch:
            return
        self._answers = 0
        if self._hangs_up:
            self._transport.abort()
        else:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        self._again.set()


async def _stay_noisy(port: int, manner: Manner) -> None:
    request = get_request(port, PATH, b"T" * 56)
    loop = asyncio.get_running_loop()
    while True:
        again = asyncio.Event()
        try:
            await loop.create_connection(
                partial(_NoisyCaller, request, manner, again),
                "127.0.0.1",
                port,
                local_addr=(caller_address(_NOISY), 0),
            )
        except OSError:
            await asyncio.sleep(_AGAIN)
        else:
            await again.wait()


async def _send_slowly(port: int, number: int) -> None:
    source = caller_address(_FIRST_SLOW + number // SLOW_PER_ADDRESS)
    while True:
        await asyncio.sleep(number % 100 / 100)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            for byte in _endless_head(port):
                if writer.is_closing():
                    break
                writer.write(byte)
                await writer.drain()
                await asyncio.sleep(_BYTE_PAUSE)
        except OSError:
            continue


def _endless_head(port: int) -> Iterator[bytes]:
    yield f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Slow: ".encode()
    for _ in count():
        yield b"s"


async def _make_noise(port: int, slow: int, connections: int, manner: Manner) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(slow):
            group.create_task(_send_slowly(port, number))
        for _ in range(connections):
            group.create_task(_stay_noisy(port, manner))


def main() -> None:
    """Make noise until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--slow", type=int, default=0, help="slow senders")
    parser.add_argument("--noisy", type=int, default=0, help="connections of the noisy caller")
    parser.add_argument("--manner", choices=get_args(Manner), default="one by one", help="how it asks")
    arguments = parser.parse_args()
    raise_file_limit()
    take_load_core()
    os.nice(_NICENESS)
    run_on(known_loops()[-1], _make_noise(arguments.port, arguments.slow, arguments.noisy, arguments.manner))


if __name__ == "__main__":
    main()
