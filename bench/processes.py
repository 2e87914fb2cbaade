"""Servers under measurement: processes of their own on a core of their own, watched through /proc."""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import server_core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 8.0
_LISTENING = re.compile(r"^listening \S+:(\d+)$", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process holds, in MiB: all resident pages, and its share of those others map too."""

    resident: float
    proportional: float


@dataclass(slots=True)
class ServerProcess:
    """A server that has said where it listens."""

    name: str
    ports: tuple[int, ...]
    """One for each listener, in the order of the configuration."""
    listening_after: float
    """Seconds from the start of the process to its `listening` line."""
    started: float
    """When the process was started, on `time.perf_counter`."""
    process: subprocess.Popen[bytes] = field(repr=False)
    log: Path

    @property
    def port(self) -> int:
        """The port of the first listener."""
        return self.ports[0]

    def cpu_seconds(self) -> float:
        """Return the user and system time it has used so far, all threads together."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()  # a program's name may have blanks; proc(5) counts from 3
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> Memory:
        """Return what it holds at this moment."""
        kib = {}
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, _, value = line.partition(":")
            kib[key] = int(value.split()[0])
        return Memory(kib["Rss"] / 1024, kib["Pss"] / 1024)

    def peak_resident(self) -> float:
        """Return the largest resident size it ever had, in MiB; NaN when it has ended."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "VmHWM":
                return int(value.split()[0]) / 1024
        return math.nan

    def thread_count(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that it wrote to its standard error."""
        return "\n".join(_read(self.log).splitlines()[-lines:])


@asynccontextmanager
async def running(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    listeners: int = 1,
) -> AsyncIterator[ServerProcess]:
    """Run a server on the server's core until the block ends.

    `argv` must print `listening ADDRESS:PORT` on standard error for each of its listeners. Raises
    RuntimeError with the end of its log when it ends first or doesn't say so within 20 s.
    """
    started = time.perf_counter()
    process = _spawn(argv, log, environment or {})
    try:
        ports = await _listening_ports(process, log, started, listeners)
        yield ServerProcess(name, ports, time.perf_counter() - started, started, process, log)
    finally:
        await _stop(process)


@contextmanager
def beside(argv: Sequence[str], *, log: Path) -> Iterator[None]:
    """Run a program on this process's core until the block ends.

    Raises RuntimeError with its log when it has ended before.
    """
    with log.open("wb") as sink:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)  # noqa: S603 - our own
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{argv!r} ended with {process.returncode}:\n{_read(log)}")
    finally:
        process.kill()
        process.wait()


def python_module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


def _spawn(argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    core = server_core()
    with log.open("wb") as sink:
        return subprocess.Popen(  # noqa: S603 - a command of this package's own making
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **environment},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )


async def _listening_ports(
    process: subprocess.Popen[bytes], log: Path, started: float, count: int
) -> tuple[int, ...]:
    said = ""
    while time.perf_counter() - started < _START_TIMEOUT:
        said = _read(log)
        if len(found := _LISTENING.findall(said)) >= count:
            return tuple(int(port) for port in found)
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{said}")
        await asyncio.sleep(0.001)
    raise RuntimeError(f"{process.args!r} does not listen after {_START_TIMEOUT:.0f} s:\n{said}")


async def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, _STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(log: Path) -> str:
    return log.read_text(errors="replace")
