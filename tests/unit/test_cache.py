"""cache: one AssumeRole for all who wait, keys that never mix, and what a failure leaves standing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imds_proxy.errors import AWSError, OverloadError, Refusal, Trouble
from imds_proxy.model import RoleSession, canonical_address
from tests.standins.sts import ROLE_SESSION, role_session
from tests.standins.vault import Vault, caller_of
from tests.standins.virtual_time import in_virtual_time

MINUTE = 60.0
DENIED = Refusal("STS: AccessDenied: no")
THROTTLED = AWSError("STS: Throttling: Rate exceeded", code="Throttling")


@in_virtual_time
async def test_one_flight_for_all() -> None:
    """A hundred who need the same credentials at the same time cause one AssumeRole and all get its keys."""
    vault = Vault()
    vault.sts.seconds = 3
    found = await asyncio.gather(*(vault.fetch() for _ in range(100)))
    assert {credentials.access_key for credentials in found if credentials} == {"ASIA00000001"}
    assert None not in found
    assert vault.sts.calls == [ROLE_SESSION]
    assert vault.cache.flights == 0


@in_virtual_time
async def test_one_failure_for_all() -> None:
    """All who wait for a flight that fails share its failure, and none of them begins another."""
    vault = Vault()
    vault.sts.seconds, vault.sts.failure = 3, THROTTLED
    assert await asyncio.gather(*(vault.fetch() for _ in range(100))) == [None] * 100
    assert len(vault.sts.calls) == 1
    assert vault.entry().failure is THROTTLED


@in_virtual_time
async def test_who_hangs_up_cancels_nothing() -> None:
    """The first caller hangs up, then all do: the flight goes on and its credentials are kept."""
    vault = Vault()
    vault.sts.seconds = 3
    waiting = [asyncio.create_task(vault.fetch()) for _ in range(10)]
    await asyncio.sleep(1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (vault.sts.cancelled, vault.cache.flights) == (0, 1)
    await asyncio.sleep(3)
    assert vault.hand_out() == "ASIA00000001"
    assert len(vault.sts.calls) == 1


OTHER_VALUES: dict[str, object] = {
    "signer": "AKIAOTHER",
    "partition": "aws-cn",
    "endpoint": "https://sts.example",
    "account_id": "000123456780",
    "role_arn": "arn:aws:iam::000123456789:role/other",
    "session_name": "tuvfoo43.valid.example",
    "duration": 7200,
    "tags": (("machine", "tuvfoo43"),),
    "policy": '{"Statement":[]}',
    "external_id": "other",
    "source_identity": "tuvfoo43.valid.example",
    "is_person": True,
}


def test_every_field_is_tried() -> None:
    """The next test knows all fields of a role session: a new one is part of the key, too."""
    assert set(OTHER_VALUES) == {field.name for field in fields(RoleSession)}


@pytest.mark.parametrize("field", OTHER_VALUES)
@in_virtual_time
async def test_keys_that_differ_never_share(field: str) -> None:
    """Role sessions that differ in any one field have credentials of their own, each by its own call."""
    vault = Vault()
    other = role_session(**{field: OTHER_VALUES[field]})
    vault.sts.seconds = 1
    first, second = await asyncio.gather(vault.fetch(), vault.fetch(other))
    assert first is not None
    assert second is not None
    assert first.access_key != second.access_key
    assert vault.sts.calls == [ROLE_SESSION, other]
    assert await vault.fetch(role_session(**{field: OTHER_VALUES[field]})) is not first


@in_virtual_time
async def test_the_number_of_entries_is_bounded() -> None:
    """When there are too many role sessions the one that was asked for longest ago goes."""
    vault = Vault(most_entries=2)
    names = [role_session(session_name=f"host{number}") for number in range(3)]
    await vault.fetch(names[0])
    await vault.fetch(names[1])
    vault.entry(names[0])
    await vault.fetch(names[2])
    assert vault.cache.size == 2
    assert [vault.cache.find(name) is not None for name in names] == [True, False, True]


@in_virtual_time
async def test_what_makes_room_is_let_go() -> None:
    """Credentials that made room for others leave memory at once: no timer holds them to their end."""
    vault = Vault(most_entries=1)
    credentials = await vault.fetch()
    assert credentials is not None
    gone = weakref.ref(credentials)
    del credentials
    await vault.fetch(role_session(session_name="host2"))
    gc.collect()
    assert gone() is None


@in_virtual_time
async def test_the_network_with_the_most_makes_room() -> None:
    """Its oldest entries go, some at a time; other networks lose nothing, however long ago they asked."""
    vault = Vault(most_entries=100)
    sizes = {1: 10, 2: 30, 3: 60}
    sessions = {
        (network, number): role_session(session_name=f"{network}-{number}")
        for network, count in sizes.items()
        for number in range(count)
    }
    for (network, number), session in sessions.items():
        vault.entry(session, canonical_address(f"2001:db8:0:{network}::{number:x}"))
    vault.entry(sessions[3, 0], canonical_address("2001:db8:0:3::"))
    vault.entry(role_session(session_name="newcomer"))
    gone = [key for key, session in sessions.items() if vault.cache.find(session) is None]
    assert gone == [(3, number) for number in range(1, 6)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=100, max_size=100))
def test_who_makes_room(networks: list[int]) -> None:
    """No network loses an entry while another has more than one more than it."""

    @in_virtual_time
    async def fill() -> None:
        vault = Vault(most_entries=100)
        sessions = [role_session(session_name=f"host{number}") for number in range(100)]
        for number, network in enumerate(networks):
            vault.entry(sessions[number], canonical_address(f"10.0.{network}.1"))
        vault.entry(role_session(session_name="newcomer"), canonical_address("10.0.9.1"))
        left = [n for session, n in zip(sessions, networks, strict=True) if vault.cache.find(session)]
        before, after = Counter(networks), Counter(left)
        assert len(left) == 95
        losers = [network for network in before if after[network] < before[network]]
        assert max(after.values()) <= min(after[network] for network in losers) + 1

    fill()


@in_virtual_time
async def test_what_is_under_way_does_not_make_room() -> None:
    """Those who wait for it would begin another; only where all is under way the oldest goes all the same."""
    vault = Vault(most_entries=2)
    vault.sts.silence()
    waiting = asyncio.create_task(vault.fetch(role_session(session_name="a")))
    await asyncio.sleep(0)
    vault.entry(role_session(session_name="b"))
    vault.entry(role_session(session_name="c"))
    held = [name for name in "abc" if vault.cache.find(role_session(session_name=name))]
    assert held == ["a", "c"]
    vault.sts.speak()
    assert await waiting is not None


@in_virtual_time
async def test_who_still_has_an_entry_that_made_room() -> None:
    """Finds nothing in it: what is known of a caller keeps no credentials that the cache has dropped."""
    vault = Vault(most_entries=1)
    entry = vault.entry()
    await vault.fetch()
    assert entry.credentials is not None
    gone = weakref.ref(entry.credentials)
    vault.entry(role_session(session_name="host2"))
    gc.collect()
    assert vault.cache.usable(entry) is None
    assert gone() is None


@in_virtual_time
async def test_looking_at_all_is_not_asking() -> None:
    """The gauge of the soonest end leaves the order as it is in which role sessions make room."""
    vault = Vault(most_entries=2)
    names = [role_session(session_name=f"host{number}") for number in range(3)]
    await vault.fetch(names[0])
    await vault.fetch(names[1])
    vault.entry(names[0])
    vault.cache.soonest_expiry()
    await vault.fetch(names[2])
    assert [vault.cache.find(name) is not None for name in names] == [True, False, True]


@in_virtual_time
async def test_the_soonest_end() -> None:
    """The gauge of the soonest end reads what is held; nothing held is nothing to read."""
    vault = Vault()
    assert vault.cache.soonest_expiry() is None
    await vault.fetch()
    first_end = vault.clock.wall() + 3600
    await asyncio.sleep(600)
    await vault.fetch(role_session(session_name="host2"))
    assert vault.cache.soonest_expiry() == pytest.approx(first_end)


@in_virtual_time
async def test_closing() -> None:
    """After closing no flight is under way, no timer goes off and STS is asked nothing more."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.silence()
    vault.cache.begin_flight(vault.entry(role_session(session_name="host2")), caller_of(ROLE_SESSION))
    await asyncio.sleep(1)
    await vault.cache.close()
    assert (vault.cache.size, vault.cache.flights, vault.sts.cancelled) == (0, 0, 1)
    await asyncio.sleep(7200)
    assert len(vault.sts.calls) == 2


