"""Name servers that fail, and names that change: what a machine gets meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.system.lab import bind
from tests.system.lab.gateway import RECHECK, make_dns, make_settings
from tests.system.lab.machine import ROLE_LIST
from tests.system.verdicts import PROBAR, TUVFOO, assert_granted, assert_refused, assert_unavailable

if TYPE_CHECKING:
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system


def test_a_failing_zone_is_no_answer(lab: Laboratory, gateway: Gateway) -> None:
    """SERVFAIL with nothing known of the machine: its role is a 503, which says nothing about it."""
    machine = lab.make_machine(gateway, "tuvfoo81.valid.example", address=bind.BREAKABLE_ADDRESSES[0])
    lab.names.break_reverse_zone(machine.address)
    assert_unavailable(lab, machine)
    explained = gateway.explain(machine.address)
    assert (explained.status, explained.outcome) == (3, "trouble")


def test_a_known_machine_goes_on_when_its_zone_fails(lab: Laboratory, gateway: Gateway) -> None:
    """SERVFAIL after the name was confirmed: the machine keeps its role, without another AssumeRole."""
    machine = lab.make_machine(gateway, "tuvfoo82.valid.example", address=bind.BREAKABLE_ADDRESSES[1])
    before = machine.fetch_credentials(TUVFOO)
    lab.names.break_reverse_zone(machine.address)
    time.sleep(RECHECK + 0.2)
    assert machine.fetch_credentials(TUVFOO) == before
    # And not because nobody asked again.
    assert lab.names.look_up_ptr(machine.address) == []
    assert gateway.explain(machine.address).outcome == "granted"


def test_a_zone_that_never_answers_is_no_answer(lab: Laboratory, gateway: Gateway) -> None:
    """A name server that waits for another one in vain holds up neither the token nor the 503."""
    machine = lab.make_machine(gateway, address=bind.SLOW_ADDRESS)
    assert_unavailable(lab, machine)


@pytest.mark.parametrize(
    ("dead", "name"),
    [
        pytest.param(bind.SILENT_SERVER, "tuvfoo83.valid.example", id="silent"),
        pytest.param(bind.CLOSED_SERVER, "tuvfoo84.valid.example", id="closed"),
    ],
)
def test_the_next_name_server_answers_for_a_dead_one(lab: Laboratory, dead: str, name: str) -> None:
    """With the first name server dead the second is asked in time for the first request."""
    with lab.running_gateway(make_settings(lab.aws, dns=make_dns(dead, bind.SERVER))) as gateway:
        machine = lab.make_machine(gateway, name)
        assert_granted(lab, machine, TUVFOO, name)


@pytest.mark.parametrize("dead", [bind.SILENT_SERVER, bind.CLOSED_SERVER], ids=["silent", "closed"])
def test_without_any_name_server_there_is_no_answer(lab: Laboratory, dead: str) -> None:
    """With the only name server dead a token is given as ever, the role is a 503."""
    with lab.running_gateway(make_settings(lab.aws, dns=make_dns(dead))) as gateway:
        machine = lab.make_machine(gateway)
        assert_unavailable(lab, machine)
        explained = gateway.explain(machine.address)
        assert (explained.status, explained.outcome) == (3, "trouble")


def test_a_changed_name_changes_the_role(lab: Laboratory, gateway: Gateway) -> None:
    """The TOKEN after `recheck` sees a new record, long before the old one's TTL is over."""
    machine = lab.make_machine(gateway, "tuvfoo85.valid.example")
    assert_granted(lab, machine, TUVFOO, "tuvfoo85.valid.example")
    lab.names.withdraw(machine.address, "tuvfoo85.valid.example")
    lab.names.register(machine.address, "berbar85.valid.example")
    time.sleep(RECHECK + 0.2)
    assert_granted(lab, machine, PROBAR, "berbar85.valid.example")


def test_a_vanished_name_ends_the_role(lab: Laboratory, gateway: Gateway) -> None:
    """A negative answer is an answer: the TOKEN after `recheck` ends the role, credentials held or not."""
    machine = lab.make_machine(gateway, "tuvfoo86.valid.example")
    assert_granted(lab, machine, TUVFOO, "tuvfoo86.valid.example")
    lab.names.withdraw(machine.address, "tuvfoo86.valid.example")
    time.sleep(RECHECK + 0.2)
    assert_refused(lab, machine)


def test_an_address_that_changes_hands_takes_no_role_along(lab: Laboratory, gateway: Gateway) -> None:
    """The next machine at an address gets its own role at its first TOKEN, and not its predecessor's."""
    old = lab.make_machine(gateway, "tuvfoo87.valid.example")
    old_token = old.fetch_token()
    old_document = old.fetch_credentials(TUVFOO)
    lab.names.withdraw(old.address, "tuvfoo87.valid.example")
    new = lab.make_machine(gateway, "berbar87.valid.example", address=old.address)
    time.sleep(RECHECK + 0.2)
    token = new.fetch_token()
    assert new.list_role(token).body == PROBAR
    assert new.ask(ROLE_LIST + TUVFOO, token=token).status == 404
    # The address is all that a token is bound to: the predecessor's opens no more than its own.
    assert new.ask(ROLE_LIST + TUVFOO, token=old_token).status == 404
    assert new.fetch_credentials(PROBAR)["AccessKeyId"] != old_document["AccessKeyId"]
