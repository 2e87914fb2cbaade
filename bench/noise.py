"""Neighbours nobody wants: slow senders, and one noisy or hostile caller. A process of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
from itertools import count
from typing import TYPE_CHECKING, get_args

from bench.attacks import Manner, Target, attack
from bench.bare_server import PATH
from bench.callers import caller_address
from bench.loops import known_loops, run_on
from bench.machine import raise_file_limit, take_load_core
from bench.processes import python_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLOW_PER_ADDRESS = 100
_FIRST_SLOW = 1_000_000
_NOISY = 900_000
_BYTE_PAUSE = 2.0
_NICENESS = 10  # the polite caller's clock is in another process on the same core
_MANNERS: list[Manner] = [manner for kind in get_args(Manner) for manner in get_args(kind)]


def noise_command(
    port: int,
    *,
    slow: int = 0,
    noisy: int = 0,
    manner: Manner = "one by one",
    host: str = "127.0.0.1",
    sources: Sequence[str] = (),
    seconds: float = 120.0,
) -> list[str]:
    """Return the command that makes noise for `seconds`, or until it is killed."""
    command = python_module("bench.noise", host, str(port), "--slow", str(slow), "--noisy", str(noisy))
    command += ["--manner", manner, "--seconds", f"{seconds:g}"]
    return command + [word for source in sources for word in ("--from", source)]


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


async def _make_noise(arguments: argparse.Namespace) -> None:
    target = Target(arguments.host, arguments.port)
    sources = arguments.sources or [caller_address(_NOISY)]
    tasks = [asyncio.create_task(_send_slowly(target.port, number)) for number in range(arguments.slow)]
    tasks += [
        asyncio.create_task(attack(target, arguments.manner, sources[number % len(sources)]))
        for number in range(arguments.noisy)
    ]
    done, running = await asyncio.wait(tasks, timeout=arguments.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in running:
        task.cancel()
    for task in done:
        task.result()


def main() -> None:
    """Make noise for as long as asked, or until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--slow", type=int, default=0, help="slow senders")
    parser.add_argument("--noisy", type=int, default=0, help="connections of the noisy caller")
    parser.add_argument("--manner", choices=_MANNERS, default="one by one", help="how it asks")
    parser.add_argument(
        "--from", dest="sources", action="append", help="its address; may come more than once"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="when it ends by itself")
    arguments = parser.parse_args()
    raise_file_limit()
    take_load_core()
    os.nice(_NICENESS)
    run_on(known_loops()[-1], _make_noise(arguments))


if __name__ == "__main__":
    main()
