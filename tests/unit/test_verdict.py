"""verdict: exactly one grant of a provider's answer, or none; on what it rests and how long it counts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy import naming
from imds_proxy.errors import ConfigurationError, Refusal, ResolutionError, Trouble
from imds_proxy.model import Grant, canonical_address
from imds_proxy.names import AllowedDomains
from imds_proxy.provider import Caller, Provider, ProviderSettings
from tests.standins.core import ADDRESS, NAME, ROLE, Core, deny, running_core
from tests.standins.scripted_provider import GRANT, ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from imds_proxy.verdict import Verdict

ANY_AGE = float("-inf")


async def decide(core: Core, address: str = ADDRESS) -> Verdict:
    return await core.judge.decide(canonical_address(address), ANY_AGE)


@in_virtual_time
async def test_a_grant_by_name(tmp_path: Path) -> None:
    """The verdict has the grant, its role session and what it rests on; it counts as long as the name."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=20)
        verdict = await decide(core)
        assert (verdict.outcome, verdict.names) == ("granted", (NAME,))
        assert verdict.grant is not None
        assert verdict.session is not None
        assert (verdict.grant.role, verdict.session.role_name) == (ROLE, ROLE)
        assert verdict.identity is not None
        assert verdict.fresh_until == verdict.identity.valid_until == core.clock.monotonic() + 20
        assert not verdict.is_stale


@in_virtual_time
async def test_a_grant_without_names(tmp_path: Path) -> None:
    """A provider that asks for no names causes no look-up; its grant counts for a minute."""
    with running_core(tmp_path, provider=ScriptedProvider()) as core:
        core.dns.fail()
        verdict = await decide(core)
        assert (verdict.outcome, verdict.names, verdict.reason) == ("granted", (), "told to")
        assert verdict.session is not None
        assert verdict.session.session_name == ADDRESS
        assert verdict.fresh_until == core.clock.monotonic() + 60
        assert core.dns.questions == []


@in_virtual_time
async def test_two_reasons_for_one_grant(tmp_path: Path) -> None:
    """The same role for two reasons is one grant."""
    other = Grant(GRANT.account, GRANT.role, "also told to")
    with running_core(tmp_path, provider=ScriptedProvider([GRANT, other])) as core:
        verdict = await decide(core)
        assert (verdict.outcome, verdict.grant) == ("granted", other)


@in_virtual_time
async def test_tags_of_several_grants(tmp_path: Path) -> None:
    """All that they agree on: a key with two values has none."""
    grants = [
        Grant(GRANT.account, GRANT.role, "a", (("site", "hh"), ("rack", "1"))),
        Grant(GRANT.account, GRANT.role, "b", (("site", "hh"), ("rack", "2"), ("job", "web"))),
    ]
    with running_core(tmp_path, provider=ScriptedProvider(grants)) as core:
        verdict = await decide(core)
        assert verdict.grant is not None
        assert verdict.grant.tags == (("job", "web"), ("site", "hh"))


@pytest.mark.parametrize("tags", [(("a", 1),), ((1, "a"),), ("abc",), None])
@in_virtual_time
async def test_tags_that_are_no_texts(tmp_path: Path, tags: object) -> None:
    """A provider's mistake is trouble, as any other."""
    grant = Grant(GRANT.account, GRANT.role, "", tags)  # type: ignore[arg-type]  # that is what is tried
    with running_core(tmp_path, provider=ScriptedProvider([grant])) as core:
        assert (await decide(core)).outcome == "trouble"


