"""One record per decision, as JSON lines, written by a thread of its own: a slow disk stops no one.

The first hand-out of an access key to a caller waits for its record: `note_hand_out` returns a future that is
done once the record is written, and no key goes out before. While records can't be written `is_behind` says
so, and nothing new is handed out. Records of hand-outs are written before those of refusals and trouble,
which are bounded and counted (`audit_denials`).
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.audit_denials import Denials
from imds_proxy.audit_outputs import FILE_MODE, Destination, JournalCopies, open_output
from imds_proxy.audit_records import Line, shortened
from imds_proxy.errors import FederationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_proxy.audit_outputs import Output
    from imds_proxy.audit_records import Record
    from imds_proxy.clock import Clock

_MOST_WAITING_HAND_OUTS = 10_000
_MOST_WAITING_REFUSALS = 10_000

_DENIALS_AT_A_TIME = 100
"""So that a hand-out never waits for many of them."""

_SLOW_SECONDS = 0.85
"""After which a record that still waits shows that the disk does not move."""

_RETRY_SECONDS = 1.0
_STREAMS = ("-", "stderr")


@dataclass(frozen=True, slots=True)
class _Waiting:
    line: Line
    since: float
    """Monotonic seconds."""
    written: Future[None] | None = None


class Audit:
    """Takes records on the event loop without ever waiting and writes them behind it."""

    def __init__(self, to: str | Destination, *, clock: Clock, on_error: Callable[[str], None]) -> None:
        """`to` is a destination, or a file."""
        self._destination = _destination(to)
        self._clock = clock
        self._on_error = on_error
        # Apart, so that no flood of refusals delays a hand-out.
        self._hand_outs: deque[_Waiting] = deque()
        self._refusals: deque[_Waiting] = deque()
        self._denials = Denials(self._put_denial, clock=clock)
        self._wake = threading.Event()
        self._reopen = False
        self._is_failing = False
        self._is_ending = False
        self._closing = threading.Event()
        self.written = 0
        self.not_copied = 0
        """Records that are in the file and did not get into the journal."""
        self._thread = threading.Thread(target=self._write_until_closed, name="audit", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Tell whether records can't be written now, so that a new hand-out would wait in vain."""
        return self._is_failing or len(self._hand_outs) >= _MOST_WAITING_HAND_OUTS or self._is_stuck()

    @property
    def collapsed(self) -> int:
        """How many denials are remembered, so that equal ones are counted."""
        return len(self._denials)

    @property
    def dropped(self) -> int:
        """Records of refusals that found no room in the queue; a later record has their number."""
        return self._denials.dropped

    @property
    def waiting(self) -> int:
        """How many records wait to be written."""
        return len(self._hand_outs) + len(self._refusals)

    def note_hand_out(self, record: Record) -> Future[None]:
        """Write the record of credentials that go to a caller for the first time.

        They may go out when the future is done. It can't be cancelled: what is recorded stays recorded.
        """
        written: Future[None] = Future()
        written.set_running_or_notify_cancel()
        self._put(self._hand_outs, record, 1, written)
        return written

    def note_denial(self, record: Record) -> None:
        """Write a refusal or trouble; repeated and frequent ones are counted and written later."""
        self._denials.note(shortened(record))

    def flush_counts(self) -> None:
        """Write the counts of denials whose minute is over. Called now and then by the server."""
        self._denials.flush()

    def reopen(self, to: str | Destination | None = None) -> None:
        """Write there from now on; a file is opened anew (logrotate may have moved it)."""
        self._denials.flush_all()
        if to is not None:
            self._destination = _destination(to)
        self._reopen = True
        self._wake.set()

    def close(self, patience: float) -> None:
        """Write what is waiting, for at most `patience` seconds."""
        self._is_ending = True
        self._denials.flush_all()
        self._closing.set()
        self._wake.set()
        self._thread.join(patience)

    def _is_stuck(self) -> bool:
        try:
            oldest = self._hand_outs[0]
        except IndexError:
            return False
        return self._clock.monotonic() - oldest.since > _SLOW_SECONDS

    def _put_denial(self, record: Record, count: int) -> bool:
        if len(self._refusals) >= _MOST_WAITING_REFUSALS and not self._is_ending:
            return False
        self._put(self._refusals, record, count)
        return True

    def _put(
        self, queue: deque[_Waiting], record: Record, count: int, written: Future[None] | None = None
    ) -> None:
        line = Line(self._clock.wall(), shortened(record), count)
        queue.append(_Waiting(line, self._clock.monotonic(), written))
        self._wake.set()

    def _write_until_closed(self) -> None:
        output: Output | None = None
        copies: JournalCopies | None = None
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
                self._is_failing = False
            except (OSError, ValueError) as error:
                if not self._is_failing:
                    self._on_error(f"audit: {destination}: {error}; records wait, no new key is handed out")
                self._is_failing = True
                if output is not None and not output.survives:
                    _close(output)
                    output = None
                if self._closing.is_set():
                    return
                # The records are still there: try again, but not with every one that comes.
                self._closing.wait(_RETRY_SECONDS)
                self._wake.set()
            if self._closing.is_set() and not self.waiting:
                _close(output, copies)
                return

    def _copies(self, path: Path) -> JournalCopies:
        return JournalCopies(path, clock=self._clock, on_error=self._on_error)

    def _write_waiting(self, output: Output, copies: JournalCopies | None) -> None:
        while queue := self._hand_outs or self._refusals:
            most = output.batch if queue is self._hand_outs else min(output.batch, _DENIALS_AT_A_TIME)
            batch = [queue[index] for index in range(min(len(queue), most))]
            lines = [each.line for each in batch]
            output.write(lines)
            self.written += len(batch)
            for each in batch:
                if each.written is not None:
                    each.written.set_result(None)
                queue.popleft()
            # Last, and not among those that wait any more: the journal holds up no hand-out.
            if copies is not None:
                self.not_copied += copies.write(lines)


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
