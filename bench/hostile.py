"""The hostile rows of item `neighbour`, a program of its own: its network namespace has IPv6 networks."""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bench import namespace, polite, report
from bench.addresses import INSIDE_IPV4, INSIDE_IPV6, IPV6_SERVER, OUTSIDE_IPV4, OUTSIDE_IPV6, addresses_of
from bench.daemon import DEFAULT_LIMITS, StandIns, daemon, stand_ins
from bench.loops import known_loops, run_on
from bench.machine import Scale, raise_file_limit, take_all_cores, take_load_core
from bench.noise import noise_command
from bench.polite import RATE, Felt, ask_politely
from bench.processes import beside, python_module
from bench.rounds import serve
from bench.supervisor import WATCHDOG_SECONDS, supervisor
from bench.wire import LIST_PATH, get_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from bench.attacks import Manner

_CONNECTIONS = 256
_ADDRESSES = 64
_NEW_EVERY = 5
_SETTLE = 1.0
"""Seconds of attack before the polite caller begins."""
_SECONDS = {Scale.FULL: 5.0, Scale.QUICK: 2.0}
_MARGIN = 10.0
"""Seconds until the attackers end by themselves when the row has not ended them."""
_TLS: Manner = "TLS handshakes"
_MANNERS: tuple[Manner, ...] = (
    "one-byte chunks",
    "endless heads",
    "blank lines",
    "endless pipelines",
    "half-open",
    "never reading",
    "connect and abort",
    _TLS,
)
_CALLERS = [str(INSIDE_IPV4), str(INSIDE_IPV6)]
_PROVIDER: Mapping[str, object] = {
    "type": "simple",
    "grants": [{"callers": _CALLERS, "account": "main", "role": "bench-r000"}],
}


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where an attack comes from."""

    place: str
    network: IPv4Network | IPv6Network
    address_count: int

    @property
    def host(self) -> str:
        """The server's address for these attackers."""
        return "127.0.0.1" if self.network.version == 4 else IPV6_SERVER

    @property
    def sources(self) -> list[str]:
        """The attackers' addresses."""
        return addresses_of(self.network, self.address_count)


_ORIGINS = (
    _Origin("inside", INSIDE_IPV4, 1),
    _Origin("outside", OUTSIDE_IPV4, 1),
    _Origin("inside", INSIDE_IPV6, _ADDRESSES),
    _Origin("outside", OUTSIDE_IPV6, _ADDRESSES),
)


async def run_apart(scale: Scale) -> None:
    """Run this program in a network namespace of its own, or without IPv6 where none can be made."""
    way = namespace.find_way()
    command = [*(way or []), *python_module("bench.hostile"), "--scale", scale.value]
    if way:
        command += ["--outer-namespace", namespace.own_namespace()]
    process = await asyncio.create_subprocess_exec(*command, preexec_fn=take_all_cores)
    try:
        if code := await process.wait():
            raise subprocess.CalledProcessError(code, command)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()


