"""explain: every step of a decision in words, and the same outcome that the caller would get."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from imds_proxy.errors import AWSError, Refusal, Trouble
from imds_proxy.explain import Door, Explanation, NameFound, explain
from imds_proxy.model import canonical_address
from tests.standins.core import ADDRESS, NAME, ROLE, Core, deny, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.sts import CountedSts
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import IPAddress, RoleSession
    from imds_proxy.sts import Sts


class TellingSts(CountedSts):
    """Says why it refused, or can't."""

    diagnosis: str | Trouble = "there is no role roleprefix-tuvfoo in account 000123456789"

    async def diagnose_refusal(self, session: RoleSession) -> str:
        """Return or raise what a test set."""
        assert session.role_name == ROLE
        if isinstance(self.diagnosis, Trouble):
            raise self.diagnosis
        return self.diagnosis


def lets_in(*addresses: str) -> frozenset[IPAddress]:
    return frozenset(map(canonical_address, addresses))


async def ask(core: Core, address: str = ADDRESS, *, sts: TellingSts | None = None) -> Explanation:
    doors = [
        Door("169.254.169.254:80", lets_in("10.9.9.9").__contains__, core.judge),
        Door("127.0.0.1:8080", lets_in(ADDRESS, "10.0.0.6", "fd00::5").__contains__, core.judge),
    ]
    return await explain(
        canonical_address(address), doors, sts=cast("Sts | None", sts), clock=core.clock.clock()
    )


@in_virtual_time
async def test_granted(tmp_path: Path) -> None:
    """The listener, the provider, each name, the grant and the session: each is a step."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.set_pointers(ADDRESS, NAME, "x.other.example", "stray.valid.example")
        said = await ask(core)
        assert (said.outcome, said.account, said.account_id, said.role) == (
            "granted",
            "main",
            "000123456789",
            ROLE,
        )
        assert said.role_arn == f"arn:aws:iam::000123456789:role/{ROLE}"
        assert (said.session_name, said.access_key_id, said.expiration) == (NAME, None, None)
        assert set(said.names) == {
            NameFound(NAME, confirmed=True, allowed=True),
            NameFound("x.other.example", confirmed=False, allowed=False),
            NameFound("stray.valid.example", confirmed=False, allowed=True),
        }
        assert said.steps == (
            "listener 169.254.169.254:80: 10.0.0.5 is not in its callers, or in callers_except",
            "listener 127.0.0.1:8080: 10.0.0.5 is in its callers",
            "provider machines decides",
            "name x.other.example: is in no allowed domain",
            f"name {NAME}: leads back to 10.0.0.5",
            "name stray.valid.example: does not lead back to 10.0.0.5",
            f"confirmed: {NAME}",
            f"grant: role {ROLE} in account main, because {said.reason}",
            f"role ARN: {said.role_arn}",
            f"session name: {NAME}",
        )


@in_virtual_time
async def test_no_listener(tmp_path: Path) -> None:
    """An address that no listener lets in is refused; neither provider nor DNS is asked."""
    provider = ScriptedProvider()
    with running_core(tmp_path, provider=provider) as core:
        said = await ask(core, "192.0.2.1")
        assert (said.outcome, said.reason) == ("refused", "no listener lets this address in")
        assert said.steps[-1] == "refused: no listener lets this address in"
        assert (provider.callers, core.dns.questions) == ([], [])


@in_virtual_time
async def test_refused(tmp_path: Path) -> None:
    """A refusal ends in its reason, after what was found."""
    with running_core(tmp_path) as core:
        core.dns.set_pointers(ADDRESS, NAME)
        said = await ask(core)
        assert (said.outcome, said.role) == ("refused", None)
        assert said.names == (NameFound(NAME, confirmed=False, allowed=True),)
        assert said.steps[-2:] == (
            f"name {NAME}: does not lead back to {ADDRESS}",
            "refused: no PTR name is allowed and leads back",
        )


@in_virtual_time
async def test_denied(tmp_path: Path) -> None:
    """Who is cut off reads that."""
    with running_core(tmp_path, denied=deny(ADDRESS)) as core:
        assert (await ask(core)).reason == "the address is denied"


@in_virtual_time
async def test_trouble(tmp_path: Path) -> None:
    """When DNS fails the question that failed is named."""
    with running_core(tmp_path) as core:
        core.dns.fail(ADDRESS, "no answer in time")
        said = await ask(core)
        assert (said.outcome, said.names) == ("trouble", ())
        assert said.steps[-2:] == (
            f"DNS fails: {ADDRESS}: no answer in time",
            f"trouble: {ADDRESS}: no answer in time",
        )


@in_virtual_time
async def test_stale(tmp_path: Path) -> None:
    """Names that stand in are said to."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        core.dns.fail()
        await asyncio.sleep(1)
        said = await ask(core)
        assert said.outcome == "granted"
        assert f"DNS fails now ({ADDRESS}: SERVFAIL): the last confirmed names count on" in said.steps


