"""Restarts under load: what waits in the sockets that systemd holds is answered by the next daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.lab.loaded import load_on
from tests.system.lab.unit_gateway import SERVICE, UnitGateway, unit_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine

pytestmark = pytest.mark.system

RATE = 200
RESTARTS = 10
PAUSE = 1.0
"""Seconds of quiet service between two restarts."""


@pytest.fixture(scope="module")
def gateway(lab: Laboratory) -> Iterator[UnitGateway]:
    with unit_gateway(lab) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def machine(lab: Laboratory, gateway: UnitGateway) -> Machine:
    return lab.make_machine(gateway, lab.new_name())


def test_ten_restarts_lose_no_request(
    gateway: UnitGateway, machine: Machine, tmp_path: Path, record_testsuite_property: Any
) -> None:
    """Every request is answered within 10 s: no connection is refused or reset, nothing is lost."""
    with load_on(machine, RATE, tmp_path) as load:
        pids = [gateway.pid]
        for _ in range(RESTARTS):
            time.sleep(PAUSE)
            gateway.control("restart")
            pids.append(gateway.pid)
        time.sleep(PAUSE)
    assert len(set(pids)) == RESTARTS + 1
    record_testsuite_property("restarts", load.outcome)
    print("restarts:", load.outcome)  # noqa: T201  `pytest -s` shows what performance.md quotes
    assert load.outcome["lost"] == {}, load.outcome
    assert load.outcome["answered"] > RATE * PAUSE * RESTARTS / 2


def test_a_killed_daemon_is_replaced_under_load(
    gateway: UnitGateway, machine: Machine, tmp_path: Path
) -> None:
    """After SIGKILL under load it serves again by itself; no more is lost than it had in hand."""
    with load_on(machine, RATE, tmp_path) as load:
        before = gateway.pid
        time.sleep(PAUSE)
        gateway.host.run("kill", "-KILL", str(before))
        gateway.host.wait_for(lambda: gateway.pid not in (0, before), "another daemon")
        gateway.host.wait_for(lambda: gateway.state == "active", "it is ready")
        time.sleep(PAUSE)
    print("killed:", load.outcome)  # noqa: T201
    # The kernel resets the connections that the daemon had open: no more than there can be at once.
    assert sum(load.outcome["lost"].values()) <= RATE, load.outcome
    assert load.outcome["answered"] > RATE * PAUSE
    assert int(gateway.host.show(SERVICE, "NRestarts")["NRestarts"]) == 1