async def _run(scale: Scale, *, has_ipv6: bool) -> None:
    seconds = _SECONDS[scale]
    report.write_heading(
        "neighbour: a hostile host beside a polite caller",
        f"{_CONNECTIONS} connections, from one IPv4 address or from {_ADDRESSES} addresses of one IPv6 /64, "
        "inside or outside the listener's `callers`. The polite caller asks for its role at "
        f"{RATE:g} requests/s, each {_NEW_EVERY}th time on a new connection, {seconds:g} s for each row; its "
        "latency counts from when its request was due. Each row has a daemon of its own with its default "
        "limits. `load late` is the p99 of how late the polite caller's own process was, `silence` the "
        "longest time between two watchdog messages. Wanted: no request lost (failed 0), a p99 at most "
        "three times the quiet one and at most 50 ms, RSS below 300 MiB, no silence of "
        f"{WATCHDOG_SECONDS:g} s.",
    )
    table = report.Table(
        ("neighbour", "from", "addresses", *polite.COLUMNS, "load late ms", "RSS MiB", "silence s")
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-proxy-bench-")))
        row = _Row(await stack.enter_async_context(stand_ins()), folder, _make_certificate(folder), seconds)
        quiet = await row.measure(None, _ORIGINS[0])
        table.add("quiet", "-", "-", *row.cells(quiet, quiet))
        manners = [manner for manner in _MANNERS if row.has_tls or manner != _TLS]
        origins = [origin for origin in _ORIGINS if has_ipv6 or origin.network.version == 4]
        for manner, origin in product(manners, origins):
            felt = await row.measure(manner, origin)
            table.add(manner, origin.place, origin.address_count, *row.cells(felt, quiet))
    table.write()
    if not has_ipv6:
        report.write(
            "no rows with IPv6: neither `unshare --net` nor `unshare --map-root-user --net` works here"
        )
    if not row.has_tls:
        report.write("no rows with TLS: openssl is not installed")


@dataclass(slots=True)
class _Row:
    """Daemon, attackers and polite caller of one row after the other."""

    behind: StandIns
    folder: Path
    tls: Mapping[str, str] | None
    seconds: float
    resident: float = 0.0
    silence: float = 0.0

    @property
    def has_tls(self) -> bool:
        """Tell whether the daemon has a listener with TLS."""
        return self.tls is not None

    async def measure(self, manner: Manner | None, origin: _Origin) -> Felt:
        """Start a daemon, attack it and return what the polite caller has felt."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name, supervisor(Path(name)) as watching:
            async with daemon(
                self.behind,
                session="shared",
                loop=known_loops()[-1],
                provider=_PROVIDER,
                limits=DEFAULT_LIMITS,
                listen=self._listeners(),
                environment=watching.environment,
            ) as server:
                served = await serve(server.port, "127.0.0.1")
                request = get_request(server.port, LIST_PATH + served.role, served.token)
                began = time.monotonic()
                command = noise_command(
                    server.ports[manner == _TLS],
                    noisy=_CONNECTIONS,
                    manner=manner or "half-open",
                    host=origin.host,
                    sources=origin.sources,
                    seconds=_SETTLE + self.seconds + _MARGIN,
                )
                with beside(command, log=self.folder / "noise") if manner else nullcontext():
                    await asyncio.sleep(_SETTLE)
                    felt = await ask_politely(server, request, seconds=self.seconds, new_every=_NEW_EVERY)
                    self.silence = watching.longest_silence(began)
                    self.resident = server.peak_resident()
                # An orderly end would wait for what is left of the attack.
                server.process.kill()
                return felt

    def cells(self, felt: Felt, quiet: Felt) -> list[str]:
        """Return the figures of the row that was measured last."""
        late = report.milliseconds(report.percentile(felt.delays, 99))
        return [*felt.cells(quiet.p99), late, f"{self.resident:.0f}", f"{self.silence:.1f}"]

    def _listeners(self) -> Sequence[Mapping[str, object]]:
        plain = {"address": "[::]:0", "callers": _CALLERS}
        return (plain, plain | {"tls": dict(self.tls)}) if self.tls else (plain,)


def _make_certificate(folder: Path) -> Mapping[str, str] | None:
    """Return a listener's `tls` with an RSA certificate made by openssl, None without openssl."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(  # noqa: S603 - from PATH
            [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        return None
    return {"certificate": str(certificate), "key": str(key)}


def main() -> None:
    """Measure and print in this process's namespace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=Scale, choices=list(Scale), default=Scale.FULL)
    parser.add_argument(
        "--outer-namespace", help="the namespace around this one, in which IPv6 may be set up"
    )
    arguments = parser.parse_args()
    raise_file_limit()
    take_load_core()
    if arguments.outer_namespace:
        namespace.furnish(arguments.outer_namespace, _ADDRESSES)
    run_on(known_loops()[-1], _run(arguments.scale, has_ipv6=bool(arguments.outer_namespace)))


if __name__ == "__main__":
    main()
