"""Item `warm`: requests per second and processor time of a warm ROLE, against a bare aiohttp server."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median

from bench import bare_server, report
from bench.callers import caller_address
from bench.client import connect
from bench.daemon import StandIns, daemon, stand_ins
from bench.loops import Loop, known_loops
from bench.machine import Scale
from bench.processes import ServerProcess, python_module, running
from bench.rounds import serve
from bench.steady_load import Slice, SteadyRequest, measure_slice
from bench.wire import LIST_PATH, get_request

_CALLERS = 32


@dataclass(frozen=True, slots=True)
class _Plan:
    rounds: int
    seconds: float


_PLANS = {Scale.FULL: _Plan(rounds=7, seconds=2.0), Scale.QUICK: _Plan(rounds=3, seconds=1.0)}


@dataclass(slots=True)
class _Contender:
    """A server, the requests it gets, and what it did in each round."""

    name: str
    loop: str
    server: ServerProcess
    requests: list[SteadyRequest]
    slices: list[Slice] = field(default_factory=list)

    def rate(self) -> float:
        return median(each.requests_per_second for each in self.slices)

    def ratios_to(self, other: _Contender) -> tuple[float, float]:
        """Return (requests per second, 1 / CPU per request) as multiples of the other's.

        Medians of the ratios round by round: what slows the whole machine cancels out.
        """
        pairs = list(zip(self.slices, other.slices, strict=True))
        rate = median(ours.requests_per_second / theirs.requests_per_second for ours, theirs in pairs)
        cpu = median(theirs.server_cpu / ours.server_cpu for ours, theirs in pairs)
        return rate, cpu


async def run(scale: Scale) -> None:
    """Measure and print: every server in turn, round after round, all of them up the whole time."""
    plan = _PLANS[scale]
    report.write_heading(
        "warm: a ROLE with a valid token, credentials at hand",
        f"{_CALLERS} callers with an address and a kept-alive connection each, one request at a time; "
        f"{plan.rounds} rounds of {plan.seconds:g} s in turn, medians.",
    )
    async with AsyncExitStack() as stack:
        contenders = await _start_contenders(stack)
        for _ in range(plan.rounds):
            for contender in contenders:
                contender.slices.append(
                    await measure_slice(contender.server, contender.requests, plan.seconds)
                )
    _write_results(contenders)


async def _start_contenders(stack: AsyncExitStack) -> list[_Contender]:
    behind = await stack.enter_async_context(stand_ins())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-bench-")))
    contenders = []
    for loop in known_loops():
        contenders += [await _start_daemon(stack, behind, loop), await _start_bare(stack, folder, loop)]
    contenders.append(await _start_canned(stack, folder))
    return contenders


async def _start_daemon(stack: AsyncExitStack, behind: StandIns, loop: Loop) -> _Contender:
    server = await stack.enter_async_context(daemon(behind, loop=loop))
    requests = []
    for index in range(_CALLERS):
        source = caller_address(index)
        served = await serve(server.port, source)
        request = get_request(server.port, LIST_PATH + served.role, served.token)
        requests.append(SteadyRequest(source, request, len(served.document)))
    return _Contender("imds-proxy", loop, server, requests)


async def _start_bare(stack: AsyncExitStack, folder: Path, loop: Loop) -> _Contender:
    command = python_module("bench.bare_server", "--loop", loop)
    server = await stack.enter_async_context(running("bare", command, log=folder / f"bare-{loop}"))
    return _Contender("bare aiohttp", loop, server, await _plain_requests(server))


async def _start_canned(stack: AsyncExitStack, folder: Path) -> _Contender:
    command = python_module("bench.canned_server")
    server = await stack.enter_async_context(running("canned", command, log=folder / "canned"))
    return _Contender(
        "fixed bytes (the load's ceiling)", known_loops()[-1], server, await _plain_requests(server)
    )


async def _plain_requests(server: ServerProcess) -> list[SteadyRequest]:
    """Return requests as long as the daemon's: a token in them that nobody looks at."""
    request = get_request(server.port, bare_server.PATH, b"T" * 56)
    connection = await connect(server.port)
    answer = await connection.ask(request)
    connection.close()
    return [SteadyRequest(caller_address(index), request, len(answer.body)) for index in range(_CALLERS)]


def _write_results(contenders: list[_Contender]) -> None:
    table = report.Table(
        ("server", "loop", "requests/s", "least", "most", "CPU µs/request", "load busy", "failures")
    )
    for contender in contenders:
        rates = [each.requests_per_second for each in contender.slices]
        table.add(
            contender.name,
            contender.loop,
            f"{contender.rate():.0f}",
            f"{min(rates):.0f}",
            f"{max(rates):.0f}",
            f"{median(each.server_cpu for each in contender.slices) * 1e6:.1f}",
            f"{median(each.load_busy for each in contender.slices):.0%}",
            sum(each.failures for each in contender.slices),
        )
    table.write()
    ours = [each for each in contenders if each.name == "imds-proxy"]
    bare = [each for each in contenders if each.name == "bare aiohttp"]
    report.write()
    ratios = report.Table(("imds-proxy / bare aiohttp", "requests/s", "requests per CPU second"))
    for mine, theirs in product(ours, bare):
        ratios.add(f"{mine.loop} / {theirs.loop}", *(f"{ratio:.2f}" for ratio in mine.ratios_to(theirs)))
    ratios.write()
