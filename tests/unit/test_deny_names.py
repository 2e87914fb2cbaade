"""deny, host names: every caller with a grant has its PTR names compared, whatever its provider asks for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from imds_proxy.errors import Refusal, RefusalKind, ResolutionError, TroubleKind
from imds_proxy.explain import Door, NameFound, explain
from imds_proxy.model import canonical_address
from imds_proxy.names import AllowedDomains
from imds_proxy.provider import Caller, Provider, ProviderSettings
from tests.standins.core import ADDRESS, NAME, ROLE, Core, deny, running_core
from tests.standins.scripted_provider import GRANT, ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imds_proxy.verdict import Verdict

BAD = "bad.other.example"
"""In no allowed domain, and it leads nowhere: its PTR record is all there is of it."""
FIRST_KEY = "ASIA00000001"
WORKLOAD = "tuvweb01.valid.example"


def core_of(
    folder: Path, provider: Provider[Any] | None = None, **changes: Any
) -> AbstractContextManager[Core]:
    """Make a core that denies BAD; its provider asks for no names unless there is one."""
    return running_core(folder, provider=provider or ScriptedProvider(), **{"denied": deny(BAD), **changes})


async def decide(core: Core, workload: str | None = None) -> Verdict:
    return await core.judge.decide(canonical_address(ADDRESS), float("-inf"), workload)


@pytest.mark.parametrize("names", [(BAD,), (BAD.upper(),), (NAME, BAD), ((b"a.b", b"c"), BAD)], ids=repr)
@in_virtual_time
async def test_a_denied_name_is_refused(tmp_path: Path, names: tuple[Any, ...]) -> None:
    """Also among others, and though it does not lead back: no keys, no record of a grant, STS not asked."""
    with core_of(tmp_path) as core:
        core.dns.set_pointers(ADDRESS, *names)
        verdict = await decide(core)
        assert (verdict.outcome, verdict.kind) == ("refused", RefusalKind.DENIED)
        assert verdict.reason == f"the name {BAD} is denied"
        assert await core.round() == (404, 404)
        assert core.head() == 404
        assert core.sts.calls == []
        assert core.dns.questions == [ADDRESS]
        assert {one["outcome"] for one in core.records()} == {"refused"}


@pytest.mark.parametrize("names", [(), (NAME,), ("b.other.example", "bad.other.example.net")], ids=repr)
@in_virtual_time
async def test_other_names_are_not_denied(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A machine without a name or with another one is served; one question tells, and none is A or AAAA."""
    with core_of(tmp_path) as core:
        core.dns.add_host(ADDRESS, *names)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert core.dns.questions == [ADDRESS]
        assert core.sts.calls[0].session_name == ADDRESS


@in_virtual_time
async def test_without_a_name_in_deny_nothing_is_looked_up(tmp_path: Path) -> None:
    """Addresses under `deny` need no DNS."""
    with core_of(tmp_path, denied=deny("10.9.9.9")) as core:
        core.dns.fail()
        assert await core.round() == (ROLE, FIRST_KEY)
        assert core.dns.questions == []


@in_virtual_time
async def test_who_is_not_granted_is_not_looked_up(tmp_path: Path) -> None:
    """The provider's refusal comes first."""
    with core_of(tmp_path, ScriptedProvider([])) as core:
        assert await core.round() == (404, 404)
        assert core.dns.questions == []


@in_virtual_time
async def test_a_failure_gives_no_keys(tmp_path: Path) -> None:
    """What can't be told is trouble, asked about again after 2 s; STS is not asked."""
    with core_of(tmp_path) as core:
        core.dns.fail()
        verdict = await decide(core)
        assert (verdict.outcome, verdict.kind) == ("trouble", TroubleKind.DNS)
        assert verdict.reason.startswith("deny has names, and those of the address are not known: ")
        assert await core.round() == (503, 503)
        assert core.sts.calls == []
        core.dns.heal()
        await asyncio.sleep(2)
        assert await core.round() == (ROLE, FIRST_KEY)


@in_virtual_time
async def test_silence_gives_no_keys(tmp_path: Path) -> None:
    """A name server that says nothing is a failure at `dns.deadline`."""
    with core_of(tmp_path) as core:
        core.dns.silence()
        assert await core.round() == (503, 503)
        await asyncio.sleep(2)
        assert (await decide(core)).kind is TroubleKind.DNS
        assert core.sts.calls == []


