"""broker, verdict: every no and every trouble. AWS hears nothing of either, whatever is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import Refusal
from imds_proxy.model import Grant
from tests.standins.core import ADDRESS, NAME, ROLE, Core, deny, running_core
from tests.standins.scripted_provider import GRANT, ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST_KEY = "ASIA00000001"


def no_pointer(_: Core) -> None:
    pass


def forbidden_domain(core: Core) -> None:
    core.dns.add_host(ADDRESS, "tuvfoo42.evilvalid.example")


def spoofed(core: Core) -> None:
    core.dns.set_pointers(ADDRESS, NAME)
    core.dns.set_addresses(NAME, "10.0.0.6")


def nine_pointers(core: Core) -> None:
    core.dns.add_host(ADDRESS, *(f"tuvfoo{number}2.valid.example" for number in range(9)))


def two_roles(core: Core) -> None:
    core.dns.add_host(ADDRESS, NAME, "tuvbar42.valid.example")


def no_rule(core: Core) -> None:
    core.dns.add_host(ADDRESS, "notloctyp.valid.example")


WORLDS = [no_pointer, forbidden_domain, spoofed, nine_pointers, two_roles, no_rule]


@pytest.mark.parametrize("world", WORLDS, ids=[world.__name__ for world in WORLDS])
@in_virtual_time
async def test_a_refused_name(tmp_path: Path, world: Callable[[Core], None]) -> None:
    """TOKEN tells nothing, LIST, ROLE and HEAD are 404, and AWS hears nothing."""
    with running_core(tmp_path) as core:
        world(core)
        assert await core.round() == (404, 404)
        assert core.head() == 404
        assert core.sts.calls == []


@pytest.mark.parametrize(
    "grants",
    [
        [],
        [GRANT, Grant("main", "roleprefix-other", "told to")],
        [GRANT, Grant("other", GRANT.role, "told to")],
        [Grant("nowhere", GRANT.role, "told to")],
        [Grant("main", "path/role", "told to")],
        [Grant("main", "", "told to")],
    ],
    ids=["none", "two roles", "two accounts", "unknown account", "no role name", "empty role"],
)
@in_virtual_time
async def test_a_refused_grant(tmp_path: Path, grants: list[Grant]) -> None:
    """No grant, two grants, a grant that can't be: 404 at LIST and ROLE, and AWS hears nothing."""
    with running_core(tmp_path, provider=ScriptedProvider(grants)) as core:
        assert await core.round() == (404, 404)
        assert core.sts.calls == []


@pytest.mark.parametrize("denied", [ADDRESS, NAME])
@in_virtual_time
async def test_denied(tmp_path: Path, denied: str) -> None:
    """A denied address or name is refused like any other."""
    with running_core(tmp_path, denied=deny(denied)) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (404, 404)
        assert core.sts.calls == []
        core.dns.add_host("10.0.0.6", "tuvfoo43.valid.example")
        assert (await core.round("10.0.0.6"))[0] == ROLE


@in_virtual_time
async def test_a_denied_address_is_not_looked_up(tmp_path: Path) -> None:
    """Who is cut off by address causes no question to a name server."""
    with running_core(tmp_path, denied=deny(ADDRESS)) as core:
        assert await core.round() == (404, 404)
        assert core.dns.questions == []


@pytest.mark.parametrize("denied", ["tuvfoo42.valid.example", "tuvfoo43.valid.example"])
@in_virtual_time
async def test_one_of_several_names_is_denied(tmp_path: Path, denied: str) -> None:
    """Any denied name among those confirmed is enough."""
    with running_core(tmp_path, denied=deny(denied)) as core:
        core.dns.add_host(ADDRESS, NAME, "tuvfoo43.valid.example")
        assert await core.round() == (404, 404)
        assert core.sts.calls == []


@in_virtual_time
async def test_a_denied_name_of_hosts(tmp_path: Path) -> None:
    """A name from `hosts:` can be denied, too, also where the provider asks for no names."""
    provider = ScriptedProvider()
    with running_core(tmp_path, provider=provider, hosts={ADDRESS: NAME}, denied=deny(NAME)) as core:
        assert await core.round() == (404, 404)
        assert core.sts.calls == []


@in_virtual_time
async def test_a_refusal_is_remembered(tmp_path: Path) -> None:
    """A refusal is remembered for 5 s: no provider and no name server is asked before."""
    provider = ScriptedProvider([])
    with running_core(tmp_path, provider=provider, recheck=0) as core:
        for _ in range(24):
            assert await core.round() == (404, 404)
            await asyncio.sleep(0.2)
        assert provider.callers == [ADDRESS]
        await asyncio.sleep(0.3)
        provider.grants = frozenset([GRANT])
        assert (await core.round())[0] == ROLE


@pytest.mark.parametrize(
    "failure", [RuntimeError("broken"), PermissionError("no"), TimeoutError(), OSError()]
)
@in_virtual_time
async def test_a_provider_that_raises(tmp_path: Path, failure: Exception) -> None:
    """Whatever a provider raises but a Refusal is trouble, 503: never a grant and never a refusal."""
    provider = ScriptedProvider()
    provider.failure = failure
    with running_core(tmp_path, provider=provider) as core:
        assert await core.round() == (503, 503)
        assert core.sts.calls == []
        assert core.metrics.provider_errors.counts == {("machines",): 1}


@in_virtual_time
async def test_a_provider_that_refuses(tmp_path: Path) -> None:
    """A Refusal of the provider's is a no."""
    provider = ScriptedProvider()
    provider.failure = Refusal("not you")
    with running_core(tmp_path, provider=provider) as core:
        assert await core.round() == (404, 404)
        assert core.sts.calls == []


@in_virtual_time
async def test_a_provider_without_end(tmp_path: Path) -> None:
    """A provider that passes its time is trouble; its late yes counts for nothing."""
    provider = ScriptedProvider()
    provider.seconds = 60
    with running_core(tmp_path, provider=provider) as core:
        assert await core.role_list() == 503
        await asyncio.sleep(70)
        assert core.sts.calls == []
        assert core.head() == 503
        assert core.metrics.provider_errors.counts == {("machines",): 1}


@in_virtual_time
async def test_trouble_is_remembered(tmp_path: Path) -> None:
    """Trouble is remembered for 2 s, then the next request asks again."""
    provider = ScriptedProvider()
    provider.failure = RuntimeError("broken")
    with running_core(tmp_path, provider=provider, recheck=0) as core:
        for _ in range(9):
            assert await core.round() == (503, 503)
            await asyncio.sleep(0.2)
        assert provider.callers == [ADDRESS]
        provider.failure = None
        await asyncio.sleep(0.3)
        assert await core.round() == (ROLE, FIRST_KEY)


@in_virtual_time
async def test_dns_fails(tmp_path: Path) -> None:
    """DNS failing for a caller who is not known yet is 503, and AWS hears nothing."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.fail(NAME)
        assert await core.round() == (503, 503)
        assert core.sts.calls == []
