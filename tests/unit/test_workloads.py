"""Workloads in the core: who has proved a name by a token is known by it, and by its address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from imds_proxy_providers import simple

from imds_proxy.errors import Refusal, Trouble
from imds_proxy.explain import Door, explain
from imds_proxy.model import canonical_address
from imds_proxy.names import parse_workload
from imds_proxy.standing import Standings
from tests.standins.callers import NamedCaller
from tests.standins.core import ACCOUNTS, ADDRESS, NAME, ROLE, Core, deny, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import Credentials, IPAddress, RoleSession

HOST = canonical_address(ADDRESS)
OTHER_HOST = canonical_address("10.0.0.6")
WEB, DB = "tuvweb01.valid.example", "tuvdb01.valid.example"


async def fetch(
    core: Core, workload: str | None, address: IPAddress = HOST
) -> tuple[RoleSession, Credentials]:
    """Return what a container's client gets."""
    return await core.broker.role_and_credentials(core.broker.standing(address, workload))


def lists_workloads() -> simple.Provider:
    """Return the provider simple with roles for two workloads, one of them at one host only, and the host."""
    grants = [
        {"workloads": [WEB], "account": "main", "role": "web"},
        {"workloads": [DB], "callers": [ADDRESS], "account": "main", "role": "db"},
        {"callers": [ADDRESS], "account": "main", "role": "host"},
    ]
    return simple.Provider(simple.Settings.model_validate({"grants": grants}, context={"accounts": ACCOUNTS}))


# --- standings -------------------------------------------------------------------------------------


def test_each_has_a_standing_of_its_own() -> None:
    """An address, a workload there, another, the same one elsewhere: four; each is found again."""
    standings = Standings()
    keys = [(HOST, None), (HOST, WEB), (HOST, DB), (OTHER_HOST, WEB)]
    first = [standings.of(address, workload) for address, workload in keys]
    assert len({id(standing) for standing in first}) == len(standings) == 4
    assert [standings.of(address, workload) for address, workload in keys] == first
    assert [(standing.address, standing.workload) for standing in first] == keys
    standings.retire()
    assert not any(standing.is_current for standing in first)


# --- verdicts and credentials ----------------------------------------------------------------------


@in_virtual_time
async def test_two_workloads_and_their_host(tmp_path: Path) -> None:
    """Three roles, three sessions, three keys, whoever asks first or again; each has its own record."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        callers = (WEB, DB, None)
        got = [await fetch(core, workload) for workload in callers]
        assert [session.role_name for session, _ in got] == ["web", "db", "host"]
        assert [session.session_name for session, _ in got] == [WEB, DB, ADDRESS]
        keys = [credentials.access_key for _, credentials in got]
        assert len(set(keys)) == 3
        again = [(await fetch(core, workload))[1].access_key for workload in callers]
        assert again == keys
        assert [(one["caller"], one["name"], one["role"]) for one in core.records()] == [
            (ADDRESS, WEB, "web"),
            (ADDRESS, DB, "db"),
            (ADDRESS, None, "host"),
        ]


@in_virtual_time
async def test_two_at_once(tmp_path: Path) -> None:
    """Workloads that ask at the same moment wait for their own decision and their own AssumeRole."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        got = await asyncio.gather(*(fetch(core, workload) for workload in (WEB, DB) * 10))
        assert [session.role_name for session, _ in got] == ["web", "db"] * 10
        assert len({credentials.access_key for _, credentials in got}) == 2


@in_virtual_time
async def test_one_refused_beside_one_granted(tmp_path: Path) -> None:
    """A refusal belongs to the workload alone; its record has its name."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        with pytest.raises(Refusal):
            await fetch(core, DB, OTHER_HOST)
        with pytest.raises(Refusal):
            await fetch(core, None, OTHER_HOST)
        session, _ = await fetch(core, WEB, OTHER_HOST)
        assert session.role_name == "web"
        # Hand-outs may pass refusals on their way into the file.
        assert {(one["name"], one["outcome"]) for one in core.records()} == {
            (DB, "refused"),
            (None, "refused"),
            (WEB, "granted"),
        }


@in_virtual_time
async def test_head_of_another_workload(tmp_path: Path) -> None:
    """What is known of one workload is known of no other, and not of their host."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        _, credentials = await fetch(core, WEB)
        assert core.broker.peek(core.broker.standing(HOST, WEB))[1] is credentials
        for workload in (DB, None):
            with pytest.raises(Trouble):
                core.broker.peek(core.broker.standing(HOST, workload))


@in_virtual_time
async def test_the_workloads_name_makes_the_role(tmp_path: Path) -> None:
    """by_ip takes a workload's name as confirmed, without DNS, and whatever name its host has."""
    with running_core(tmp_path, hosts={ADDRESS: NAME}) as core:
        core.dns.fail()
        assert (await fetch(core, None))[0].role_name == ROLE
        session, _ = await fetch(core, "berweb01.valid.example")
        assert (session.role_name, session.session_name) == ("roleprefix-proweb", "berweb01.valid.example")
        assert core.dns.questions == []


@pytest.mark.parametrize("name", ["tuvweb01.evil.example", "tuvweb01.a.valid.example", "valid.example"])
@in_virtual_time
async def test_a_name_in_no_allowed_domain(name: str, tmp_path: Path) -> None:
    """A token proves the name, not that the name counts here; the reason says where it came from."""
    with running_core(tmp_path, hosts={ADDRESS: NAME}) as core:
        with pytest.raises(Refusal, match=r"\(from its token\) is in no allowed domain"):
            await fetch(core, name)
        assert core.sts.calls == []
        assert [one["name"] for one in core.records()] == [name]