@in_virtual_time
async def test_too_many_names_are_refused(tmp_path: Path) -> None:
    """Nine names are not read: one of them might be denied."""
    with core_of(tmp_path) as core:
        core.dns.add_host(ADDRESS, *(f"tuvfoo{number}.valid.example" for number in range(9)))
        verdict = await decide(core)
        assert (verdict.outcome, verdict.kind) == ("refused", RefusalKind.MANY_NAMES)
        assert verdict.reason == "deny has names, and the address has 9 PTR names, 8 at most"
        assert core.sts.calls == []


@pytest.mark.parametrize("names", [(NAME,), ()], ids=["a name", "none"])
@in_virtual_time
async def test_the_last_answer_stands_in(tmp_path: Path, names: tuple[str, ...]) -> None:
    """While DNS fails, what was known counts for `dns.stale`, on record as stale; then it is trouble."""
    with core_of(tmp_path, stale=100) as core:
        core.dns.add_host(ADDRESS, *names)
        assert await core.round() == (ROLE, FIRST_KEY)
        core.dns.fail()
        await asyncio.sleep(90)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert (await decide(core)).is_stale
        await asyncio.sleep(61)
        assert await core.round() == (503, 503)
        hand_outs = [one for one in core.records() if one["outcome"] == "granted"]
        assert [one.get("stale", False) for one in hand_outs] == [False, True]


@in_virtual_time
async def test_a_denied_name_stands_in_as_well(tmp_path: Path) -> None:
    """A failure frees nobody."""
    with core_of(tmp_path, stale=100) as core:
        core.dns.set_pointers(ADDRESS, BAD)
        assert await core.round() == (404, 404)
        core.dns.fail()
        await asyncio.sleep(90)
        assert await core.round() == (404, 404)
        await asyncio.sleep(90)
        assert await core.round() == (503, 503)
        assert core.sts.calls == []


@in_virtual_time
async def test_a_name_that_comes_later(tmp_path: Path) -> None:
    """TOKEN looks again after `dns.recheck`; then also what LIST has promised is over at once."""
    with core_of(tmp_path, recheck=5) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=3600)
        assert await core.round() == (ROLE, FIRST_KEY)
        core.dns.set_pointers(ADDRESS, BAD)
        await asyncio.sleep(6)
        assert await core.role() == FIRST_KEY
        await core.token()
        assert await core.role() == 404
        assert core.head() == 404


@pytest.mark.parametrize(("ttl", "until"), [(20.0, 20.0), (3600.0, 60.0), (0.0, 1.0)])
@in_virtual_time
async def test_how_long_a_grant_counts(tmp_path: Path, ttl: float, until: float) -> None:
    """As long as the names do: their TTL, 1 to 60 s; without any name for 5 s."""
    with core_of(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=ttl)
        assert (await decide(core)).fresh_until == core.clock.monotonic() + until
    with core_of(tmp_path) as core:
        assert (await decide(core)).fresh_until == core.clock.monotonic() + 5


@in_virtual_time
async def test_names_that_by_ip_drops(tmp_path: Path) -> None:
    """A denied name next to a confirmed one is refused, though it is in no allowed domain."""
    with running_core(tmp_path, denied=deny(BAD)) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.set_pointers(ADDRESS, NAME, BAD)
        assert await core.round() == (404, 404)
        assert core.dns.questions == [ADDRESS, NAME]
        assert core.sts.calls == []


@in_virtual_time
async def test_by_ip_asks_nothing_more(tmp_path: Path) -> None:
    """Its own look-up has all PTR names."""
    with running_core(tmp_path, denied=deny(BAD)) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert core.dns.questions == [ADDRESS, NAME]


@in_virtual_time
async def test_a_name_that_by_ip_drops_and_that_comes_later(tmp_path: Path) -> None:
    """The confirmed name stays the same; grant and promise end nonetheless."""
    with running_core(tmp_path, denied=deny(BAD)) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (ROLE, FIRST_KEY)
        core.dns.set_pointers(ADDRESS, NAME, BAD)
        await asyncio.sleep(6)
        await core.token()
        assert await core.role() == 404


class Lenient(Provider[ProviderSettings]):
    """Grants whatever becomes of the names that it asks for."""

    settings_model = ProviderSettings

    async def grants_for(self, caller: Caller) -> frozenset[Any]:
        """Ask, and pass over what comes."""
        with suppress(Refusal, ResolutionError):
            await caller.confirmed_names(AllowedDomains.parse(["valid.example"]))
        return frozenset([GRANT])


