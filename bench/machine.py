"""The machine under the benchmark: which core serves, which makes the load, how many files may be open."""

from __future__ import annotations

import os
import platform
import resource
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path

from bench.loops import uvloop_version


class Scale(Enum):
    """How long a run takes: FULL for figures to quote, QUICK to see that everything still works."""

    FULL = "full"
    QUICK = "quick"


@cache
def _cores() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0)))


def server_core() -> int:
    """Return the core that measured servers run on: the first this process was given."""
    return _cores()[0]


def load_core() -> int:
    """Return the core of the load and the stand-ins: the second, or the only one there is."""
    return _cores()[min(1, len(_cores()) - 1)]


def take_load_core() -> None:
    """Pin this process to the load's core, so that it takes no time from the server's."""
    os.sched_setaffinity(0, {load_core()})


def take_all_cores() -> None:
    """Give this process all cores again that the benchmark was given."""
    os.sched_setaffinity(0, _cores())


def raise_file_limit() -> int:
    """Raise the number of files this process and its children may have open as far as allowed; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def describe_machine() -> str:
    """Return what a reader must know to compare figures: processor, cores, versions, kernel limits."""
    backlog = Path("/proc/sys/net/core/somaxconn").read_text().strip()
    packages = " ".join(f"{name} {version(name)}" for name in ("aiohttp", "boto3", "dnspython"))
    return (
        f"{_processor()}, {len(_cores())} cores (server on {server_core()}, load on {load_core()}), "
        f"Linux {platform.release()}\n"
        f"Python {platform.python_version()}, {packages}, uvloop {uvloop_version() or 'not installed'}; "
        f"open files {raise_file_limit()}, somaxconn {backlog}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
