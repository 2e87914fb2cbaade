"""SIGHUP: a machine cut off, and a configuration that is no use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.lab.gateway import make_settings
from tests.system.lab.machine import ROLE_LIST
from tests.system.verdicts import TUVFOO, assert_granted, assert_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system


@pytest.fixture
def own_gateway(lab: Laboratory) -> Iterator[Gateway]:
    with lab.running_gateway(make_settings(lab.aws)) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("by", "name", "neighbour_name"),
    [
        ("address", "tuvfoo91.valid.example", "tuvfoo93.valid.example"),
        ("name", "tuvfoo92.valid.example", "tuvfoo94.valid.example"),
    ],
)
def test_a_denied_machine_is_cut_off(
    lab: Laboratory, own_gateway: Gateway, by: str, name: str, neighbour_name: str
) -> None:
    """After a reload a machine under `deny` gets a token and nothing else, its credentials at hand or not."""
    machine = lab.make_machine(own_gateway, name)
    neighbour = lab.make_machine(own_gateway, neighbour_name)
    token = machine.fetch_token()
    assert machine.list_role(token).body == TUVFOO
    own_gateway.configure(make_settings(lab.aws, deny=[machine.address if by == "address" else name]))
    own_gateway.reload("configuration reloaded")
    # The LIST of a moment ago counts for nothing now.
    assert machine.ask(ROLE_LIST + TUVFOO, token=token).status == 404
    assert_refused(lab, machine)
    explained = own_gateway.explain(machine.address)
    assert (explained.status, explained.outcome) == (1, "refused")
    assert neighbour.list_role().body == TUVFOO
    own_gateway.configure(make_settings(lab.aws))
    own_gateway.reload("configuration reloaded", 2)
    assert machine.list_role().body == TUVFOO


def test_a_broken_configuration_changes_nothing(lab: Laboratory, own_gateway: Gateway) -> None:
    """SIGHUP with a faulty file says how many faults it has and goes on as before."""
    machine = lab.make_machine(own_gateway, "tuvfoo95.valid.example")
    assert_granted(lab, machine, TUVFOO, "tuvfoo95.valid.example")
    held = machine.fetch_credentials(TUVFOO)
    own_gateway.break_configuration()
    own_gateway.reload("configuration kept: 1 fault")
    assert machine.fetch_credentials(TUVFOO) == held
    newcomer = lab.make_machine(own_gateway, "tuvfoo96.valid.example")
    assert_granted(lab, newcomer, TUVFOO, "tuvfoo96.valid.example")
