"""broker: how long credentials must live for whom, who waits for a renewal, what STS's failures come to."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from imds_proxy.broker import ANSWER_HOLD
from imds_proxy.errors import AWSError, OverloadError, Refusal
from tests.standins.core import ADDRESS, NAME, ROLE, Core, running_core
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60.0
FIRST_KEY, SECOND_KEY = "ASIA00000001", "ASIA00000002"
DENIED = Refusal("STS: AccessDenied: no")
UNREACHABLE = AWSError("STS: unreachable", code="EndpointConnectionError")


async def fetch(core: Core, *, left: float, is_asked: bool = True) -> None:
    """Have credentials fetched that live so many seconds; not asked for, no timer renews them."""
    core.dns.add_host(ADDRESS, NAME)
    core.sts.lifetime = left
    assert await core.round() == (ROLE, FIRST_KEY)
    if not is_asked:
        core.cache.forget_demand()
    core.sts.lifetime = None


async def is_answered_at_once(core: Core) -> bool:
    """Tell whether LIST and ROLE are answered without waiting for anything."""
    requests = [asyncio.ensure_future(core.role_list()), asyncio.ensure_future(core.role())]
    await asyncio.sleep(0.001)
    done = all(request.done() for request in requests)
    await asyncio.gather(*requests)
    return done


# --- the last minute ---------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [DENIED, UNREACHABLE], ids=["refused", "trouble"])
@in_virtual_time
async def test_the_last_minute(tmp_path: Path, failure: Exception) -> None:
    """Held credentials are served down to 60 s before their end; a ROLE after its LIST down to 45 s."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE)
        core.sts.failure = failure
        status = 404 if isinstance(failure, Refusal) else 503
        await asyncio.sleep(29 * MINUTE - 1)
        assert await core.round() == (ROLE, FIRST_KEY)
        await asyncio.sleep(2)
        assert (await core.role_list(), await core.role()) == (status, FIRST_KEY)
        await asyncio.sleep(13)
        assert await core.role() == FIRST_KEY
        await asyncio.sleep(2)
        assert await core.role() == status


@in_virtual_time
async def test_the_last_minute_without_a_list(tmp_path: Path) -> None:
    """A ROLE whose LIST was more than 60 s ago gets nothing in the last minute."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE)
        core.sts.failure = UNREACHABLE
        await asyncio.sleep(29 * MINUTE + 1)
        await core.token()
        assert await core.role() == 503


@in_virtual_time
async def test_new_credentials_in_the_last_minute(tmp_path: Path) -> None:
    """A LIST in the last minute waits for new credentials, and names the role when they are there."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE, is_asked=False)
        await asyncio.sleep(29 * MINUTE + 1)
        assert len(core.sts.calls) == 1
        core.sts.seconds = 0.5
        assert (await core.role_list(), await core.role()) == (ROLE, SECOND_KEY)


# --- who waits for a renewal -------------------------------------------------------------------------


@in_virtual_time
async def test_token_waits_for_a_renewal(tmp_path: Path) -> None:
    """With less than 25 minutes left a TOKEN waits for new credentials: the caller then gets those."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE, is_asked=False)
        await asyncio.sleep(5 * MINUTE + 1)
        assert len(core.sts.calls) == 1
        core.sts.seconds = 0.3
        assert await core.round() == (ROLE, SECOND_KEY)


@in_virtual_time
async def test_a_list_without_token_waits_for_a_renewal(tmp_path: Path) -> None:
    """With IMDSv1, which has no TOKEN, the LIST does."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE, is_asked=False)
        await asyncio.sleep(5 * MINUTE + 1)
        assert len(core.sts.calls) == 1
        core.sts.seconds = 0.3
        assert await core.role_list(is_v1=True) == ROLE
        assert await core.role() == SECOND_KEY


@pytest.mark.parametrize("is_v1", [False, True], ids=["TOKEN", "LIST without a token"])
@in_virtual_time
async def test_a_renewal_that_takes_longer_than_the_hold(tmp_path: Path, is_v1: bool) -> None:
    """What is held is served after the hold; the renewal goes on and serves the next round."""
    with running_core(tmp_path) as core:
        await fetch(core, left=30 * MINUTE, is_asked=False)
        await asyncio.sleep(5 * MINUTE + 1)
        core.sts.seconds = 3
        if not is_v1:
            await core.token()
        assert (await core.role_list(is_v1=is_v1), await core.role()) == (ROLE, FIRST_KEY)
        await asyncio.sleep(3)
        assert await core.round() == (ROLE, SECOND_KEY)
        assert len(core.sts.calls) == 2


@pytest.mark.parametrize("left", [35, 29, 24, 10, 2])
@in_virtual_time
async def test_list_and_role_never_wait_for_a_renewal(tmp_path: Path, left: float) -> None:
    """While usable credentials are held LIST and ROLE are answered at once, however little is left."""
    with running_core(tmp_path) as core:
        await fetch(core, left=60 * MINUTE)
        core.sts.silence()
        for _ in range(60 - int(left)):
            await asyncio.sleep(MINUTE)
            assert await core.role_list() == ROLE
        assert await is_answered_at_once(core)


