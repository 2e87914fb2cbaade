"""cache: when credentials are renewed behind the callers' back, for whom, and when no longer."""

from __future__ import annotations

import asyncio

import pytest

from imds_proxy.errors import AWSError
from tests.standins.sts import ROLE_SESSION, CountedSts, role_session
from tests.standins.vault import Vault, caller_of
from tests.standins.virtual_time import in_virtual_time

MINUTE = 60.0
HOUR = 60 * MINUTE


@pytest.mark.parametrize(
    ("lifetime", "spread", "renewed_after"),
    [
        (1 * HOUR, 0.0, 30 * MINUTE),
        (1 * HOUR, 1.0, 27 * MINUTE),
        (12 * HOUR, 0.0, 11.5 * HOUR),
        (12 * HOUR, 1.0, 11.5 * HOUR - 3 * MINUTE),
        (54 * MINUTE, 0.0, 27 * MINUTE),
        (50 * MINUTE, 0.0, 25 * MINUTE),
        (50 * MINUTE, 1.0, 22.5 * MINUTE),
        (40 * MINUTE, 0.0, 15 * MINUTE),
    ],
)
@in_virtual_time
async def test_the_window(lifetime: float, spread: float, renewed_after: float) -> None:
    """Keys that were asked for are renewed at their time by a timer, with nobody waiting."""
    vault = Vault(spread=spread)
    vault.sts.lifetime = lifetime
    await vault.fetch()
    assert vault.hand_out() == "ASIA00000001"
    await asyncio.sleep(renewed_after - 1)
    assert len(vault.sts.calls) == 1
    await asyncio.sleep(2)
    assert len(vault.sts.calls) == 2
    assert vault.hand_out() == "ASIA00000002"


@in_virtual_time
async def test_nobody_asks() -> None:
    """What nobody asks for after its last renewal is left to end, and then dropped."""
    vault = Vault()
    await vault.fetch()
    await asyncio.sleep(HOUR - 1)
    assert (len(vault.sts.calls), vault.cache.size) == (1, 1)
    await asyncio.sleep(2)
    assert (len(vault.sts.calls), vault.cache.size) == (1, 0)


@in_virtual_time
async def test_somebody_asks_once() -> None:
    """One request since the last renewal is worth one renewal, not more."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    await asyncio.sleep(5 * HOUR)
    assert vault.seconds_between_calls() == pytest.approx([30 * MINUTE], abs=1)
    assert vault.cache.size == 0


@in_virtual_time
async def test_somebody_asks_late() -> None:
    """The first request since a renewal, within the window, gets what is held and starts the next one."""
    vault = Vault()
    await vault.fetch()
    await asyncio.sleep(40 * MINUTE)
    assert len(vault.sts.calls) == 1
    assert vault.hand_out() == "ASIA00000001"
    await asyncio.sleep(1)
    assert vault.hand_out() == "ASIA00000002"


@in_virtual_time
async def test_looking_is_not_asking() -> None:
    """Finding an entry for a HEAD or a gauge is no demand."""
    vault = Vault()
    await vault.fetch()
    for _ in range(50):
        entry = vault.cache.find(ROLE_SESSION)
        assert entry is not None
        vault.cache.usable(entry)
        await asyncio.sleep(MINUTE)
    assert len(vault.sts.calls) == 1


@in_virtual_time
async def test_requests_within_the_window_start_one_renewal() -> None:
    """While a renewal is under way callers get what is held, and none begins another."""
    vault = Vault()
    await vault.fetch()
    vault.sts.seconds = 10
    await asyncio.sleep(31 * MINUTE)
    for _ in range(9):
        assert vault.hand_out() == "ASIA00000001"
        await asyncio.sleep(1)
    assert len(vault.sts.calls) == 2
    await asyncio.sleep(2)
    assert vault.hand_out() == "ASIA00000002"


@in_virtual_time
async def test_the_settings_changed() -> None:
    """After a reload only what is asked for again is renewed, by the new settings' STS."""
    vault = Vault()
    other = role_session(session_name="host2")
    await vault.fetch()
    await vault.fetch(other)
    vault.entry()
    vault.entry(other)
    vault.cache.forget_demand()
    newer = CountedSts(vault.clock)
    vault.cache.entry(other, newer, caller_of(other))
    await asyncio.sleep(31 * MINUTE)
    assert vault.sts.calls == [ROLE_SESSION, other]
    assert newer.calls == [other]


@in_virtual_time
async def test_a_short_life() -> None:
    """Where STS gives less than 25 minutes callers may try once more at once, then once a minute."""
    vault = Vault()
    vault.sts.lifetime = 20 * MINUTE
    for _ in range(250):
        await vault.fetch()
        await asyncio.sleep(1)
    assert vault.seconds_between_calls() == pytest.approx([1, 60, 60, 60, 60], abs=1.1)


