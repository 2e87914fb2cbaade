"""Item `footprint`: how soon the daemon answers after its start, and what it holds, idle and with callers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench import report
from bench.callers import caller_address
from bench.client import connect
from bench.daemon import BY_IP, StandIns, daemon, stand_ins
from bench.loops import Loop, known_loops
from bench.machine import Scale
from bench.rounds import serve, serve_fleet
from bench.wire import token_request

if TYPE_CHECKING:
    from bench.processes import Memory

_STARTS = {Scale.FULL: 9, Scale.QUICK: 3}
_CALLERS = {Scale.FULL: 10_000, Scale.QUICK: 1_000}
_IDLE = 1.0  # seconds between the last caller's end and the look at the memory
_WANTED = {"token": 0.35, "idle": 64, "growth": 45}


@dataclass(frozen=True, slots=True)
class _Start:
    """One start of the daemon; all times are seconds from exec."""

    listening: float
    token: float
    served: float
    processor: float
    """Seconds of processor time until the caller was served."""
    memory: Memory
    threads: int


async def run(scale: Scale) -> None:
    """Start the daemon several times and print medians; then serve many callers and print what they cost."""
    count, callers = _STARTS[scale], _CALLERS[scale]
    report.write_heading(
        "footprint: from exec to the first answers, and idle memory",
        f"Medians of {count} starts after one that does not count. The first TOKEN is asked as soon as the "
        "daemon says that it listens, by a caller that gets a role; memory 1 s after it was served (boto3 is "
        f"loaded by then). Then {callers} callers get a session each. Wanted: first TOKEN after "
        f"{_WANTED['token']:g} s, {_WANTED['idle']} MiB RSS when idle, {_WANTED['growth']} MiB or less on "
        "top for 10,000 callers.",
    )
    table = report.Table(
        ("loop", "listening s", "first TOKEN s", "served s", "CPU s", "RSS MiB", "PSS MiB", "threads")
    )
    async with stand_ins() as behind:
        for loop in known_loops():
            starts = [await _start(behind, loop) for _ in range(count + 1)][1:]
            table.add(
                loop,
                *(f"{median(getattr(each, name) for each in starts):.3f}" for name in _TIMES),
                f"{median(each.memory.resident for each in starts):.1f}",
                f"{median(each.memory.proportional for each in starts):.1f}",
                max(each.threads for each in starts),
            )
        table.add("wanted", "", f"{_WANTED['token']:g}", "", "", f"{_WANTED['idle']}", "", "")
        table.write()
        report.write()
        await _fill(behind, callers)


_TIMES = ("listening", "token", "served", "processor")


async def _start(behind: StandIns, loop: Loop) -> _Start:
    async with daemon(behind, loop=loop, provider=BY_IP) as server:
        source = caller_address(0)
        connection = await connect(server.port, source)
        answer = await connection.ask(token_request(server.port))
        token = time.perf_counter() - server.started
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"the first TOKEN was answered with {answer.status}")
        await serve(server.port, source)
        served = time.perf_counter() - server.started
        processor = server.cpu_seconds()
        await asyncio.sleep(_IDLE)
        return _Start(
            server.listening_after, token, served, processor, server.memory(), server.thread_count()
        )


async def _fill(behind: StandIns, count: int) -> None:
    """Serve `count` callers with a session each and print by how much the idle daemon has grown."""
    loop = known_loops()[-1]
    table = report.Table(("callers with sessions", "loop", "idle RSS MiB", "then", "growth", "wanted"))
    async with daemon(behind, session="per-caller", loop=loop) as server:
        await serve(server.port, "127.0.0.1")
        await asyncio.sleep(_IDLE)
        idle = server.memory().resident
        await serve_fleet(server.port, count)
        await asyncio.sleep(_IDLE)
        filled = server.memory().resident
    wanted = f"{_WANTED['growth']}" if count == _CALLERS[Scale.FULL] else "-"
    table.add(count, loop, f"{idle:.1f}", f"{filled:.1f}", f"{filled - idle:.1f}", wanted)
    table.write()
