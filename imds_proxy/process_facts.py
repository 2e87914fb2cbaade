"""What the kernel says of this process, under the names that all Prometheus clients give it.

prometheus_client's own collector needs /proc/stat, which a unit with ProcSubset=pid does not show it.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.metrics import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

_OWN = Path("/proc/self")


def process_gauges() -> list[Gauge]:
    """Return the gauges of this process."""
    started = _start_time()

    def one(name: str, text: str, read: Callable[[], float], *, is_counter: bool = False) -> Gauge:
        # Thousands of open files take milliseconds to count.
        return Gauge(f"process_{name}", text, (), lambda: {(): read()}, is_counter=is_counter, is_slow=True)

    return [
        one("start_time_seconds", "When the process started, seconds UTC since 1970.", lambda: started),
        one("cpu_seconds", "CPU time that the process has used.", time.process_time, is_counter=True),
        one("resident_memory_bytes", "Memory in use.", _resident_bytes),
        one("open_fds", "Open file descriptors.", _open_files),
        one("max_fds", "Most file descriptors that may be open.", _most_files),
        one("threads", "Threads of Python.", threading.active_count),
    ]


def _start_time() -> float:
    """Return when the process started, seconds UTC since 1970; proc_pid_stat(5) has it since boot."""
    ticks = int((_OWN / "stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _resident_bytes() -> float:
    pages = int((_OWN / "statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGESIZE"))


def _open_files() -> float:
    return float(len(os.listdir(_OWN / "fd")) - 1)  # noqa: PTH208  names are enough; one is the listing's own


def _most_files() -> float:
    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
