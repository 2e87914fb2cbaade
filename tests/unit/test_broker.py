"""broker: what TOKEN, LIST, ROLE and HEAD are answered, and how long they wait."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from imds_proxy.broker import ANSWER_HOLD, TOKEN_HOLD
from imds_proxy.errors import Refusal
from imds_proxy.model import canonical_address
from imds_proxy.standing import MOST_STANDINGS
from tests.standins.core import ADDRESS, NAME, ROLE, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

FIRST_KEY = "ASIA00000001"


def test_the_holds() -> None:
    """TOKEN waits for 0.4 s: Go v2 gives up at 0.5. LIST and ROLE wait for 0.85 s: most give up at 1.0."""
    assert (TOKEN_HOLD, ANSWER_HOLD) == (0.4, 0.85)


async def answers_at(hold: float, request: Coroutine[None, None, object]) -> object:
    """Return the answer of a request that waits until its hold is over, and not longer."""
    task = asyncio.ensure_future(request)
    await asyncio.sleep(hold - 0.01)
    assert not task.done()
    await asyncio.sleep(0.02)
    assert task.done()
    return task.result()


@in_virtual_time
async def test_a_cold_caller(tmp_path: Path) -> None:
    """TOKEN starts the look-up and AssumeRole; LIST names the role and ROLE hands out, of one call."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert len(core.sts.calls) == 1
        assert core.dns.questions == [ADDRESS, NAME]
        (session,) = core.sts.calls
        assert (session.role_name, session.session_name) == (ROLE, NAME)


@in_virtual_time
async def test_list_without_token(tmp_path: Path) -> None:
    """A LIST without a TOKEN before it (IMDSv1) does all by itself."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.role_list(is_v1=True) == ROLE
        assert await core.role() == FIRST_KEY
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_role_without_list(tmp_path: Path) -> None:
    """A ROLE without a LIST before it does all by itself."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert await core.role() == FIRST_KEY
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_warm_rounds_ask_nobody(tmp_path: Path) -> None:
    """While verdict and credentials are fresh neither DNS nor STS is asked anything."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        for _ in range(20):
            assert await core.round() == (ROLE, FIRST_KEY)
            await asyncio.sleep(0.2)
        assert core.dns.questions == [ADDRESS, NAME]
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_two_callers(tmp_path: Path) -> None:
    """Two machines of one role have credentials of their own, named after each."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host("10.0.0.6", "tuvfoo43.valid.example")
        first, second = await asyncio.gather(core.round(), core.round("10.0.0.6"))
        assert first[0] == second[0] == ROLE
        assert first[1] != second[1]
        assert {session.session_name for session in core.sts.calls} == {NAME, "tuvfoo43.valid.example"}


@in_virtual_time
async def test_a_hundred_callers_of_one_shared_session(tmp_path: Path) -> None:
    """With `session: shared` a hundred cold callers of one grant cause one AssumeRole."""
    with running_core(tmp_path, is_shared=True) as core:
        callers = [f"10.0.{number}.5" for number in range(100)]
        for number, caller in enumerate(callers):
            core.dns.add_host(caller, f"tuvfoo{number:02}.valid.example")
        core.sts.seconds = 0.3
        answers = await asyncio.gather(*(core.round(caller) for caller in callers))
        assert set(answers) == {(ROLE, FIRST_KEY)}
        assert [session.session_name for session in core.sts.calls] == ["imds-proxy-gateway"]


@in_virtual_time
async def test_another_role_s_name(tmp_path: Path) -> None:
    """Asking for any role but one's own is 404, before and after a LIST."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        asked = ["roleprefix-other", "", ROLE.upper(), ROLE + "/", ROLE + "\n", "roleprefix-tuvfo"]
        before = [await core.role(role) for role in asked]
        assert await core.role_list() == ROLE
        after = [await core.role(role) for role in asked]
        assert before + after == [404] * 12


@pytest.mark.parametrize("slow", ["dns", "sts", "provider"])
@in_virtual_time
async def test_token_waits_for_so_long(tmp_path: Path, slow: str) -> None:
    """TOKEN is answered when its hold is over, whatever is still under way."""
    provider = ScriptedProvider() if slow == "provider" else None
    with running_core(tmp_path, provider=provider, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME)
        if slow == "dns":
            core.dns.silence()
        elif slow == "sts":
            core.sts.silence()
        elif provider is not None:
            provider.seconds = 4
        assert await answers_at(TOKEN_HOLD, core.token()) is None


@pytest.mark.parametrize("request_kind", ["LIST", "LIST without a token", "ROLE"])
@pytest.mark.parametrize("slow", ["dns", "sts"])
@in_virtual_time
async def test_list_and_role_wait_for_so_long(tmp_path: Path, slow: str, request_kind: str) -> None:
    """LIST and ROLE are 503 when their hold is over; what is under way goes on, and serves the next round."""
    with running_core(tmp_path, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME)
        if slow == "dns":
            core.dns.silence()
        else:
            core.sts.silence()
        request = {
            "LIST": core.role_list(),
            "LIST without a token": core.role_list(is_v1=True),
            "ROLE": core.role(),
        }
        for kind, unused in request.items():
            if kind != request_kind:
                unused.close()
        assert await answers_at(ANSWER_HOLD, request[request_kind]) == 503
        await asyncio.sleep(3)
        core.dns.heal()
        core.sts.speak()
        await asyncio.sleep(0.01)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert core.dns.questions == [ADDRESS, NAME]
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_the_holds_are_for_all_together(tmp_path: Path) -> None:
    """One hold is for look-up, AssumeRole and renewal together: none of them begins it anew."""
    with running_core(tmp_path, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.3)
        core.sts.silence()
        assert await answers_at(ANSWER_HOLD, core.role_list(is_v1=True)) == 503


@in_virtual_time
async def test_what_comes_within_the_hold_is_served(tmp_path: Path) -> None:
    """A cold LIST gets its answer when look-up and AssumeRole together take a little less than its hold."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.2)
        core.sts.seconds = ANSWER_HOLD - 0.41
        assert await core.role_list() == ROLE