@pytest.mark.parametrize("denied", [WEB, ADDRESS])
@in_virtual_time
async def test_denied(denied: str, tmp_path: Path) -> None:
    """`deny:` cuts a workload off by its name and by its address."""
    for provider in (lists_workloads(), None):
        with running_core(tmp_path, provider=provider, denied=deny(denied)) as core:
            with pytest.raises(Refusal, match="is denied"):
                await fetch(core, WEB)
            assert core.sts.calls == []


@in_virtual_time
async def test_its_host_is_denied(tmp_path: Path) -> None:
    """A denied host gets nothing, so neither do the workloads that ask from its address."""
    with running_core(tmp_path, hosts={ADDRESS: NAME}, denied=deny(NAME)) as core:
        for workload in (WEB, None):
            with pytest.raises(Refusal, match=f"the name {NAME} is denied"):
                await fetch(core, workload)
        assert (await fetch(core, WEB, OTHER_HOST))[0].role_name == "roleprefix-tuvweb"


@in_virtual_time
async def test_no_verdict_in_time(tmp_path: Path) -> None:
    """Trouble before there is a verdict is on record under the workload's name, too."""
    provider = ScriptedProvider()
    provider.seconds = 3
    with running_core(tmp_path, provider=provider) as core:
        with pytest.raises(Trouble):
            await fetch(core, WEB)
        assert [(one["name"], one["outcome"]) for one in core.records()] == [(WEB, "trouble")]


# --- simple ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "workload", "role"),
    [
        (ADDRESS, WEB, "web"),
        ("10.0.0.6", WEB, "web"),
        ("fd00::1", WEB, "web"),
        (ADDRESS, DB, "db"),
        ("10.0.0.6", DB, None),
        (ADDRESS, "other.valid.example", None),
        (ADDRESS, None, "host"),
        ("10.0.0.6", None, None),
    ],
)
async def test_simple(address: str, workload: str | None, role: str | None) -> None:
    """An entry with `workloads` is for these from its networks; one without, for callers without a token."""
    caller = NamedCaller(address, workload=workload)
    if role is None:
        with pytest.raises(Refusal, match=f"{workload} at {address}" if workload else address):
            await lists_workloads().grants_for(caller)
        return
    (grant,) = await lists_workloads().grants_for(caller)
    assert grant.role == role
    assert caller.look_ups == []


@pytest.mark.parametrize("workloads", [[], ["web pods"], ["10.0.0.5"], [""], None])
def test_simple_without_names(workloads: object) -> None:
    """An empty list would be nobody, and a list of nothing everybody: faults, as what is no name."""
    grants = [{"workloads": workloads, "account": "main", "role": "web"}]
    if workloads is None:
        grants[0]["workloads"] = ["WEB.Pods.example."]
        settings = simple.Settings.model_validate({"grants": grants}, context={"accounts": ACCOUNTS})
        assert settings.grants[0].workloads == ["web.pods.example"]
        return
    with pytest.raises(ValueError, match="workloads"):
        simple.Settings.model_validate({"grants": grants}, context={"accounts": ACCOUNTS})


@pytest.mark.parametrize("text", ["web.pods.example", "web", "a_b-1.proj_default", "WEB.", "1a"])
def test_names(text: str) -> None:
    """A workload's name reads like a host name; case and a last dot don't matter."""
    assert parse_workload(text) == text.lower().removesuffix(".")


@pytest.mark.parametrize(
    "text", ["", "10.0.0.5", "web.7", "::1", "-web", "a..b", "a b", "a/b", "x" * 64, "é"]
)
def test_no_names(text: str) -> None:
    """What could be taken for an address, or for more than one name, is none."""
    assert parse_workload(text) is None


# --- explain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "outcome", "role", "said"),
    [
        (None, "refused", None, "name the workload with --workload"),
        (WEB, "granted", "web", "(container credentials): 10.0.0.5 is in its callers"),
        ("new.valid.example", "refused", None, "no entry of grants matches new.valid.example at 10.0.0.5"),
    ],
)
@in_virtual_time
async def test_explain(
    workload: str | None, outcome: str, role: str | None, said: str, tmp_path: Path
) -> None:
    """A listener where the workload decides is explained for a workload, and for nobody else."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        door = Door("127.0.0.1:80", lambda _: True, core.judge, is_for_containers=True, is_by_workload=True)
        clock = core.clock.clock()
        explanation = await explain(HOST, [door], workload=workload, sts=None, clock=clock)
        assert (explanation.outcome, explanation.role) == (outcome, role)
        assert any(said in step for step in explanation.steps), explanation.steps


@in_virtual_time
async def test_explain_where_the_address_decides(tmp_path: Path) -> None:
    """Where the address decides, a workload's name is beside the point."""
    with running_core(tmp_path, provider=lists_workloads()) as core:
        door = Door("127.0.0.1:80", lambda _: True, core.judge, is_for_containers=True)
        clock = core.clock.clock()
        for workload, outcome in ((None, "granted"), (WEB, "refused")):
            explanation = await explain(HOST, [door], workload=workload, sts=None, clock=clock)
            assert explanation.outcome == outcome
