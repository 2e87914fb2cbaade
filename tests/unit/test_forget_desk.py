"""web/forget_desk: what is dropped for a host, what stays, and that nothing under way brings it back."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from imds_proxy.model import canonical_address
from imds_proxy.web.forget_desk import Forgotten, Memory, forget, parse_host
from tests.standins.core import ADDRESS, NAME, ROLE, Core, running_core
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

SECOND_ADDRESS = "10.0.0.6"
OTHER_NAME, OTHER_ROLE = "tuvbar42.valid.example", "roleprefix-tuvbar"
FIRST_KEY, SECOND_KEY = "ASIA00000001", "ASIA00000002"
NOTHING = Forgotten(0, 0, 0, 0)


def forget_in(core: Core, host: str) -> Forgotten:
    """Forget a host as the desk does it."""
    memory = Memory(core.identities, [core.broker], core.cache)
    return forget(memory, parse_host(json.dumps({"host": host})))


@pytest.mark.parametrize("host", [ADDRESS, f"::ffff:{ADDRESS}", NAME, NAME.upper() + "."])
@in_virtual_time
async def test_a_host(tmp_path: Path, host: str) -> None:
    """By address or name: the next round asks DNS and STS anew, and the new key is on record."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (ROLE, FIRST_KEY)
        questions = len(core.dns.questions)
        assert forget_in(core, host) == Forgotten(identities=1, verdicts=1, sessions=1, kept=0)
        assert (core.identities.size, core.broker.size, core.cache.size) == (0, 0, 0)
        assert await core.round() == (ROLE, SECOND_KEY)
        assert len(core.dns.questions) == 2 * questions
        assert [record["access_key_id"] for record in core.records()] == [FIRST_KEY, SECOND_KEY]


@in_virtual_time
async def test_another_host_is_left_alone(tmp_path: Path) -> None:
    """Whoever is not meant goes on with what it has, and asks nobody anything."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host(SECOND_ADDRESS, OTHER_NAME)
        await core.round()
        assert await core.round(SECOND_ADDRESS, role=OTHER_ROLE) == (OTHER_ROLE, SECOND_KEY)
        questions = len(core.dns.questions)
        forget_in(core, ADDRESS)
        assert await core.round(SECOND_ADDRESS, role=OTHER_ROLE) == (OTHER_ROLE, SECOND_KEY)
        assert (len(core.dns.questions), len(core.sts.calls)) == (questions, 2)


@pytest.mark.parametrize("host", ["10.9.9.9", "tuvnever.valid.example"])
@in_virtual_time
async def test_nothing_known(tmp_path: Path, host: str) -> None:
    """A host that nobody knows: nothing is forgotten."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        assert forget_in(core, host) == NOTHING


@in_virtual_time
async def test_a_refusal_is_forgotten(tmp_path: Path) -> None:
    """A record that was corrected counts at once; by the name that was found and did not lead back, too."""
    with running_core(tmp_path) as core:
        core.dns.set_pointers(ADDRESS, NAME)
        assert await core.round() == (404, 404)
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (404, 404)
        assert forget_in(core, NAME) == Forgotten(identities=1, verdicts=1, sessions=0, kept=0)
        assert await core.round() == (ROLE, FIRST_KEY)


@in_virtual_time
async def test_a_name_of_two_addresses(tmp_path: Path) -> None:
    """By its name both are forgotten with the session they share; by one address the session stays."""
    with running_core(tmp_path) as core:
        for address in (ADDRESS, SECOND_ADDRESS):
            core.dns.set_pointers(address, NAME)
        core.dns.set_addresses(NAME, ADDRESS, SECOND_ADDRESS)
        assert [await core.round(address) for address in (ADDRESS, SECOND_ADDRESS)] == [(ROLE, FIRST_KEY)] * 2
        assert forget_in(core, ADDRESS) == Forgotten(identities=1, verdicts=1, sessions=0, kept=1)
        assert await core.round(SECOND_ADDRESS) == (ROLE, FIRST_KEY)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert forget_in(core, NAME) == Forgotten(identities=2, verdicts=2, sessions=1, kept=0)
        assert await core.round() == (ROLE, SECOND_KEY)