@in_virtual_time
async def test_a_provider_that_passes_over_errors(tmp_path: Path) -> None:
    """A failure that the provider passes over is trouble, nine names are refused, a denied one as well."""
    with core_of(tmp_path, Lenient(ProviderSettings())) as core:
        core.dns.fail()
        assert (await decide(core)).outcome == "trouble"
        core.dns.heal()
        core.dns.set_pointers(ADDRESS, BAD)
        await asyncio.sleep(3)
        assert (await decide(core)).kind is RefusalKind.DENIED
        core.dns.set_pointers(ADDRESS, *(f"tuvfoo{number}.valid.example" for number in range(9)))
        await asyncio.sleep(6)
        assert (await decide(core)).kind is RefusalKind.MANY_NAMES
        core.dns.set_pointers(ADDRESS)
        await asyncio.sleep(6)
        assert (await decide(core)).outcome == "granted"


@in_virtual_time
async def test_names_of_hosts(tmp_path: Path) -> None:
    """A mapped address has the name of `hosts:` and no other: DNS is not asked."""
    with core_of(tmp_path, hosts={ADDRESS: NAME}) as core:
        core.dns.set_pointers(ADDRESS, BAD)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert core.dns.questions == []
    with core_of(tmp_path, hosts={ADDRESS: BAD}) as core:
        assert await core.round() == (404, 404)
        assert core.dns.questions == []


@pytest.mark.parametrize("provider", [None, ScriptedProvider()], ids=["by_ip", "no names"])
@in_virtual_time
async def test_the_host_of_a_workload(tmp_path: Path, provider: ScriptedProvider | None) -> None:
    """The PTR names of the address a workload asks from are compared like its own name."""
    with running_core(tmp_path, provider=provider, denied=deny(BAD)) as core:
        core.dns.set_pointers(ADDRESS, BAD)
        assert (await decide(core, WORKLOAD)).kind is RefusalKind.DENIED
        assert core.dns.questions == [ADDRESS]
    with running_core(tmp_path, provider=provider, denied=deny(BAD)) as core:
        core.dns.fail()
        assert (await decide(core, WORKLOAD)).kind is TroubleKind.DNS
    with running_core(tmp_path, provider=provider, denied=deny(BAD)) as core:
        verdict = await decide(core, WORKLOAD)
        assert (verdict.outcome, core.dns.questions) == ("granted", [ADDRESS])
        assert verdict.session is not None
        assert verdict.session.session_name == WORKLOAD


@in_virtual_time
async def test_a_denied_workload_asks_no_dns(tmp_path: Path) -> None:
    """Its own name is enough."""
    with core_of(tmp_path, denied=deny(WORKLOAD)) as core:
        assert (await decide(core, WORKLOAD)).kind is RefusalKind.DENIED
        assert core.dns.questions == []


@in_virtual_time
async def test_one_look_up_for_all_who_ask(tmp_path: Path) -> None:
    """Workloads behind one address share its look-up; it is remembered and counted as any other."""
    with core_of(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.2)
        await asyncio.gather(*(decide(core, f"tuvweb{number}.valid.example") for number in range(20)))
        assert core.dns.questions == [ADDRESS]
        assert (core.identities.size, core.identities.flights) == (1, 0)


@in_virtual_time
async def test_forget(tmp_path: Path) -> None:
    """`imds-proxy forget` finds the address by such a name, and what was looked up is forgotten with it."""
    with core_of(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await decide(core)
        address = canonical_address(ADDRESS)
        assert core.identities.addresses_of(NAME) == {address}
        assert core.identities.forget(address) == 1
        core.dns.set_pointers(ADDRESS, BAD)
        assert (await decide(core)).kind is RefusalKind.DENIED


@in_virtual_time
async def test_explain_shows_them(tmp_path: Path) -> None:
    """Each name that was found is a step, with what it is for."""
    with core_of(tmp_path) as core:
        core.dns.set_pointers(ADDRESS, NAME, BAD)
        doors = [Door("127.0.0.1:8080", lambda _: True, core.judge)]
        said = await explain(canonical_address(ADDRESS), doors, sts=None, clock=core.clock.clock())
        assert (said.outcome, said.reason) == ("refused", f"the name {BAD} is denied")
        assert said.names == (
            NameFound(NAME, confirmed=False, allowed=False),
            NameFound(BAD, confirmed=False, allowed=False),
        )
        assert said.steps[1:] == (
            "provider machines decides",
            "names: the provider asked for none",
            "names: looked up, because deny has names",
            f"name {NAME}: is compared with deny only",
            f"name {BAD}: is compared with deny only",
            f"refused: the name {BAD} is denied",
        )
