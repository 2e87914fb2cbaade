"""process_facts: what the kernel says of this very process."""

from __future__ import annotations

import resource
import socket
import time

from imds_proxy.process_facts import process_gauges


def read() -> dict[str, float]:
    """Return the values by name."""
    return {gauge.name: gauge.read()[()] for gauge in process_gauges()}


def test_the_process() -> None:
    """Times are in the past, memory is some, files are within what may be open; all are read on a thread."""
    facts = read()
    assert time.time() - 24 * 3600 < facts["process_start_time_seconds"] <= time.time()
    assert 1 << 20 < facts["process_resident_memory_bytes"] < 1 << 36
    assert 0 < facts["process_open_fds"] <= facts["process_max_fds"]
    assert facts["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert facts["process_threads"] >= 1
    assert all(gauge.is_slow for gauge in process_gauges())


def test_files_and_time_are_counted() -> None:
    """An open socket is one more; work is more CPU time."""
    before = read()
    with socket.socket():
        assert read()["process_open_fds"] == before["process_open_fds"] + 1
    assert read()["process_open_fds"] == before["process_open_fds"]
    assert read()["process_cpu_seconds"] > before["process_cpu_seconds"]