# --- whose turn it is --------------------------------------------------------------------------------


@in_virtual_time
async def test_a_network_with_too_many_calls() -> None:
    """Those beyond 256 fail at once with nothing asked of STS, and are tried again as after any trouble."""
    vault = Vault(most_entries=1000)
    vault.sts.silence()
    sessions = [role_session(session_name=f"host{number}") for number in range(300)]
    asking = [
        asyncio.create_task(vault.fetch(session, canonical_address(f"2001:db8::{number:x}")))
        for number, session in enumerate(sessions)
    ]
    await asyncio.sleep(1)
    failed = [session for session in sessions if vault.entry(session).failure is not None]
    assert len(failed) == 300 - 256
    assert all(isinstance(vault.entry(session).failure, OverloadError) for session in failed)
    assert len(vault.sts.calls) == 8
    assert not set(failed) & set(vault.sts.calls)
    vault.sts.speak()
    await asyncio.gather(*asking)
    assert await vault.fetch(failed[0]) is not None


@in_virtual_time
async def test_renewals_of_one_network() -> None:
    """Four at a time, so that another network's renewals need not wait for them."""
    vault = Vault(most_entries=1000)
    many = [role_session(session_name=f"host{number}") for number in range(50)]
    other = role_session(session_name="other")
    addresses = [canonical_address(f"2001:db8::{number:x}") for number in range(50)]
    await asyncio.gather(*map(vault.fetch, many, addresses), vault.fetch(other))
    for session, address in zip(many, addresses, strict=True):
        vault.entry(session, address)
    vault.entry(other)
    vault.sts.silence()
    calls = len(vault.sts.calls)
    await asyncio.sleep(31 * MINUTE)
    assert vault.sts.calls[calls:].count(other) == 1
    assert len(vault.sts.calls) - calls == 4 + 1
    vault.sts.speak()
    await asyncio.sleep(1)
    assert len(vault.sts.calls) - calls == 50 + 1


