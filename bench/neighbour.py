"""Item `neighbour`: what a polite caller feels of slow senders, of a noisy caller and of hostile ones."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import bare_server, hostile, polite, report
from bench.daemon import DEFAULT_LIMITS, daemon, stand_ins
from bench.loops import known_loops
from bench.machine import Scale
from bench.noise import noise_command
from bench.polite import RATE, ask_politely
from bench.processes import ServerProcess, beside, python_module, running
from bench.rounds import serve
from bench.wire import LIST_PATH, get_request

if TYPE_CHECKING:
    from bench.attacks import Manner

_SETTLE = 3.0
"""Seconds until all neighbours are there."""


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


_PLANS = {Scale.FULL: _Plan(2_000, 5.0), Scale.QUICK: _Plan(200, 2.0)}
_NOISES = (
    _Noise("quiet"),
    _Noise("slow senders", slow=True),
    _Noise("slow, noisy on 8 connections", slow=True, connections=8),
    _Noise("slow, noisy on 256", slow=True, connections=256),
    _Noise("slow, noisy on 256, pipelines", slow=True, connections=256, manner="pipelines"),
    _Noise("slow, noisy on 256, new each time", slow=True, connections=256, manner="new connections"),
)


async def run(scale: Scale) -> None:
    """Measure and print, one kind of noise after the other, on each server; then the hostile neighbours."""
    plan = _PLANS[scale]
    report.write_heading(
        f"neighbour: {plan.slow} slow senders and a noisy caller beside a polite one",
        f"The polite one asks for its role at {RATE:g} requests/s over one connection, {plan.seconds:g} s "
        "for each row; its latency counts from when its request was due. A slow sender sends a byte of an "
        "endless head every 2 s; the noisy caller asks as fast as it is answered. "
        "The daemon has its default limits. Wanted: a p99 at most three times the quiet one.",
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-bench-")))
        loop = known_loops()[-1]
        behind = await stack.enter_async_context(stand_ins())
        ours = await stack.enter_async_context(daemon(behind, loop=loop, limits=DEFAULT_LIMITS))
        served = await serve(ours.port, "127.0.0.1")
        command = python_module("bench.bare_server", "--loop", loop)
        bare = await stack.enter_async_context(running("bare", command, log=folder / "bare"))
        contenders = (
            _Contender("imds-proxy", ours, get_request(ours.port, LIST_PATH + served.role, served.token)),
            _Contender("bare aiohttp", bare, get_request(bare.port, bare_server.PATH, b"T" * 56)),
        )
        table = report.Table(("server", "neighbours", *polite.COLUMNS))
        for contender in contenders:
            await _measure_all(contender, plan, folder, table)
    table.write()
    await hostile.run_apart(scale)


async def _measure_all(contender: _Contender, plan: _Plan, folder: Path, table: report.Table) -> None:
    quiet_p99 = float("nan")
    for noise in _NOISES:
        command = noise_command(
            contender.server.port, slow=plan.slow, noisy=noise.connections, manner=noise.manner
        )
        with beside(command, log=folder / "noise") if noise.slow else nullcontext():
            await asyncio.sleep(_SETTLE if noise.slow else 0.0)
            felt = await ask_politely(contender.server, contender.request, seconds=plan.seconds)
        if noise.name == "quiet":
            quiet_p99 = felt.p99
        table.add(contender.name, noise.name, *felt.cells(quiet_p99))
