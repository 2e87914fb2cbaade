"""One record per decision, as JSON lines, written by a thread of its own: a slow disk stops no one.

The first hand-out of an access key to a caller is always written; when the line of records that wait for the
disk is too long for that promise, `is_behind` says so and nothing new is handed out. Refusals and
trouble of the same caller are collapsed: the first at once, the rest as a count after a minute.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cachetools import LRUCache

from imds_proxy.errors import FederationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.clock import Clock

_MOST_WAITING_HAND_OUTS = 50_000
_MOST_WAITING_REFUSALS = 10_000
_MOST_COLLAPSED = 10_000
_COLLAPSE_SECONDS = 60.0
_BATCH = 1000
_RETRY_SECONDS = 1.0
_STREAMS = ("-", "stderr")
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a decision. `outcome` is granted, refused or trouble. No field is a secret."""

    caller: str
    outcome: str
    name: str | None = None
    reason: str | None = None
    account: str | None = None
    role: str | None = None
    session_name: str | None = None
    access_key_id: str | None = None
    expiration: str | None = None
    error: str | None = None
    sts_request_id: str | None = None
    stale: bool = False
    """The name stands in for an answer that DNS does not give at the moment."""


_FIELDS = tuple(field.name for field in fields(Record))


@dataclass(frozen=True, slots=True)
class _Line:
    time: float
    record: Record
    count: int


class _Collapsed:
    __slots__ = ("count", "last", "written_at")

    def __init__(self, last: Record, written_at: float) -> None:
        self.last = last
        self.written_at = written_at
        self.count = 0


class Audit:
    """Takes records on the event loop without ever waiting and writes them behind it."""

    def __init__(self, file: str, *, clock: Clock, on_error: Callable[[str], None]) -> None:
        self._file = file
        self._clock = clock
        self._on_error = on_error
        self._waiting: deque[_Line] = deque()
        self._collapsed: LRUCache[tuple[str | None, ...], _Collapsed] = LRUCache(_MOST_COLLAPSED)
        self._wake = threading.Event()
        self._reopen = False
        self._closing = threading.Event()
        self.written = 0
        self.dropped = 0
        """Records of refusals that were not written because the disk was too slow."""
        self._thread = threading.Thread(target=self._write_until_closed, name="audit", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Tell whether so many records wait that a new hand-out might go unrecorded."""
        return len(self._waiting) >= _MOST_WAITING_HAND_OUTS

    @property
    def collapsed(self) -> int:
        """How many denials are remembered, so that equal ones are counted."""
        return len(self._collapsed)

    @property
    def waiting(self) -> int:
        """How many records wait to be written."""
        return len(self._waiting)

    def note_hand_out(self, record: Record) -> None:
        """Write the record of credentials that go to a caller for the first time."""
        self._put(record, 1)

    def note_denial(self, record: Record) -> None:
        """Write a refusal or trouble; repeated ones of the same caller are counted and written later."""
        now = self._clock.monotonic()
        # Many people may come from one address, a proxy's, and ask for many roles.
        key = (record.caller, record.outcome, record.reason, record.name, record.account, record.role)
        known = self._collapsed.get(key)
        if known is None:
            self._collapsed[key] = _Collapsed(record, now)
            self._put_if_room(record, 1)
        else:
            known.last = record
            known.count += 1
            if now - known.written_at >= _COLLAPSE_SECONDS:
                self._flush_collapsed(known, now)

    def flush_counts(self) -> None:
        """Write the counts of repeated denials whose minute is over. Called now and then by the server."""
        now = self._clock.monotonic()
        for key, known in list(self._collapsed.items()):
            if now - known.written_at >= _COLLAPSE_SECONDS:
                if known.count:
                    self._flush_collapsed(known, now)
                else:
                    del self._collapsed[key]

    def reopen(self, file: str) -> None:
        """Write to `file` from now on, opened anew (logrotate may have moved it)."""
        self._file = file
        self._reopen = True
        self._wake.set()

    def close(self, patience: float) -> None:
        """Write what is waiting, for at most `patience` seconds."""
        for known in self._collapsed.values():
            if known.count:
                self._put_if_room(known.last, known.count)
        self._closing.set()
        self._wake.set()
        self._thread.join(patience)

    def _flush_collapsed(self, known: _Collapsed, now: float) -> None:
        self._put_if_room(known.last, known.count)
        known.count = 0
        known.written_at = now

    def _put_if_room(self, record: Record, count: int) -> None:
        if len(self._waiting) >= _MOST_WAITING_REFUSALS:
            self.dropped += 1
        else:
            self._put(record, count)

    def _put(self, record: Record, count: int) -> None:
        self._waiting.append(_Line(self._clock.wall(), record, count))
        self._wake.set()

    def _write_until_closed(self) -> None:
        stream: IO[str] | None = None
        failing = False
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                _close(stream)
                stream = None
            try:
                stream = stream or _open(self._file)
                self._write_waiting(stream)
                failing = False
            except (OSError, ValueError) as error:
                if not failing:
                    self._on_error(f"audit: {self._file}: {error}; records wait")
                failing = True
                _close(stream)
                stream = None
                if self._closing.is_set():
                    return
                # The records are still there: try again, but not with every one that comes.
                self._closing.wait(_RETRY_SECONDS)
                self._wake.set()
            if self._closing.is_set() and not self._waiting:
                _close(stream)
                return

    def _write_waiting(self, stream: IO[str]) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH))]
            stream.write("".join(_render(line) for line in batch))
            stream.flush()
            self.written += len(batch)
            for _ in batch:
                self._waiting.popleft()


def _render(line: _Line) -> str:
    time = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    known = {name: getattr(line.record, name) for name in _FIELDS}
    return json.dumps({"time": time, **known, "count": line.count}, ensure_ascii=True) + "\n"


def check_file(file: str) -> None:
    """Raise FederationError when `file` can't be written: a start fails sooner than a record."""
    if file in _STREAMS:
        return
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, _MODE))
    except OSError as error:
        if error.errno != errno.ENXIO:  # a FIFO whose reader comes later
            raise FederationError(f"cannot write audit.file {file}: {error.strerror}") from error


def _open(file: str) -> IO[str]:
    if file == "-":
        return sys.stdout
    if file == "stderr":
        return sys.stderr
    path = Path(file)
    path.touch(mode=_MODE, exist_ok=True)
    return path.open("a", encoding="utf-8")


def _close(stream: IO[str] | None) -> None:
    if stream is not None and stream not in (sys.stdout, sys.stderr):
        # What a full disk did not take is tried again by closing, and fails again.
        with suppress(OSError, ValueError):
            stream.close()
