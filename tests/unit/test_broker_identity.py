"""broker: names that are looked at again, that change or vanish, and what a LIST has promised a ROLE."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from imds_proxy.broker import NAMED_MEMORY
from tests.standins.core import ADDRESS, NAME, ROLE, Core, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

FIRST_KEY, SECOND_KEY = "ASIA00000001", "ASIA00000002"
OTHER_NAME = "tuvbar42.valid.example"
OTHER_ROLE = "roleprefix-tuvbar"
SISTER_NAME = "tuvfoo43.valid.example"
"""Another machine of the same role."""


@in_virtual_time
async def test_token_looks_again(tmp_path: Path) -> None:
    """A TOKEN looks an identity up again once it is older than `recheck`, whatever its TTL; not before."""
    with running_core(tmp_path, recheck=5) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=3600)
        await core.round()
        await asyncio.sleep(4.9)
        await core.round()
        assert len(core.dns.questions) == 2
        await asyncio.sleep(0.2)
        await core.round()
        assert len(core.dns.questions) == 4


@in_virtual_time
async def test_list_and_role_don_t_look_again(tmp_path: Path) -> None:
    """LIST and ROLE take an identity until its TTL is over."""
    with running_core(tmp_path, recheck=5) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=50)
        for _ in range(49):
            assert (await core.role_list(), await core.role()) == (ROLE, FIRST_KEY)
            await asyncio.sleep(1)
        assert len(core.dns.questions) == 2
        await asyncio.sleep(2)
        assert await core.role_list() == ROLE
        assert len(core.dns.questions) == 4


@in_virtual_time
async def test_an_address_that_changes_hands(tmp_path: Path) -> None:
    """Between two TOKENs the address goes to another machine: that one's role, and the old one is 404."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=3600)
        await core.round()
        core.dns.add_host(ADDRESS, OTHER_NAME)
        await asyncio.sleep(6)
        await core.token()
        assert await core.role() == 404
        assert (await core.role_list(), await core.role(OTHER_ROLE)) == (OTHER_ROLE, SECOND_KEY)
        assert await core.role() == 404


