"""What the event loop complains about, in a line instead of a traceback, and not thousands of times."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from imds_proxy.clock import Clock

_PAUSE = 10.0
"""Seconds for which the same complaint is not repeated: without file descriptors there are thousands."""

_MOST_REMEMBERED = 100

_log = logging.getLogger(__name__)


class LoopTroubles:
    """An exception handler for an event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what nobody caught: where it came from and its type, never its text, which may hold a key."""
        error = context.get("exception")
        if isinstance(error, ConnectionError):
            return  # a caller that hung up is no news
        line = f"{context.get('message', 'event loop')} ({type(error).__name__})"
        now = self._clock.monotonic()
        if now - self._told_at.get(line, -_PAUSE) < _PAUSE:
            return
        if len(self._told_at) >= _MOST_REMEMBERED:
            self._told_at.clear()
        self._told_at[line] = now
        _log.error("%s%s", line, _origin(error))


def _origin(error: object) -> str:
    """Return where an exception was raised; an OSError says enough by itself."""
    if not isinstance(error, BaseException) or isinstance(error, OSError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    return f", raised in {frames[-1].name} ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