# --- failures with nothing held ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [THROTTLED, AWSError("STS: ExpiredToken", code="ExpiredToken", is_own_key=True), OverloadError("full")],
    ids=str,
)
@in_virtual_time
async def test_back_off_with_nothing_held(failure: Trouble) -> None:
    """After trouble STS is left alone for 0.5 s, doubling to 5 s; whoever asks in between causes no call."""
    vault = Vault()
    vault.sts.failure = failure
    for _ in range(200):
        assert await vault.fetch() is None
        assert vault.entry().failure is failure
        await asyncio.sleep(0.1)
    assert vault.seconds_between_calls() == pytest.approx([0.5, 1, 2, 4, 5, 5], abs=0.11)


@in_virtual_time
async def test_success_ends_the_back_off() -> None:
    """The first success brings keys, and the next trouble begins at 0.5 s again."""
    vault = Vault()
    vault.sts.failure = THROTTLED
    for _ in range(5):
        await vault.fetch()
        await asyncio.sleep(5)
    vault.sts.failure = None
    assert await vault.fetch() is not None
    assert vault.entry().failure is None
    vault.sts.failure, calls = THROTTLED, len(vault.sts.calls)
    for _ in range(2):
        await vault.fetch()
        await asyncio.sleep(0.6)
    assert len(vault.sts.calls) == calls + 2


@in_virtual_time
async def test_a_refusal_with_nothing_held() -> None:
    """AccessDenied with nothing held is remembered for 10 s for that key, and for no other."""
    vault = Vault()
    vault.sts.failure = DENIED
    await vault.fetch()
    await asyncio.sleep(9.9)
    assert vault.cache.begin_flight(vault.entry(), caller_of(ROLE_SESSION)) is None
    assert vault.entry().failure is DENIED
    vault.sts.failure = None
    assert await vault.fetch(role_session(session_name="host2")) is not None
    await asyncio.sleep(0.2)
    assert await vault.fetch() is not None
    assert vault.refused == []


