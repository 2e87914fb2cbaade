"""The two clocks, as an argument: tests hand in their own, the program hands in SYSTEM_CLOCK."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Clock:
    """Both readings are seconds.

    `wall` is UTC since 1970 and judges credentials and IMDS tokens: their ends are dates.
    `monotonic` never jumps and judges how long something is remembered or waited for.
    """

    wall: Callable[[], float]
    monotonic: Callable[[], float]


SYSTEM_CLOCK = Clock(wall=time.time, monotonic=time.monotonic)
