"""Child processes of the tests: output kept in files, awaited line by line, ended by their own pid."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
_POLL = 0.02


def bare_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return PATH and a neutral locale, plus `extra`: no AWS setting of the developer's gets through."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **(extra or {})}


class Child:
    """A running program. Its stdout and stderr go to `NAME.stdout` and `NAME.stderr` in a folder."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        """`descriptors` are left open for it, under their numbers."""
        self.name = name
        self.stdout_file = folder / f"{name}.stdout"
        self.stderr_file = folder / f"{name}.stderr"
        with self.stdout_file.open("wb") as stdout, self.stderr_file.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=descriptors,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program has not ended yet."""
        return self._process.poll() is None

    @property
    def stdout(self) -> str:
        """What it wrote to stdout so far."""
        return self.stdout_file.read_text("utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr so far."""
        return self.stderr_file.read_text("utf-8", errors="replace")

    def await_lines(
        self, pattern: str, count: int = 1, *, on: str = "stderr", timeout: float = 30
    ) -> list[str]:
        """Return the first group of each line that matches in full, once there are `count` of them.

        Raises AssertionError with the output when the program ends or `timeout` seconds pass before.
        """
        line = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while True:
            has_ended = not self.is_running
            text = self.stdout if on == "stdout" else self.stderr
            whole_lines = text[: text.rfind("\n") + 1].splitlines()
            found = [match.group(1) for match in map(line.fullmatch, whole_lines) if match]
            if len(found) >= count:
                return found
            if has_ended or time.monotonic() > deadline:
                state = f"ended with {self._process.returncode}" if has_ended else "is running"
                raise AssertionError(
                    f"{self.name} {state}; {len(found)} of {count} lines {pattern!r} on {on}\n"
                    f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
                )
            time.sleep(_POLL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        """Return its exit status once it has ended by itself; negative: the signal that ended it.

        Raises subprocess.TimeoutExpired when it is still there after `timeout` seconds.
        """
        return self._process.wait(timeout)

    def stop(self, timeout: float = 20) -> int:
        """Ask it to end (SIGTERM) and return its exit status; negative: the signal that ended it.

        Raises subprocess.TimeoutExpired when it is still there after `timeout` seconds.
        """
        self._process.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """End it at once and wait for it; for tear-down, whatever state it is in."""
        self._process.kill()
        self._process.wait(10)
