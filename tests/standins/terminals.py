"""A terminal with a program at it that reads what is typed there and nowhere else."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PATIENCE = 30.0


class Terminal:
    """What a person at a terminal sees and does."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._process = process
        self.screen = ""
        """All that was shown so far."""

    def type(self, text: str) -> None:
        """Type something; a line ends with a newline."""
        os.write(self._descriptor, text.encode())

    def await_text(self, text: str) -> None:
        """Return once the screen has shown `text`. Raises AssertionError at its end or after 30 s."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.screen:
            assert time.monotonic() < deadline, f"not shown: {text!r}\n{self.screen}"
            assert self._read(), f"ended without showing {text!r}\n{self.screen}"

    def wait(self) -> int:
        """Return the exit status once the program has ended, with all of its output on the screen."""
        deadline = time.monotonic() + _PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"does not end\n{self.screen}"
        return self._process.wait(_PATIENCE)

    def _read(self) -> bool:
        """Take in what there is within a moment; False: there will be nothing more."""
        if not select.select([self._descriptor], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux: nobody has the other end open any more
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@contextmanager
def at_terminal(
    command: Sequence[str | Path], environment: Mapping[str, str], *, stdout: int | None = None
) -> Iterator[Terminal]:
    """Run a program at a terminal of its own for the length of the block; `stdout` may lead elsewhere."""
    master, slave = pty.openpty()

    def make_it_ours() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=REPOSITORY,
        env=dict(environment),
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        start_new_session=True,
        preexec_fn=make_it_ours,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait(_PATIENCE)
        os.close(master)
