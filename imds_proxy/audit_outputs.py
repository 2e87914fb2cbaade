"""Where audit records go: a file or a stream, the journal, or the one and a copy of it in the other."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

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

    def write(self, lines: Sequence[Line]) -> None:
        """Keep the records, all of them or, with OSError or ValueError, none."""

    def close(self) -> None:
        """Let go of it. Raises nothing."""


def open_output(destination: Destination) -> Output:
    """Return what keeps the records. Raises OSError when it can't be opened."""
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


class _File:
    batch = BATCH

    def __init__(self, name: str) -> None:
        self._stream = _open(name)

    def write(self, lines: Sequence[Line]) -> None:
        self._stream.write("".join(map(json_line, lines)))
        self._stream.flush()

    def close(self) -> None:
        if self._stream not in (sys.stdout, sys.stderr):
            # What a full disk did not take is tried again by closing, and fails again.
            with suppress(OSError, ValueError):
                self._stream.close()


class _Journal:
    batch = 1

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._journal.send(journal_entry(line), ONLY_PATIENCE)

    def close(self) -> None:
        self._journal.close()


def _open(name: str) -> IO[str]:
    if name == "-":
        return sys.stdout
    if name == "stderr":
        return sys.stderr
    path = Path(name)
    path.touch(mode=FILE_MODE, exist_ok=True)
    return path.open("a", encoding="utf-8")
