"""One record per decision, as JSON lines, written by a thread of its own: a slow disk stops no one.

The first hand-out of an access key to a caller is always written; when the line of records that wait for the
disk is too long for that promise, `is_behind` says so and nothing new is handed out. Refusals and
trouble of the same caller are collapsed: the first at once, the rest as a count after a minute.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from imds_proxy.audit_outputs import FILE_MODE, Destination, JournalCopies, open_output
from imds_proxy.audit_records import Line
from imds_proxy.errors import FederationError
from imds_proxy.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_proxy.audit_outputs import Output
    from imds_proxy.audit_records import Record
    from imds_proxy.clock import Clock

_MOST_WAITING_HAND_OUTS = 50_000
_MOST_WAITING_REFUSALS = 10_000
_MOST_COLLAPSED = 10_000
_COLLAPSE_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_STREAMS = ("-", "stderr")


class _Collapsed:
    __slots__ = ("count", "last", "written_at")

    def __init__(self, last: Record, written_at: float) -> None:
        self.last = last
        self.written_at = written_at
        self.count = 0


class Audit:
    """Takes records on the event loop without ever waiting and writes them behind it."""

    def __init__(self, to: str | Destination, *, clock: Clock, on_error: Callable[[str], None]) -> None:
        """`to` is a destination, or a file."""
        self._destination = _destination(to)
        self._clock = clock
        self._on_error = on_error
        self._waiting: deque[Line] = deque()
        self._collapsed: Recent[tuple[str | None, ...], _Collapsed] = Recent(_MOST_COLLAPSED)
        self._wake = threading.Event()
        self._reopen = False
        self._closing = threading.Event()
        self.written = 0
        self.dropped = 0
        """Records of refusals that were not written because the disk was too slow."""
        self.not_copied = 0
        """Records that are in the file and did not get into the journal."""
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

    def reopen(self, to: str | Destination) -> None:
        """Write there from now on; a file is opened anew (logrotate may have moved it)."""
        self._destination = _destination(to)
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
        self._waiting.append(Line(self._clock.wall(), record, count))
        self._wake.set()

    def _write_until_closed(self) -> None:
        output: Output | None = None
        copies: JournalCopies | None = None
        failing = False
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                _close(output, copies)
                output = copies = None
            destination = self._destination
            try:
                output = output or open_output(destination)
                if destination.file is not None and destination.journal is not None:
                    copies = copies or self._copies(destination.journal)
                self._write_waiting(output, copies)
                failing = False
            except (OSError, ValueError) as error:
                if not failing:
                    self._on_error(f"audit: {destination}: {error}; records wait")
                failing = True
                _close(output)
                output = None
                if self._closing.is_set():
                    return
                # The records are still there: try again, but not with every one that comes.
                self._closing.wait(_RETRY_SECONDS)
                self._wake.set()
            if self._closing.is_set() and not self._waiting:
                _close(output, copies)
                return

    def _copies(self, path: Path) -> JournalCopies:
        return JournalCopies(path, clock=self._clock, on_error=self._on_error)

    def _write_waiting(self, output: Output, copies: JournalCopies | None) -> None:
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), output.batch))]
            output.write(batch)
            self.written += len(batch)
            for _ in batch:
                self._waiting.popleft()
            # Last, and not among those that wait any more: the journal holds up no hand-out.
            if copies is not None:
                self.not_copied += copies.write(batch)


def _destination(to: str | Destination) -> Destination:
    return Destination(to) if isinstance(to, str) else to


def _close(*outputs: Output | JournalCopies | None) -> None:
    for output in outputs:
        if output is not None:
            output.close()


def check_file(file: str) -> None:
    """Raise FederationError when `file` can't be written: a start fails sooner than a record."""
    if file in _STREAMS:
        return
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, FILE_MODE))
    except OSError as error:
        if error.errno != errno.ENXIO:  # a FIFO whose reader comes later
            raise FederationError(f"cannot write audit.file {file}: {error.strerror}") from error
