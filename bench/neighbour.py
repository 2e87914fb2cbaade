"""Item `neighbour`: what a polite caller feels of slow senders and of one noisy caller."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import bare_server, report
from bench.client import Connection, connect
from bench.daemon import daemon, stand_ins
from bench.loops import known_loops
from bench.machine import Scale
from bench.processes import ServerProcess, python_module, running
from bench.rounds import serve
from bench.wire import LIST_PATH, get_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.noise import Manner

_RATE = 100.0
"""Requests per second of the polite caller."""
_SETTLE = 3.0
"""Seconds until all neighbours are there."""
_PATIENCE = 5.0
_DEFAULT_LIMITS = {"connections": 256, "requests_per_second": 2000}


@dataclass(frozen=True, slots=True)
class _Plan:
    slow: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Noise:
    name: str
    slow: bool = False
    connections: int = 0
    manner: Manner = "one by one"


@dataclass(slots=True)
class _Contender:
    name: str
    server: ServerProcess
    request: bytes


_PLANS = {Scale.FULL: _Plan(2_000, 15.0), Scale.QUICK: _Plan(200, 2.0)}
_NOISES = (
    _Noise("quiet"),
    _Noise("slow senders", slow=True),
    _Noise("slow, noisy on 8 connections", slow=True, connections=8),
    _Noise("slow, noisy on 256", slow=True, connections=256),
    _Noise("slow, noisy on 256, pipelines", slow=True, connections=256, manner="pipelines"),
    _Noise("slow, noisy on 256, new each time", slow=True, connections=256, manner="new connections"),
)


async def run(scale: Scale) -> None:
    """Measure and print, one kind of noise after the other, on each server."""
    plan = _PLANS[scale]
    report.write_heading(
        f"neighbour: {plan.slow} slow senders and a noisy caller beside a polite one",
        f"The polite one asks for its role at {_RATE:g} requests/s over one connection, {plan.seconds:g} s "
        "for each row; its latency counts from when its request was due. A slow sender sends a byte of an "
        "endless head every 2 s; the noisy caller asks as fast as it is answered. "
        "The daemon has its default limits.",
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-bench-")))
        loop = known_loops()[-1]
        behind = await stack.enter_async_context(stand_ins())
        ours = await stack.enter_async_context(daemon(behind, loop=loop, limits=_DEFAULT_LIMITS))
        served = await serve(ours.port, "127.0.0.1")
        command = python_module("bench.bare_server", "--loop", loop)
        bare = await stack.enter_async_context(running("bare", command, log=folder / "bare"))
        contenders = (
            _Contender("imds-proxy", ours, get_request(ours.port, LIST_PATH + served.role, served.token)),
            _Contender("bare aiohttp", bare, get_request(bare.port, bare_server.PATH, b"T" * 56)),
        )
        table = report.Table(
            (
                "server",
                "neighbours",
                "requests",
                "failed",
                "p50 ms",
                "p99 ms",
                "most ms",
                "p99 / quiet",
                "server busy",
            )
        )
        for contender in contenders:
            await _measure_all(contender, plan, folder, table)
    table.write()


async def _measure_all(contender: _Contender, plan: _Plan, folder: Path, table: report.Table) -> None:
    quiet_p99 = float("nan")
    for noise in _NOISES:
        with _neighbours(contender.server.port, noise, plan, folder):
            await asyncio.sleep(_SETTLE)
            cpu = contender.server.cpu_seconds()
            took, failed = await _ask_politely(contender, plan.seconds)
            cpu = contender.server.cpu_seconds() - cpu
        p50, p99, most = (report.percentile(took, percent) for percent in (50, 99, 100))
        if noise.name == "quiet":
            quiet_p99 = p99
        table.add(
            contender.name,
            noise.name,
            len(took),
            failed,
            *(report.milliseconds(figure) for figure in (p50, p99, most)),
            f"{p99 / quiet_p99:.2f}",
            f"{cpu / plan.seconds:.0%}",
        )


@contextmanager
def _neighbours(port: int, noise: _Noise, plan: _Plan, folder: Path) -> Iterator[None]:
    if not noise.slow:
        yield
        return
    command = python_module("bench.noise", str(port), "--slow", str(plan.slow))
    command += ["--noisy", str(noise.connections), "--manner", noise.manner]
    with (folder / "noise").open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)  # noqa: S603 - our own
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the noise ended with {process.returncode}: {(folder / 'noise').read_text()}")
    finally:
        process.kill()
        process.wait()


async def _ask_politely(contender: _Contender, seconds: float) -> tuple[list[float], int]:
    """Return how long each answer took from when its request was due, and how many failed."""
    took: list[float] = []
    failed = 0
    connection: Connection | None = None
    due = time.monotonic()
    end = due + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = connection or await connect(contender.server.port)
                answer = await connection.ask(contender.request)
        except (OSError, TimeoutError):
            failed, connection = failed + 1, None
        else:
            failed += answer.status != 200
        took.append(time.monotonic() - due)
        due += 1 / _RATE
    if connection is not None:
        connection.close()
    return took, failed