@in_virtual_time
async def test_a_renewal_in_time_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """With 25 to 30 minutes left a renewal begins behind the callers' back; TOKEN does not wait."""
    with running_core(tmp_path) as core:
        await fetch(core, left=60 * MINUTE)
        core.sts.silence()
        await asyncio.sleep(31 * MINUTE)
        token = asyncio.ensure_future(core.token())
        await asyncio.sleep(0.001)
        assert token.done()
        assert len(core.sts.calls) == 2


@in_virtual_time
async def test_a_short_life(tmp_path: Path) -> None:
    """Where STS gives 20 minutes, tokens try again once at once and then once a minute; all are served."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.lifetime = 20 * MINUTE
        for _ in range(30):
            assert (await core.round())[0] == ROLE
            await asyncio.sleep(10)
        assert len(core.sts.calls) == 6


@in_virtual_time
async def test_every_hand_out_lives_for_25_minutes(tmp_path: Path) -> None:
    """While STS is well, whoever comes at any time gets credentials for 25 minutes at least."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        for number in range(60):
            await core.round()
            entry = core.standing().entry
            assert entry is not None
            assert entry.credentials is not None
            assert entry.credentials.expiry - core.clock.wall() >= 25 * MINUTE
            await asyncio.sleep(37 * number)


# --- STS fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [UNREACHABLE, OverloadError("full")], ids=["AWS", "our own limit"])
@in_virtual_time
async def test_trouble_with_nothing_held(tmp_path: Path, failure: Exception) -> None:
    """503 at LIST and ROLE; in between the tries at once and without a call."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.failure = failure
        assert await core.round() == (503, 503)
        core.sts.silence()
        assert await is_answered_at_once(core)
        assert len(core.sts.calls) == 1
        core.sts.speak()
        core.sts.failure = None
        await asyncio.sleep(0.5)
        assert await core.round() == (ROLE, SECOND_KEY)


@in_virtual_time
async def test_back_off(tmp_path: Path) -> None:
    """Who asks all the time causes a call after 0.5 s, then after twice as long each, 5 s at most."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.failure = UNREACHABLE
        for _ in range(250):
            assert await core.round() == (503, 503)
            await asyncio.sleep(0.1)
        pauses = [later - earlier for earlier, later in pairwise(core.sts.called_at)]
        assert pauses == pytest.approx([0.5, 1, 2, 4, 5, 5, 5], abs=0.11)


@in_virtual_time
async def test_a_refusal_with_nothing_held(tmp_path: Path) -> None:
    """STS refuses: 404 at LIST and ROLE, remembered for 10 s."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.failure = DENIED
        for _ in range(98):
            assert await core.round() == (404, 404)
            await asyncio.sleep(0.1)
        assert len(core.sts.calls) == 1
        core.sts.failure = None
        await asyncio.sleep(0.3)
        assert await core.round() == (ROLE, SECOND_KEY)


@pytest.mark.parametrize("failure", [DENIED, UNREACHABLE], ids=["refused", "trouble"])
@in_virtual_time
async def test_failures_with_credentials_held(tmp_path: Path, failure: Exception) -> None:
    """With credentials held no failure of their renewal is seen by a caller; a refusal is reported once."""
    with running_core(tmp_path) as core:
        await fetch(core, left=60 * MINUTE)
        core.sts.failure = failure
        for _ in range(58):
            await asyncio.sleep(MINUTE)
            assert await core.round() == (ROLE, FIRST_KEY)
        assert len(core.refused_renewals) == (1 if isinstance(failure, Refusal) else 0)


@in_virtual_time
async def test_a_role_session_that_ended(tmp_path: Path) -> None:
    """When all has ended while STS was down, callers are 503, and served again as soon as STS is back."""
    with running_core(tmp_path) as core:
        await fetch(core, left=60 * MINUTE)
        core.sts.failure = UNREACHABLE
        await asyncio.sleep(65 * MINUTE)
        assert await core.round() == (503, 503)
        core.sts.failure = None
        await asyncio.sleep(5)
        assert (await core.round())[0] == ROLE


@in_virtual_time
async def test_a_failure_ends_the_wait(tmp_path: Path) -> None:
    """A LIST that waits for STS is answered when STS fails, not when its hold is over."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.seconds = 0.3
        core.sts.failure = UNREACHABLE
        request = asyncio.ensure_future(core.role_list())
        await asyncio.sleep(ANSWER_HOLD / 2)
        assert request.done()
        assert request.result() == 503


@in_virtual_time
async def test_the_same_failure_for_many(tmp_path: Path) -> None:
    """A hundred who are told of one failure get an error each; none of them sees the others' way."""
    with running_core(tmp_path, is_shared=True) as core:
        callers = [f"10.0.{number}.5" for number in range(100)]
        for number, caller in enumerate(callers):
            core.dns.add_host(caller, f"tuvfoo{number:02}.valid.example")
        core.sts.failure = UNREACHABLE
        assert set(await asyncio.gather(*(core.round(caller) for caller in callers))) == {(503, 503)}
        assert len(core.sts.calls) == 1
