"""Waiting for a state, with an end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def wait_until(is_reached: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return when `is_reached` says so. Raises AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(is_reached):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)
