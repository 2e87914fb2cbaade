"""Where audit records go: a file or a stream, the journal, or the one and a copy of it in the other."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from imds_proxy.audit_records import journal_entry, json_line
from imds_proxy.journal import JOURNAL_SOCKET, Journal, is_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from imds_proxy.audit_records import Line
    from imds_proxy.clock import Clock

COPY_PATIENCE = 0.25
"""Seconds that the journal has for the copies of one batch."""

COPY_PAUSE = 1.0
"""Seconds for which a journal that takes nothing is left alone."""

ONLY_PATIENCE = 1.0
"""Seconds that the journal has for a record that goes nowhere else, until it counts as failing."""

BATCH = 1000
FILE_MODE = 0o640

_STREAMS = {"-": 1, "stderr": 2}
_LINE_END = b"\n"


@dataclass(frozen=True, slots=True)
class Destination:
    """What the settings say of where records go."""

    file: str | None
    """A path, `-` or `stderr`; None: the journal alone."""
    journal: Path | None = None
    """The journal's socket, when it gets the records, too."""

    def __str__(self) -> str:
        return self.file or f"the journal, {self.journal}"


def destination_of(file: str, *, journal: bool, environ: Mapping[str, str]) -> Destination:
    """Return where records go. A stream that is the journal itself would have each record twice: then it
    gets no lines.
    """
    if not journal:
        return Destination(file)
    is_only = file in _STREAMS and is_journal(_STREAMS[file], environ)
    return Destination(None if is_only else file, JOURNAL_SOCKET)


class Output(Protocol):
    """What keeps records."""

    batch: int
    """How many it takes at a time."""

    survives: bool
    """Whether it is used on after a failure; else it is opened anew."""

    def write(self, lines: Sequence[Line]) -> None:
        """Keep the records, all of them or, with OSError or ValueError, none."""

    def close(self) -> None:
        """Let go of it. Raises nothing."""


def open_output(destination: Destination) -> Output:
    """Return what keeps the records. Raises OSError when it can't be opened."""
    if destination.file in _STREAMS:
        return _Stream(sys.stdout if destination.file == "-" else sys.stderr)
    if destination.file is not None:
        return _File(destination.file)
    assert destination.journal is not None
    return _Journal(destination.journal)


class JournalCopies:
    """Copies of what is in a file already. They wait for nobody, and what can't be copied is counted."""

    def __init__(self, path: Path, *, clock: Clock, on_error: Callable[[str], None]) -> None:
        self._journal = Journal(path)
        self._path = path
        self._clock = clock
        self._on_error = on_error
        self._quiet_until = float("-inf")
        self._is_failing = False

    def write(self, lines: Sequence[Line]) -> int:
        """Copy the records and return how many of them were not copied."""
        now = self._clock.monotonic()
        if now < self._quiet_until:
            return len(lines)
        deadline = now + COPY_PATIENCE
        for number, line in enumerate(lines):
            try:
                self._journal.send(journal_entry(line), max(deadline - self._clock.monotonic(), 0.0))
            except OSError as error:
                self._quiet_until = self._clock.monotonic() + COPY_PAUSE
                if not self._is_failing:
                    self._on_error(f"audit: the journal: {self._path}: {error.strerror}; not copied to it")
                self._is_failing = True
                return len(lines) - number
        self._is_failing = False
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        self._journal.close()


class _Lines:
    """A file descriptor that takes whole lines, and knows whether it has a broken one at its end."""

    def __init__(self, descriptor: int, *, is_torn: bool = False) -> None:
        self.descriptor = descriptor
        self._is_torn = is_torn

    def write(self, lines: Sequence[Line]) -> None:
        text = "".join(map(json_line, lines)).encode("ascii")
        rest = _LINE_END + text if self._is_torn else text
        while rest:
            try:
                count = os.write(self.descriptor, rest)
            except BlockingIOError:  # a pipe that its other users have set so
                select.select([], [self.descriptor], [])
                continue
            self._is_torn = rest[count - 1 : count] != _LINE_END
            rest = rest[count:]


class _File:
    """File that lines are appended to. What a failure has left of a line is taken back."""

    batch = BATCH
    survives = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines = _Lines(_open(path), is_torn=_ends_within_a_line(path))

    def write(self, lines: Sequence[Line]) -> None:
        status = os.fstat(self._lines.descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            # Somebody has removed it: nobody could read what goes there.
            os.close(self._lines.descriptor)
            self._lines = _Lines(_open(self._path))
            status = os.fstat(self._lines.descriptor)
        try:
            self._lines.write(lines)
        except OSError:
            if stat.S_ISREG(status.st_mode):
                with suppress(OSError):
                    os.ftruncate(self._lines.descriptor, status.st_size)
            raise

    def close(self) -> None:
        os.close(self._lines.descriptor)


class _Stream:
    """stdout or stderr."""

    batch = BATCH
    survives = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: _Lines | None = None
        with suppress(io.UnsupportedOperation):  # a stream in memory
            # Past the stream, which after a failure does not know what it has written.
            self._lines = _Lines(stream.fileno())

    def write(self, lines: Sequence[Line]) -> None:
        if self._lines is not None:
            self._lines.write(lines)
        else:
            self._stream.write("".join(map(json_line, lines)))

    def close(self) -> None:
        pass


class _Journal:
    batch = 1
    survives = False

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._journal.send(journal_entry(line), ONLY_PATIENCE)

    def close(self) -> None:
        self._journal.close()


def _open(path: str) -> int:
    """Return the descriptor of a file that is appended to. Made where it is missing."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, FILE_MODE)


def _ends_within_a_line(path: str) -> bool:
    """Tell whether a file's last line lacks its end, as a process or a machine that was killed leaves it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return False
        return os.pread(descriptor, 1, status.st_size - 1) != _LINE_END
    finally:
        os.close(descriptor)