@in_virtual_time
async def test_a_machine_of_the_same_role_takes_over(tmp_path: Path) -> None:
    """The new machine has the same role and not the old one's credentials, though LIST named the role."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.add_host(ADDRESS, SISTER_NAME)
        await asyncio.sleep(6)
        await core.token()
        assert await core.role() == SECOND_KEY
        assert [session.session_name for session in core.sts.calls] == [NAME, SISTER_NAME]


@pytest.mark.parametrize("change", ["no PTR", "no way back", "another domain", "nine PTRs"])
@in_virtual_time
async def test_a_name_that_vanishes(tmp_path: Path, change: str) -> None:
    """A vanished name ends the verdict at once, after a LIST and with credentials held, too."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (ROLE, FIRST_KEY)
        if change == "no PTR":
            core.dns.set_pointers(ADDRESS)
        elif change == "no way back":
            core.dns.set_addresses(NAME, "10.0.0.6")
        elif change == "another domain":
            core.dns.add_host(ADDRESS, "tuvfoo42.other.example")
        else:
            core.dns.set_pointers(ADDRESS, *(f"tuvfoo{n}2.valid.example" for n in range(9)))
        await asyncio.sleep(5.1)
        await core.token()
        assert (await core.role(), await core.role_list(), await core.role()) == (404, 404, 404)
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_a_look_up_that_takes_longer_than_the_hold(tmp_path: Path) -> None:
    """The old identity serves meanwhile; once the answer is there it counts."""
    with running_core(tmp_path, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.add_host(ADDRESS, OTHER_NAME)
        await asyncio.sleep(6)
        core.dns.silence()
        assert await core.round() == (ROLE, FIRST_KEY)
        core.dns.heal()
        await asyncio.sleep(0.01)
        assert await core.round(role=OTHER_ROLE) == (OTHER_ROLE, SECOND_KEY)


@in_virtual_time
async def test_an_expired_identity_serves_while_it_is_looked_up(tmp_path: Path) -> None:
    """When the TTL is over and the name servers are slow, an earlier grant serves, not a 503."""
    with running_core(tmp_path, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=10)
        await core.round()
        core.dns.silence()
        await asyncio.sleep(100)
        assert await core.round() == (ROLE, FIRST_KEY)


@in_virtual_time
async def test_a_refusal_serves_nobody_while_it_is_looked_at_again(tmp_path: Path) -> None:
    """After a refusal there is nothing that could serve: a slow look-up is 503."""
    with running_core(tmp_path, deadline=60) as core:
        assert await core.round() == (404, 404)
        await asyncio.sleep(6)
        core.dns.silence()
        assert await core.round() == (503, 503)


# --- DNS fails ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_dns_is_dead_for_ten_minutes(tmp_path: Path) -> None:
    """Machines that are known go on, marked as stale in audit and metrics; strangers are 503."""
    with running_core(tmp_path, stale=900) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.fail()
        for _ in range(60):
            await asyncio.sleep(10)
            assert await core.round() == (ROLE, FIRST_KEY)
        assert await core.round("10.0.0.6") == (503, 503)
        assert len(core.sts.calls) == 1
        assert core.metrics.verdicts.counts[("stale",)] > 1
        assert [record["stale"] for record in core.records() if record["outcome"] == "granted"] == [
            False,
            True,
        ]


@in_virtual_time
async def test_stale_ends(tmp_path: Path) -> None:
    """When DNS has been failing for longer than `stale` it is 503, with credentials held, too."""
    with running_core(tmp_path, stale=120) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.fail()
        await asyncio.sleep(119)
        assert await core.round() == (ROLE, FIRST_KEY)
        await asyncio.sleep(65)
        assert await core.round() == (503, 503)


@in_virtual_time
async def test_a_negative_answer_ends_stale(tmp_path: Path) -> None:
    """DNS fails, then says no, then fails again: after the no nothing stands in."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.fail()
        await asyncio.sleep(6)
        assert await core.round() == (ROLE, FIRST_KEY)
        core.dns.heal()
        core.dns.set_pointers(ADDRESS)
        await asyncio.sleep(6)
        assert await core.round() == (404, 404)
        core.dns.fail()
        await asyncio.sleep(6)
        assert await core.round() == (503, 503)


@in_virtual_time
async def test_dns_comes_back(tmp_path: Path) -> None:
    """Once DNS answers again, the next TOKEN's look-up counts."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.fail()
        await asyncio.sleep(6)
        await core.round()
        core.dns.heal()
        core.dns.add_host(ADDRESS, OTHER_NAME)
        await asyncio.sleep(2.1)
        assert await core.round() == (OTHER_ROLE, 404)


@in_virtual_time
async def test_one_of_two_names_fails(tmp_path: Path) -> None:
    """One name confirmed and the other's look-up failed: the last confirmed names count on, not the one."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.add_host(ADDRESS, NAME, OTHER_NAME)
        core.dns.fail(OTHER_NAME)
        await asyncio.sleep(6)
        assert (await core.round())[0] == ROLE
        verdict = core.standing().verdict
        assert verdict is not None
        assert verdict.is_stale
        core.dns.heal()
        await asyncio.sleep(2.1)
        assert await core.round() == (404, 404)


@in_virtual_time
async def test_dead_name_servers_are_waited_for_once(tmp_path: Path) -> None:
    """With a standing name the TOKEN that begins a look-up waits for it, in case it brings another name.

    Requests after that hold are answered at once as long as the look-up takes.
    """
    with running_core(tmp_path, deadline=2) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.silence()
        await asyncio.sleep(10)
        await core.round()
        await asyncio.sleep(10)
        await core.token()
        assert core.identities.flights == 1
        request = asyncio.ensure_future(core.round())
        await asyncio.sleep(0.01)
        assert request.done()
        assert request.result() == (ROLE, FIRST_KEY)


# --- what LIST has promised --------------------------------------------------------------------------


async def name_the_role(core: Core) -> None:
    core.dns.add_host(ADDRESS, NAME, ttl=1)
    assert await core.role_list() == ROLE


@in_virtual_time
async def test_a_list_is_good_for_a_minute(tmp_path: Path) -> None:
    """A ROLE within 60 s of its LIST is served without asking anybody, though the TTL is over; then not."""
    with running_core(tmp_path) as core:
        await name_the_role(core)
        core.dns.silence()
        await asyncio.sleep(NAMED_MEMORY)
        assert await core.role() == FIRST_KEY
        assert len(core.dns.questions) == 2
        await asyncio.sleep(0.1)
        await core.role()
        assert len(core.dns.questions) == 3


@in_virtual_time
async def test_a_list_outlives_trouble(tmp_path: Path) -> None:
    """DNS fails and nothing may stand in: LIST is 503, the ROLE that LIST has named is served on."""
    with running_core(tmp_path, stale=0) as core:
        await name_the_role(core)
        core.dns.fail()
        await asyncio.sleep(30)
        await core.token()
        assert (await core.role(), await core.role_list()) == (FIRST_KEY, 503)
        await asyncio.sleep(31)
        assert await core.role() == 503


@in_virtual_time
async def test_a_list_outlives_a_grant_that_ends(tmp_path: Path) -> None:
    """The provider grants nothing any more while the name is the same: the ROLE is served to the minute."""
    provider = ScriptedProvider()
    with running_core(tmp_path, provider=provider) as core:
        assert await core.role_list() == ROLE
        provider.grants = frozenset()
        await asyncio.sleep(30)
        await core.token()
        assert (await core.role(), await core.role_list()) == (FIRST_KEY, 404)
        await asyncio.sleep(31)
        assert await core.role() == 404


@in_virtual_time
async def test_another_caller_s_list(tmp_path: Path) -> None:
    """What LIST said to one address is worth nothing from another."""
    with running_core(tmp_path) as core:
        await name_the_role(core)
        assert await core.role(address="10.0.0.6") == 404


@in_virtual_time
async def test_the_name_changes_while_list_waits(tmp_path: Path) -> None:
    """A LIST that waits for STS while the address changes hands names nothing."""
    with running_core(tmp_path, recheck=0) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.silence()
        waiting = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.1)
        core.dns.add_host(ADDRESS, OTHER_NAME)
        await core.token()
        core.sts.speak()
        assert await waiting == 503
        assert await core.role() == 404
        assert await core.role_list() == OTHER_ROLE


@in_virtual_time
async def test_a_sister_takes_over_while_list_waits(tmp_path: Path) -> None:
    """The same with a machine of the same role: it never gets the old one's credentials."""
    with running_core(tmp_path, recheck=0) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.silence()
        waiting = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.1)
        core.dns.add_host(ADDRESS, SISTER_NAME)
        await core.token()
        core.sts.speak()
        await waiting
        await asyncio.sleep(0.01)
        assert await core.role() == SECOND_KEY
