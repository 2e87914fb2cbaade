"""Which event loop runs what: asyncio's own, or uvloop where it is installed."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Coroutine

Loop = Literal["asyncio", "uvloop"]


@cache
def uvloop_version() -> str | None:
    """Return the version of uvloop, None where it is not installed."""
    try:
        return version("uvloop")
    except PackageNotFoundError:
        return None


def known_loops() -> list[Loop]:
    """Return the loops there are here, the slowest first."""
    return ["asyncio", "uvloop"] if uvloop_version() else ["asyncio"]


def run_on(loop: Loop, main: Coroutine[None, None, None]) -> None:
    """Run a coroutine to its end on a loop of its own."""
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)