@in_virtual_time
async def test_what_is_true_now(tmp_path: Path) -> None:
    """A grant is looked at anew: what is remembered is not what the operator asks for."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME, ttl=3600)
        await core.round()
        core.dns.set_pointers(ADDRESS)
        await asyncio.sleep(1)
        assert (await ask(core)).reason == "no PTR record"


@in_virtual_time
async def test_an_ipv6_address_without_a_name(tmp_path: Path) -> None:
    """It may be a temporary one: the reason says so, a step says what to do. An IPv4 address is none."""
    with running_core(tmp_path) as core:
        said = await ask(core, "fd00::5")
        assert said.reason == "no PTR record (a temporary address? docs/imds.md#temporary-addresses)"
        assert any("ip -6 route add fd00:ec2::254/128 via GATEWAY src ADDRESS" in step for step in said.steps)
        assert not any("ip -6" in step for step in (await ask(core)).steps)


@in_virtual_time
async def test_no_names_asked_for(tmp_path: Path) -> None:
    """A provider that decides by address alone says that it asked for no name."""
    with running_core(tmp_path, provider=ScriptedProvider()) as core:
        said = await ask(core)
        assert said.outcome == "granted"
        assert "names: the provider asked for none" in said.steps


@in_virtual_time
async def test_nothing_is_fetched(tmp_path: Path) -> None:
    """Without `--assume` STS is not asked, and explaining is no request of the caller's."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await ask(core)
        assert core.sts.calls == []
        assert core.broker.size == 0
        assert core.records() == []


# --- with an AssumeRole ------------------------------------------------------------------------------


@in_virtual_time
async def test_assumed(tmp_path: Path) -> None:
    """With `--assume` STS is really asked; the access key's id and end are said, no secret is."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        sts = TellingSts(core.clock)
        said = await ask(core, sts=sts)
        assert (said.outcome, said.access_key_id) == ("granted", "ASIA00000001")
        assert said.expiration == "2027-01-15T09:00:00Z"
        assert said.steps[-1] == "AssumeRole: access key ASIA00000001, until 2027-01-15T09:00:00Z"
        assert [session.role_name for session in sts.calls] == [ROLE]
        assert "secret" not in repr(said)
        assert "token-1" not in repr(said)


@pytest.mark.parametrize(
    ("diagnosis", "cause"),
    [
        ("there is no such role", "there is no such role"),
        (AWSError("STS: unreachable", code="X"), "STS: unreachable"),
    ],
)
@in_virtual_time
async def test_refused_by_sts(tmp_path: Path, diagnosis: str | Trouble, cause: str) -> None:
    """A role that STS refuses is refused, with the cause as far as it can be told."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        sts = TellingSts(core.clock)
        sts.failure, sts.diagnosis = Refusal("STS: AccessDenied"), diagnosis
        said = await ask(core, sts=sts)
        assert (said.outcome, said.reason) == ("refused", f"STS: AccessDenied ({cause})")
        assert said.steps[-2:] == ("AssumeRole: STS: AccessDenied", f"refused: {cause}")
        assert (said.role, said.access_key_id) == (ROLE, None)


@in_virtual_time
async def test_sts_in_trouble(tmp_path: Path) -> None:
    """When STS can't be asked that is trouble, not a refusal."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        sts = TellingSts(core.clock)
        sts.failure = AWSError("STS: unreachable", code="X")
        said = await ask(core, sts=sts)
        assert (said.outcome, said.reason) == ("trouble", "STS: unreachable")


@in_virtual_time
async def test_a_refused_caller_is_not_assumed_for(tmp_path: Path) -> None:
    """Without a grant STS is not asked, `--assume` or not."""
    with running_core(tmp_path) as core:
        sts = TellingSts(core.clock)
        assert (await ask(core, sts=sts)).outcome == "refused"
        assert sts.calls == []
