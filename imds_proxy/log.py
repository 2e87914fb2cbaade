"""The log: lines on stderr, handed to a thread, so that a terminal that does not scroll stops no one."""

from __future__ import annotations

import logging
import queue
import sys
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING

from imds_proxy.text import visible_lines

if TYPE_CHECKING:
    from logging import LogRecord

_LONGEST_LINE = 10_000
_LAST_SECONDS = 0.5

_TALKATIVE = ("botocore", "boto3", "urllib3", "s3transfer")
"""At DEBUG these write whole AssumeRole answers, keys included, and signed URLs."""


PLAIN = {"is_plain": True}
"""`extra=PLAIN` for a message that says for itself what it is."""


class _Formatter(logging.Formatter):
    """The message alone; what is not mere information says so first.

    Names come from anywhere, so what can't be seen in a line is spelled out, tracebacks included.
    """

    def format(self, record: LogRecord) -> str:
        """Return the lines of a record."""
        return visible_lines(super().format(record))

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802  logging's name
        """Return the line without a traceback."""
        if record.levelno == logging.INFO or getattr(record, "is_plain", False):
            return record.getMessage()
        return f"{record.levelname.lower()}: {record.getMessage()}"


class _LossyQueueHandler(QueueHandler):
    """Drops what no longer fits: a log that can't be written must not stop what it tells about."""

    def enqueue(self, record: LogRecord) -> None:
        """Put the record into the line if there is room."""
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _HastyListener(QueueListener):
    """Ends soon, whatever is still waiting: who is to end can't wait for a terminal."""

    def stop(self) -> None:
        """Write what is waiting, for half a second at most."""
        with suppress(queue.Full):
            self.enqueue_sentinel()
        if self._thread is not None:
            self._thread.join(_LAST_SECONDS)


def start_log(level: str) -> QueueListener:
    """Send all logs to stderr; `stop()` of what is returned writes what is waiting, for half a second."""
    waiting: queue.Queue[LogRecord] = queue.Queue(_LONGEST_LINE)
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Formatter())
    listener = _HastyListener(waiting, output)
    root = logging.getLogger()
    root.handlers[:] = [_LossyQueueHandler(waiting)]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    listener.start()
    return listener
