"""A client's program while it runs: asked line by line, ended by the end of its input."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.standins.processes import bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ANSWER_TIME = 90
"""Seconds that an answer may take: long enough for a client that retries for a minute."""

_VERSION_TIME = 60


class ProbeEndedError(AssertionError):
    """The program ended where it should have answered; the text has its exit status and its stderr."""


class Probe:
    """A running program; `ok BODY` or `error TEXT` is its answer to each question."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self._process = process
        self._log_file = log_file
        self._pending = b""

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log_file.read_text("utf-8", errors="replace")

    def ask(self, seconds: float = ANSWER_TIME) -> str:
        """Let it fetch the object once and return its answer, a line.

        Raises ProbeEndedError when it ends instead, AssertionError when it takes longer than `seconds`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProbeEndedError(f"it ended with {self._process.wait(10)}\n{self.log}") from None
        return self._read_line(seconds)

    def finish(self, seconds: float = 30) -> int:
        """End its input and return its exit status; negative: the signal that ended it.

        Raises subprocess.TimeoutExpired when it is still there after `seconds`.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue  # a question that nobody read

    def _read_line(self, seconds: float) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"no answer within {seconds} s\n{self.log}")
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise ProbeEndedError(f"it ended with {self._process.wait(10)}\n{self.log}")
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("utf-8", errors="replace")


@contextmanager
def running_probe(
    command: Sequence[str], environment: Mapping[str, str], home: Path, log_file: Path
) -> Iterator[Probe]:
    """Run a client's program for the length of the block, in the network that the calling thread is in."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            list(command),
            cwd=home,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    probe = Probe(process, log_file)
    try:
        yield probe
    finally:
        probe.kill()


def read_version(command: Sequence[str], home: Path) -> str:
    """Return what the program says of its client's version. Raises AssertionError when it can't."""
    done = subprocess.run(
        [*command, "--version"],
        cwd=home,
        env=bare_environment({"HOME": str(home)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_VERSION_TIME,
        check=False,
    )
    assert done.returncode == 0, f"--version: status {done.returncode}\n{done.stderr}"
    assert done.stdout.strip(), f"--version says nothing\n{done.stderr}"
    return done.stdout.splitlines()[0].strip()
