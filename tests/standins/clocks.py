"""Clocks that stand still until a test sets them, for code that asks the time and starts no timer."""

from __future__ import annotations

from imds_proxy.clock import Clock


class HandClock:
    """Two readings, in seconds, that change by `advance` only."""

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 50_000.0) -> None:
        self.wall = wall
        self.monotonic = monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += seconds
        self.monotonic += seconds

    def clock(self) -> Clock:
        """Return both as the program takes them."""
        return Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)