@in_virtual_time
async def test_shared_sessions(tmp_path: Path) -> None:
    """With `session: shared`, credentials of others stay; those that nobody else has go."""
    with running_core(tmp_path, is_shared=True) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host(SECOND_ADDRESS, "tuvfoo43.valid.example")
        await core.round()
        await core.round(SECOND_ADDRESS)
        assert len(core.sts.calls) == 1
        assert forget_in(core, NAME) == Forgotten(identities=1, verdicts=1, sessions=0, kept=1)
        assert forget_in(core, SECOND_ADDRESS) == Forgotten(identities=1, verdicts=1, sessions=1, kept=0)


@in_virtual_time
async def test_workloads(tmp_path: Path) -> None:
    """By its name one workload is forgotten wherever it is, by its address whoever is behind it."""
    with running_core(tmp_path) as core:
        here, there = canonical_address(ADDRESS), canonical_address(SECOND_ADDRESS)
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        for address, workload in ((here, OTHER_NAME), (there, OTHER_NAME), (here, "tuvbaz42.valid.example")):
            await core.broker.role_and_credentials(core.broker.standing(address, workload))
        assert forget_in(core, OTHER_NAME) == Forgotten(identities=0, verdicts=2, sessions=1, kept=0)
        assert forget_in(core, ADDRESS) == Forgotten(identities=1, verdicts=2, sessions=2, kept=0)


@in_virtual_time
async def test_a_look_up_under_way(tmp_path: Path) -> None:
    """What a look-up brings that began before is not remembered; who waited for it is answered."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.5, ADDRESS)
        waiting = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.2)
        core.dns.heal()
        core.dns.add_host(ADDRESS, OTHER_NAME)
        core.dns.set_addresses(NAME)
        assert forget_in(core, ADDRESS) == NOTHING
        assert await core.role_list() == OTHER_ROLE
        assert await waiting in (ROLE, OTHER_ROLE, 404)
        assert core.identities.addresses_of(NAME) == set()
        assert await core.round(role=OTHER_ROLE) == (OTHER_ROLE, core.head())


@in_virtual_time
async def test_a_name_that_would_have_stood_in(tmp_path: Path) -> None:
    """While DNS fails, a forgotten host has no earlier name, not even by a look-up that began before."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        await asyncio.sleep(70)
        core.dns.fail()
        core.dns.delay(0.3)
        waiting = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.1)
        assert forget_in(core, NAME) == Forgotten(identities=1, verdicts=1, sessions=1, kept=0)
        await waiting
        await asyncio.sleep(1)
        assert await core.round() == (503, 503)


@in_virtual_time
async def test_an_assume_role_under_way(tmp_path: Path) -> None:
    """Credentials that were on their way are not held; the next request asks STS for others."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.seconds = 2
        await core.token()
        assert forget_in(core, NAME) == Forgotten(identities=1, verdicts=1, sessions=1, kept=0)
        await asyncio.sleep(3)
        assert core.cache.size == 0
        core.sts.seconds = 0
        assert await core.round() == (ROLE, SECOND_KEY)


@in_virtual_time
async def test_what_was_named(tmp_path: Path) -> None:
    """A role that LIST has named is no promise any more."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.role_list() == ROLE
        standing = core.standing()
        forget_in(core, ADDRESS)
        assert not standing.is_current
        core.dns.set_pointers(ADDRESS)
        assert await core.role() == 404


@pytest.mark.parametrize(
    "order", ["", "[]", "{}", '{"host": "10.0.0.0/8"}', '{"host": "a b"}', '{"host": ""}']
)
def test_no_host(order: str) -> None:
    """What is no address and no host name is an error in words."""
    with pytest.raises(ValueError, match="host"):
        parse_host(order)