@pytest.mark.parametrize(("seconds", "at_first"), [(0.3, True), (0.8, True), (3, False)])
@in_virtual_time
async def test_a_slow_sts(tmp_path: Path, seconds: float, at_first: bool) -> None:
    """With STS slower by 0.3 and 0.8 s the first round succeeds, by 3 s the second, a moment later."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.seconds = seconds
        assert ((await core.round())[0] == ROLE) is at_first
        await asyncio.sleep(2)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert len(core.sts.calls) == 1


@in_virtual_time
async def test_who_hangs_up_cancels_nothing(tmp_path: Path) -> None:
    """The first caller hangs up at each stage; the next round finds the result, of the same flights."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.5)
        core.sts.seconds = 0.5
        for request in (core.token(), core.role_list(), core.role()):
            task = asyncio.ensure_future(request)
            await asyncio.sleep(0.3)
            task.cancel()
        await asyncio.sleep(1)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert (len(core.sts.calls), core.sts.cancelled) == (1, 0)
        assert core.dns.questions == [ADDRESS, NAME]


@in_virtual_time
async def test_while_boto3_is_loading(tmp_path: Path) -> None:
    """While boto3 is still being imported TOKEN does not wait for credentials, but has them fetched."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.is_loaded = False
        core.sts.seconds = 0.3
        await core.token()
        assert (len(core.sts.calls), core.cache.flights) == (1, 1)
        assert await core.role_list() == ROLE


@in_virtual_time
async def test_head_starts_nothing(tmp_path: Path) -> None:
    """HEAD says what is known: nothing, then the verdict without credentials, then credentials."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert core.head() == 503
        await asyncio.sleep(1)
        assert (core.dns.questions, core.sts.calls) == ([], [])
        core.sts.silence()
        await core.token()
        assert core.head() == 503
        core.sts.speak()
        await asyncio.sleep(0.01)
        assert core.head() == FIRST_KEY
        await asyncio.sleep(61)
        assert core.head() == 503
        assert core.dns.questions == [ADDRESS, NAME]


@in_virtual_time
async def test_what_is_no_hand_out(tmp_path: Path) -> None:
    """Role and credentials for `iam/info` and the like are found as at LIST, without a hand-out."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        session, credentials = await core.broker.obtain(core.standing())
        assert (session.role_name, credentials.access_key) == (ROLE, FIRST_KEY)
        with pytest.raises(Refusal):
            await core.broker.obtain(core.standing("10.0.0.6"))
        assert core.records() == []
        assert core.metrics.hand_outs.counts == {}


@in_virtual_time
async def test_a_reload(tmp_path: Path) -> None:
    """A broker that is retired forgets all verdicts, what LIST said included; connections see that."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        standing = core.standing()
        core.broker.retire()
        assert (standing.is_current, core.broker.size) == (False, 0)
        assert core.head() == 503
        assert core.broker.standing(canonical_address(ADDRESS)) is not standing


@in_virtual_time
async def test_a_decision_under_way_at_a_reload(tmp_path: Path) -> None:
    """A decision that ends after its broker was retired is not known to the broker any more."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.1)
        request = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.05)
        core.broker.retire()
        assert await request == ROLE
        assert core.broker.size == 0


@in_virtual_time
async def test_closing(tmp_path: Path) -> None:
    """Closing cancels the decisions under way; requests that wait for them are 503."""
    with running_core(tmp_path) as core:
        core.dns.silence()
        request = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(0.1)
        await core.broker.close()
        assert await request == 503


@in_virtual_time
async def test_strangers_are_forgotten_first(tmp_path: Path) -> None:
    """However many addresses without a grant ask, only so many are known, and none with a grant goes."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        known, stranger = core.standing(), core.standing("11.0.0.0")
        for number in range(1, MOST_STANDINGS + 1):
            core.broker.standing(IPv4Address(0x0B000000 + number))
        assert core.broker.size == MOST_STANDINGS + 1
        assert (known.is_current, stranger.is_current) == (True, False)
        assert core.standing() is known


@in_virtual_time
async def test_a_token_during_a_look_up_that_is_too_old(tmp_path: Path) -> None:
    """A TOKEN that finds a look-up under way from before its time has another one made after it."""
    with running_core(tmp_path, recheck=0, deadline=60) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.delay(0.3)
        early = asyncio.ensure_future(core.token())
        await asyncio.sleep(0.35)
        core.dns.add_host(ADDRESS, "tuvbar42.valid.example")
        await core.token()
        await early
        await asyncio.sleep(1)
        assert await core.role_list() == "roleprefix-tuvbar"
        assert core.dns.questions == [ADDRESS, NAME, ADDRESS, "tuvbar42.valid.example"]