@pytest.mark.parametrize(
    ("grants", "reason"),
    [
        ([], "grants nothing"),
        ([GRANT, Grant("main", "other", "")], "grants 2 roles, a machine has one"),
        ([Grant("nowhere", "role", "")], "'nowhere', which accounts lacks"),
        ([Grant("main", "a/b", "")], "'a/b' is no role name"),
    ],
)
@in_virtual_time
async def test_refusals(tmp_path: Path, grants: list[Grant], reason: str) -> None:
    """What is not exactly one grant that can be is a refusal that says why, remembered for 5 s."""
    with running_core(tmp_path, provider=ScriptedProvider(grants)) as core:
        verdict = await decide(core)
        assert (verdict.outcome, verdict.session, verdict.grant) == ("refused", None, None)
        assert reason in verdict.reason
        assert isinstance(verdict.denial(), Refusal)
        assert verdict.fresh_until == core.clock.monotonic() + 5


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RuntimeError("broken"), "provider machines: RuntimeError: broken"),
        (TimeoutError(), "provider machines: no answer in 5 s"),
        (ConfigurationError([]), "provider machines: ConfigurationError: "),
        (ResolutionError("SERVFAIL"), "SERVFAIL"),
        (Trouble("directory is down"), "directory is down"),
    ],
)
@in_virtual_time
async def test_trouble(
    tmp_path: Path, failure: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every other exception is trouble, remembered for 2 s; what should not come is logged in full."""
    provider = ScriptedProvider()
    provider.failure = failure
    with running_core(tmp_path, provider=provider) as core, caplog.at_level(logging.ERROR):
        verdict = await decide(core)
        assert (verdict.outcome, verdict.session, verdict.reason) == ("trouble", None, reason)
        assert isinstance(verdict.denial(), Trouble)
        assert verdict.fresh_until == core.clock.monotonic() + 2
        is_foreign = not isinstance(failure, Trouble | TimeoutError)
        assert [record.exc_info is not None for record in caplog.records] == [True] * is_foreign


@pytest.mark.parametrize("answer", [None, 7, ["text"], [None], [[]], [("main", "role", "a tuple")]], ids=repr)
@in_virtual_time
async def test_an_answer_that_is_none(
    tmp_path: Path, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    """What a provider returns in place of grants is trouble as if it had raised."""
    provider = ScriptedProvider()
    provider.grants = answer  # type: ignore[assignment]  # what a provider that is wrong returns
    with running_core(tmp_path, provider=provider) as core:
        verdict = await decide(core)
        assert verdict.outcome == "trouble"
        assert verdict.reason.startswith("provider machines: ")
        assert core.metrics.provider_errors.counts == {("machines",): 1}
        assert len(caplog.records) == 1


@in_virtual_time
async def test_a_provider_without_end(tmp_path: Path) -> None:
    """A provider gets 5 seconds; its answer after that counts for nothing."""
    provider = ScriptedProvider()
    provider.seconds = 5.1
    with running_core(tmp_path, provider=provider) as core:
        verdict = await decide(core)
        assert (verdict.outcome, verdict.reason) == ("trouble", "provider machines: no answer in 5 s")
        provider.seconds = 4.9
        assert (await decide(core)).outcome == "granted"


@pytest.mark.parametrize(
    ("denied", "reason"), [(ADDRESS, "the address is denied"), (NAME, f"the name {NAME} is denied")]
)
@in_virtual_time
async def test_denied(tmp_path: Path, denied: str, reason: str) -> None:
    """Who is denied is told apart in the reason, though not in the answer."""
    with running_core(tmp_path, denied=deny(denied, "tuvfoo99.valid.example", "10.9.9.9")) as core:
        core.dns.add_host(ADDRESS, NAME)
        verdict = await decide(core)
        assert (verdict.outcome, verdict.reason) == ("refused", reason)


@in_virtual_time
async def test_a_denied_address_asks_no_provider(tmp_path: Path) -> None:
    """A denied address is refused before anybody is asked."""
    provider = ScriptedProvider()
    with running_core(tmp_path, provider=provider, denied=deny(ADDRESS)) as core:
        await decide(core, "::ffff:" + ADDRESS)
        assert provider.callers == []


@in_virtual_time
async def test_stale(tmp_path: Path) -> None:
    """A grant on names that stand in is marked, and asked about again after 2 s."""
    with running_core(tmp_path, stale=100) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=1)
        first = await decide(core)
        core.dns.fail()
        await asyncio.sleep(10)
        verdict = await decide(core)
        assert (verdict.outcome, verdict.is_stale, verdict.names) == ("granted", True, (NAME,))
        assert verdict.fresh_until == core.clock.monotonic() + 2
        assert verdict.serve_until == first.serve_until


class TwoQuestions(Provider[ProviderSettings]):
    """Grants by a name in a domain of its own where there is none in the first."""

    settings_model = ProviderSettings

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Ask twice."""
        try:
            await caller.confirmed_names(AllowedDomains.parse(["first.example"]))
        except Refusal:
            await caller.confirmed_names(AllowedDomains.parse(["valid.example"]))
        return frozenset([GRANT])


@in_virtual_time
async def test_a_provider_that_asks_twice(tmp_path: Path) -> None:
    """The names that the provider got last are those of the verdict."""
    with running_core(tmp_path, provider=TwoQuestions(ProviderSettings())) as core:
        core.dns.add_host(ADDRESS, NAME)
        verdict = await decide(core)
        assert (verdict.outcome, verdict.names) == ("granted", (NAME,))


@in_virtual_time
async def test_grants_that_differ_in_the_network(tmp_path: Path) -> None:
    """Callers share a session only where all grants of the role say so, and say the same network."""
    lan, other = IPv6Network("2001:db8::/64"), IPv6Network("2001:db8::/48")
    address = canonical_address("2001:db8::5")
    for networks, name in (
        ((lan, lan), naming.session_name(str(lan))),
        ((lan, other), naming.session_name(str(address))),
        ((lan, None), naming.session_name(str(address))),
    ):
        grants = [replace(GRANT, reason=str(n), network=network) for n, network in enumerate(networks)]
        with running_core(tmp_path, provider=ScriptedProvider(grants)) as core:
            verdict = await core.judge.decide(address, 0)
            assert verdict.session is not None
            assert verdict.session.session_name == name


@given(st.lists(st.builds(Grant, st.text(max_size=5) | st.just("main"), st.text(max_size=80), st.text())))
def test_any_grants(grants: list[Grant]) -> None:
    """Whatever grants a provider makes up: one that IAM would take, in a known account, or a refusal."""

    @in_virtual_time
    async def judge() -> None:
        provider = ScriptedProvider(grants)
        with TemporaryDirectory() as folder, running_core(Path(folder), provider=provider) as core:
            verdict = await decide(core)
            if verdict.session is None:
                assert verdict.outcome == "refused"
            else:
                assert {(grant.account, grant.role) for grant in grants} == {
                    ("main", verdict.session.role_name)
                }
                assert verdict.session.account_id == "000123456789"

    judge()
