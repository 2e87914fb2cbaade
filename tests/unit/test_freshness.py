"""freshness: when to renew, what may be handed out, how long STS is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy import freshness

MINUTE = 60
HOUR = 60 * MINUTE
RECEIVED = 1_800_000_000.0
SPREAD = st.floats(0, 1)


def left_at_renewal(lifetime: float, spread: float) -> float:
    """Return how long the credentials still live when their renewal begins."""
    expiry = RECEIVED + lifetime
    return expiry - freshness.renewal_time(RECEIVED, expiry, spread)


@given(st.floats(HOUR, 12 * HOUR), SPREAD)
def test_an_hour_or_more(lifetime: float, spread: float) -> None:
    """Renewal begins with 30 minutes left, up to 10 % earlier and never later."""
    assert 30 * MINUTE <= left_at_renewal(lifetime, spread) <= 33 * MINUTE


@given(st.floats(HOUR - 15, HOUR, exclude_max=True), SPREAD)
def test_an_hour_that_was_on_its_way(lifetime: float, spread: float) -> None:
    """STS gives whole seconds and its answer takes a while: what is left of an hour is renewed as an hour."""
    assert 30 * MINUTE <= left_at_renewal(lifetime, spread) <= 33 * MINUTE


@given(st.floats(50 * MINUTE, HOUR - MINUTE), SPREAD)
def test_less_than_an_hour(lifetime: float, spread: float) -> None:
    """Where STS gave less than an hour, renewal begins with half of it left, up to 10 % earlier."""
    assert lifetime / 2 - 1e-6 <= left_at_renewal(lifetime, spread) <= lifetime / 2 * 1.1 + 1e-6


@given(st.floats(1, 50 * MINUTE), SPREAD)
def test_a_short_life(lifetime: float, spread: float) -> None:
    """Renewal never waits until less than 25 minutes are left: what lives for less is due at once."""
    assert 25 * MINUTE <= left_at_renewal(lifetime, spread) <= 27.5 * MINUTE + 1e-6


def test_the_spread_is_used() -> None:
    """Two spreads give two times, so that a fleet that started together does not renew together."""
    assert left_at_renewal(HOUR, 0) == 30 * MINUTE
    assert left_at_renewal(HOUR, 1) == pytest.approx(33 * MINUTE)


@pytest.mark.parametrize(
    ("left", "at_list", "after_list"),
    [(61, True, True), (60, False, True), (46, False, True), (45, False, False), (0, False, False)],
)
def test_usable(left: float, at_list: bool, after_list: bool) -> None:
    """Credentials are offered down to 60 s before their end, at a ROLE whose LIST named them down to 45 s."""
    expiry = RECEIVED + left
    assert freshness.is_usable(expiry, RECEIVED) is at_list
    assert freshness.is_usable(expiry, RECEIVED, least=freshness.LAST_AFTER_LIST) is after_list


@pytest.mark.parametrize(("left", "expected"), [(25 * MINUTE, True), (25 * MINUTE - 1, False), (0, False)])
def test_comfortable(left: float, expected: bool) -> None:
    """25 minutes are what a client should get at least."""
    assert freshness.is_comfortable(RECEIVED + left, RECEIVED) is expected


def test_back_off() -> None:
    """STS is left alone for 0.5 s after a failure, twice as long after each further one, 5 s at most."""
    assert [freshness.back_off(failures) for failures in (1, 2, 3, 4, 5, 6)] == [0.5, 1, 2, 4, 5, 5]
    assert freshness.back_off(10**9) == 5


def test_back_off_in_the_background() -> None:
    """A renewal that nobody waits for is tried again less often, once a minute in the end."""
    pauses = [freshness.back_off(failures, in_background=True) for failures in range(1, 10)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
