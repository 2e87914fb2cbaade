"""Item `warm`: processor time of three kinds of warm work, against a bare aiohttp server."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import report
from bench.daemon import daemon, stand_ins
from bench.loops import Loop, known_loops
from bench.machine import Scale
from bench.processes import ServerProcess, python_module, running
from bench.rounds import Served, serve_fleet
from bench.steady_load import TOKEN_GOES_HERE, Slice, Step, Work, measure_slice
from bench.wire import LIST_PATH, get_request, token_request

if TYPE_CHECKING:
    from collections.abc import Mapping

_CALLERS = 32
_OURS = "imds-proxy"
_BARE = "bare aiohttp"
_FIXED = "fixed bytes (the load's ceiling)"


@dataclass(frozen=True, slots=True)
class _Plan:
    rounds: int
    seconds: float


_PLANS = {Scale.FULL: _Plan(rounds=7, seconds=1.5), Scale.QUICK: _Plan(rounds=3, seconds=0.5)}


@dataclass(frozen=True, slots=True)
class _Kind:
    """Kind of work, and the ratio that is wanted of it where both servers run on the same loop."""

    name: str
    wanted: Mapping[Loop, float]
    is_round: bool = False
    keeps_connection: bool = False

    def steps(self, port: int, served: Served) -> tuple[Step, ...]:
        """Return the requests of a unit of work, for a caller that was served once."""
        token = TOKEN_GOES_HERE if self.is_round else served.token
        role = Step(get_request(port, LIST_PATH + served.role, token), len(served.document))
        if not self.is_round:
            return (role,)
        return (
            Step(token_request(port), len(served.token)),
            Step(get_request(port, LIST_PATH, token), len(served.role)),
            role,
        )


_KINDS = (
    _Kind("ROLE on a kept connection", {"asyncio": 2.2, "uvloop": 2.5}, keeps_connection=True),
    _Kind("ROLE on a new connection", {"asyncio": 1.3, "uvloop": 1.6}),
    _Kind("TOKEN, LIST, ROLE on a new one", {"asyncio": 1.2, "uvloop": 1.6}, is_round=True),
)


@dataclass(slots=True)
class _Contender:
    """Server, the callers it has served, and what it did in each round of each kind of work."""

    name: str
    loop: Loop
    server: ServerProcess
    fleet: list[tuple[str, Served]]
    slices: dict[str, list[Slice]] = field(default_factory=lambda: {kind.name: [] for kind in _KINDS})

    async def measure(self, kind: _Kind, seconds: float) -> None:
        """Do one kind of work for a slice of time."""
        works = [
            Work(source, kind.steps(self.server.port, served), kind.keeps_connection)
            for source, served in self.fleet
        ]
        self.slices[kind.name].append(await measure_slice(self.server, works, seconds))

    def ratios_to(self, other: _Contender, kind: _Kind) -> tuple[float, float]:
        """Return (units per second, 1 / CPU per unit) as multiples of the other's.

        Medians of the ratios round by round: what slows the whole machine cancels out.
        """
        pairs = list(zip(self.slices[kind.name], other.slices[kind.name], strict=True))
        rate = median(ours.units_per_second / theirs.units_per_second for ours, theirs in pairs)
        cpu = median(theirs.server_cpu / ours.server_cpu for ours, theirs in pairs)
        return rate, cpu


async def run(scale: Scale) -> None:
    """Measure and print: every server in turn, round after round, all of them up the whole time."""
    plan = _PLANS[scale]
    report.write_heading(
        "warm: valid tokens, credentials at hand",
        f"{_CALLERS} callers with an address each, one request at a time; {plan.rounds} rounds of "
        f"{plan.seconds:g} s in turn, medians. A unit of work is a ROLE on a kept connection, a ROLE on a "
        "new connection, or a TOKEN, a LIST and a ROLE on one new connection; the caller closes the new "
        "ones. What is wanted is a ratio of units of work per second of the server's processor time.",
    )
    async with AsyncExitStack() as stack:
        contenders = await _start_contenders(stack)
        for _ in range(plan.rounds):
            for kind, contender in product(_KINDS, contenders):
                await contender.measure(kind, plan.seconds)
    _write_results(contenders)
    _write_ratios(contenders)


async def _start_contenders(stack: AsyncExitStack) -> list[_Contender]:
    behind = await stack.enter_async_context(stand_ins())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-bench-")))

    async def start_module(name: str, loop: Loop, module: str, *arguments: str) -> _Contender:
        command = python_module(module, *arguments)
        server = await stack.enter_async_context(running(name, command, log=folder / f"{module}-{loop}"))
        return _Contender(name, loop, server, await serve_fleet(server.port, _CALLERS))

    contenders = []
    for loop in known_loops():
        server = await stack.enter_async_context(daemon(behind, loop=loop))
        contenders.append(_Contender(_OURS, loop, server, await serve_fleet(server.port, _CALLERS)))
        contenders.append(await start_module(_BARE, loop, "bench.bare_server", "--loop", loop))
    contenders.append(await start_module(_FIXED, known_loops()[-1], "bench.canned_server"))
    return contenders


def _write_results(contenders: list[_Contender]) -> None:
    for kind in _KINDS:
        table = report.Table(
            (kind.name, "loop", "units/s", "least", "most", "CPU µs", "load busy", "failures")
        )
        for contender in contenders:
            slices = contender.slices[kind.name]
            rates = [each.units_per_second for each in slices]
            table.add(
                contender.name,
                contender.loop,
                *(f"{figure(rates):.0f}" for figure in (median, min, max)),
                f"{median(each.server_cpu for each in slices) * 1e6:.1f}",
                f"{median(each.load_busy for each in slices):.0%}",
                sum(each.failures for each in slices),
            )
        table.write()
        report.write()


def _write_ratios(contenders: list[_Contender]) -> None:
    ours = [each for each in contenders if each.name == _OURS]
    bare = [each for each in contenders if each.name == _BARE]
    table = report.Table(("imds-proxy / bare aiohttp", "loops", "units/s", "units per CPU second", "wanted"))
    for kind, mine, theirs in product(_KINDS, ours, bare):
        wanted = f"{kind.wanted[mine.loop]:g}" if mine.loop == theirs.loop else "-"
        ratios = (f"{ratio:.2f}" for ratio in mine.ratios_to(theirs, kind))
        table.add(kind.name, f"{mine.loop} / {theirs.loop}", *ratios, wanted)
    table.write()
