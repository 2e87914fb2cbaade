"""Child processes of the demo: started apart from the terminal, read line by line, always ended."""

from __future__ import annotations

import asyncio
import os
import site
import sys
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

_START_TIME = 30.0  # seconds for a child to say that it is up
_STOP_TIME = 7.0  # seconds; the daemon promises to be gone 5 after SIGTERM
_LONGEST_LINE = 1 << 20  # bytes
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class DemoError(Exception):
    """The demo can't go on; the text is one line for the visitor."""


def python_command(*arguments: str) -> list[str]:
    """Return the command that runs this interpreter with `arguments`.

    Modules come from where they are installed, never from the current folder, which may hold anything.
    """
    return [sys.executable, "-P", *arguments]


def bare_environment(home: Path) -> dict[str, str]:
    """Return an environment with an empty home and nothing else but what Python needs to find packages."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    if site.ENABLE_USER_SITE:
        variables["PYTHONUSERBASE"] = site.getuserbase()
    return {**variables, "HOME": str(home)}


def neutral_environment(home: Path) -> dict[str, str]:
    """Return our own environment without what the visitor's AWS and proxy settings would change."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "IMDS_PROXY_", "MOTO_")) and name.lower() not in _PROXIES
    }
    return {**kept, **bare_environment(home)}


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours that runs."""

    name: str
    process: Process
    complaints: deque[str]
    """The last lines of its stderr."""

    async def end(self) -> str:
        """Wait until the process has ended by itself; return a line that says so, and why."""
        status = await self.process.wait()
        why = self.complaints[-1] if self.complaints else "it said nothing"
        return f"{self.name} ended with status {status}: {why}"

    async def wait_for(self, promised: asyncio.Future[str]) -> str:
        """Return what `promised` is set to. Raises DemoError when the child ends first or takes too long."""
        ended = asyncio.ensure_future(self.end())
        try:
            await asyncio.wait({promised, ended}, timeout=_START_TIME, return_when=asyncio.FIRST_COMPLETED)
            if promised.done():
                return promised.result()
            if ended.done():
                raise DemoError(ended.result())
            raise DemoError(f"{self.name} did not come up within {_START_TIME:.0f} s")
        finally:
            ended.cancel()


def _ignore(_line: str) -> None:
    """Take a line that nobody wants."""


@asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    on_output: Callable[[str], None],
    on_error: Callable[[str], None] = _ignore,
) -> AsyncIterator[Child]:
    """Run a child, hand on what it writes line by line, and end it on the way out, by force if need be.

    It gets a session of its own: a Ctrl-C in the terminal reaches the demo alone, which then ends its
    children in the right order. Its standard input stays open until then.
    """
    complaints: deque[str] = deque(maxlen=20)

    def complain(line: str) -> None:
        complaints.append(line)
        on_error(line)

    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,
    )
    readers = asyncio.gather(_read(process.stdout, on_output), _read(process.stderr, complain))
    try:
        yield Child(name, process, complaints)
    finally:
        await _end(process)
        # Bounded: somebody else may have inherited the pipe's other end.
        with suppress(TimeoutError):
            await asyncio.wait_for(readers, 1.0)


async def _read(stream: StreamReader | None, take: Callable[[str], None]) -> None:
    assert stream is not None
    async for line in stream:
        take(line.decode("utf-8", "replace").rstrip("\n"))


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    try:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_TIME)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child that ran to its end did: exit status and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The last line of its stderr, which is what a traceback ends in, or its exit status."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


async def run(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Outcome:
    """Run a child to its end. Whoever awaits this bounds its time."""
    output: list[str] = []
    errors: list[str] = []
    async with running(name, command, environment, on_output=output.append, on_error=errors.append) as child:
        status = await child.process.wait()
    return Outcome(status, "\n".join(output), "\n".join(errors))