@in_virtual_time
async def test_a_short_life_behind_the_callers_back() -> None:
    """Renewals that bring less than 25 minutes are repeated once a minute, as long as somebody asks."""
    vault = Vault()
    vault.sts.lifetime = 20 * MINUTE
    await vault.fetch()
    for _ in range(300):
        assert vault.hand_out() is not None
        await asyncio.sleep(1)
    assert vault.seconds_between_calls() == pytest.approx([60] * 4, abs=1.1)
    calls = len(vault.sts.calls)
    await asyncio.sleep(HOUR)
    assert len(vault.sts.calls) <= calls + 1


@in_virtual_time
async def test_a_long_life_again() -> None:
    """Once STS gives an hour again, the once-a-minute rule is over."""
    vault = Vault()
    vault.sts.lifetime = 20 * MINUTE
    for _ in range(3):
        await vault.fetch()
        await asyncio.sleep(MINUTE)
    vault.sts.lifetime = None
    await vault.fetch()
    vault.hand_out()
    calls = len(vault.sts.calls)
    await asyncio.sleep(29 * MINUTE)
    assert len(vault.sts.calls) == calls
    await asyncio.sleep(2 * MINUTE)
    assert len(vault.sts.calls) == calls + 1


@in_virtual_time
async def test_each_at_its_own_time() -> None:
    """Sessions that came at different times are renewed or dropped each at its time, in whatever order."""
    vault = Vault()
    long, short, unasked = (role_session(session_name=name) for name in ("long", "short", "unasked"))
    for session, lifetime in ((long, 12 * HOUR), (short, HOUR), (unasked, 50 * MINUTE)):
        vault.sts.lifetime = lifetime
        await vault.fetch(session)
    vault.entry(long)
    vault.entry(short)
    vault.sts.lifetime = HOUR
    await asyncio.sleep(29 * MINUTE)
    assert vault.sts.calls == [long, short, unasked]
    await asyncio.sleep(2 * MINUTE)
    assert vault.sts.calls[3:] == [short]
    await asyncio.sleep(20 * MINUTE)
    held = [session for session in (long, short, unasked) if vault.cache.find(session)]
    assert held == [long, short]
    await asyncio.sleep(11 * HOUR)
    assert vault.sts.calls[4:] == [long]


@in_virtual_time
async def test_many_fall_due_together() -> None:
    """Eight renewals at a time, and a new caller does not wait behind them."""
    vault = Vault()
    many = [role_session(session_name=f"host{number}") for number in range(40)]
    await asyncio.gather(*(vault.fetch(session) for session in many))
    for session in many:
        vault.entry(session)
    vault.sts.silence()
    await asyncio.sleep(31 * MINUTE)
    assert len(vault.sts.calls) == 40 + 8
    newcomer = role_session(session_name="newcomer")
    vault.cache.begin_flight(vault.entry(newcomer), caller_of(newcomer))
    await asyncio.sleep(1)
    assert vault.sts.calls[-1] == newcomer
    vault.sts.speak()
    await asyncio.sleep(1)
    assert len(vault.sts.calls) == 40 + 1 + 40


@in_virtual_time
async def test_the_spread_is_drawn_anew() -> None:
    """Every renewal's time has a spread of its own: sessions that started together drift apart."""
    spreads = iter([0.0, 1.0, 0.5, 0.25, 0.75])
    vault = Vault(spread=lambda: next(spreads))
    await vault.fetch()
    for _ in range(3):
        vault.hand_out()
        await asyncio.sleep(31 * MINUTE)
    assert vault.seconds_between_calls() == pytest.approx([1800, 1620, 1710], abs=1)


@in_virtual_time
async def test_the_wall_clock_is_set_forward() -> None:
    """Ends are dates: after the wall clock was set, keys whose end has passed are not usable."""
    vault = Vault()
    await vault.fetch()
    vault.clock.wall_error = 2 * HOUR
    assert vault.cache.usable(vault.entry()) is None
    assert (await vault.fetch()) is not None
    assert len(vault.sts.calls) == 2


@in_virtual_time
async def test_a_long_sleep_notices_a_clock_that_was_set() -> None:
    """A timer looks at the wall clock once an hour at least: what has become due meanwhile is renewed."""
    vault = Vault()
    vault.sts.lifetime = 12 * HOUR
    await vault.fetch()
    vault.hand_out()
    vault.clock.wall_error = 10.9 * HOUR
    await asyncio.sleep(HOUR + 1)
    assert vault.hand_out() == "ASIA00000002"


@in_virtual_time
async def test_keys_that_come_too_late() -> None:
    """Keys that live for less than a minute are handed to nobody, and STS is not asked by every request."""
    vault = Vault()
    vault.sts.lifetime = 50
    for _ in range(490):
        assert await vault.fetch() is None
        await asyncio.sleep(0.1)
    assert len(vault.sts.calls) == 2


@in_virtual_time
async def test_trouble_ends_with_the_credentials() -> None:
    """When all renewals failed until the end, the entry is dropped and STS is asked at a request only."""
    vault = Vault()
    await vault.fetch()
    vault.hand_out()
    vault.sts.failure = AWSError("STS: unreachable", code="ConnectTimeoutError")
    await asyncio.sleep(2 * HOUR)
    assert vault.cache.size == 0
    calls = len(vault.sts.calls)
    await asyncio.sleep(HOUR)
    assert len(vault.sts.calls) == calls