@in_virtual_time
async def test_nobody_asks_any_more_after_a_failure() -> None:
    """With nothing held STS is asked at a request only, never by a timer, and the failure is forgotten."""
    vault = Vault()
    vault.sts.failure = THROTTLED
    await vault.fetch()
    await asyncio.sleep(3600)
    assert (len(vault.sts.calls), vault.cache.size) == (1, 0)


@in_virtual_time
async def test_a_source_that_fails_in_an_unknown_way() -> None:
    """Any exception of the source counts as trouble, its text, which may be a secret, goes nowhere."""
    vault = Vault()
    vault.sts.failure = RuntimeError("secret")
    assert await vault.fetch() is None
    assert isinstance(vault.entry().failure, Trouble)
    assert "secret" not in str(vault.entry().failure)
    assert vault.cache.begin_flight(vault.entry(), caller_of(ROLE_SESSION)) is None


# --- failures with credentials held ------------------------------------------------------------------


@pytest.mark.parametrize("failure", [DENIED, THROTTLED, RuntimeError("broken")], ids=str)
@in_virtual_time
async def test_a_failed_renewal_keeps_what_is_held(failure: Exception) -> None:
    """Credentials are served down to 60 s before their end, whatever STS says to their renewal."""
    vault = Vault()
    await vault.fetch()
    vault.sts.failure = failure
    await asyncio.sleep(29 * MINUTE)
    for _ in range(29):
        assert vault.hand_out() == "ASIA00000001"
        await asyncio.sleep(MINUTE)
    assert len(vault.sts.calls) > 2
    await asyncio.sleep(0.9 * MINUTE)
    assert vault.hand_out() == "ASIA00000001"
    await asyncio.sleep(0.2 * MINUTE)
    assert vault.hand_out() is None


@in_virtual_time
async def test_a_refused_renewal() -> None:
    """AccessDenied with credentials held is reported once and asked about again every 5 minutes."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.failure = DENIED
    await asyncio.sleep(30 * MINUTE)
    for _ in range(220):
        assert vault.hand_out() is not None
        await asyncio.sleep(5)
    assert vault.refused == [ROLE_SESSION]
    assert vault.seconds_between_calls() == pytest.approx([1800, 300, 300, 300], abs=1)


@in_virtual_time
async def test_a_refused_renewal_is_waited_out_by_tokens_too() -> None:
    """With under 25 minutes left and the renewal refused, no TOKEN begins another call for 5 minutes."""
    vault = Vault()
    await vault.fetch()
    vault.sts.failure = DENIED
    await asyncio.sleep(40 * MINUTE)
    await vault.fetch()
    for _ in range(12):
        await vault.fetch()
        await asyncio.sleep(MINUTE)
    assert vault.seconds_between_calls() == pytest.approx([40 * MINUTE, 300, 300], abs=1)


@in_virtual_time
async def test_a_refusal_that_ends() -> None:
    """Once STS allows the renewal again, new keys are there without anybody waiting, and it is news again."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.failure = DENIED
    await asyncio.sleep(33 * MINUTE)
    vault.sts.failure = None
    await asyncio.sleep(3 * MINUTE)
    assert vault.hand_out() == "ASIA00000003"
    vault.sts.failure = DENIED
    await asyncio.sleep(31 * MINUTE)
    assert vault.refused == [ROLE_SESSION, ROLE_SESSION]


@in_virtual_time
async def test_a_failing_renewal_is_tried_again() -> None:
    """A renewal in trouble is tried again behind the callers' back, after pauses that double to a minute."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.failure = THROTTLED
    await asyncio.sleep(34 * MINUTE)
    expected = [1800, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert vault.seconds_between_calls()[: len(expected)] == pytest.approx(expected, abs=0.2)
    vault.sts.failure = None
    await asyncio.sleep(MINUTE)
    assert vault.hand_out() == f"ASIA{len(vault.sts.calls):08}"


@in_virtual_time
async def test_a_renewal_that_brings_less() -> None:
    """Keys that would end sooner than those held are dropped."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.lifetime = 60
    await asyncio.sleep(31 * MINUTE)
    assert len(vault.sts.calls) >= 2
    assert vault.hand_out() == "ASIA00000001"
