"""imds_tokens: who may show which token for how long."""

from __future__ import annotations

import string
from base64 import urlsafe_b64encode
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imds_proxy.imds_tokens import LONGEST_LIFE, TokenKeys, parse_life
from imds_proxy.model import canonical_address

NOW = 1_800_000_000.0
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CALLER = canonical_address("10.0.0.5")
ALPHABET = string.ascii_letters + string.digits + "-_"


@given(st.ip_addresses(), st.integers(1, 21600), st.floats(0, 2**40))
def test_a_token_of_ones_own(address: object, life: int, now: float) -> None:
    """A token has 56 characters of URL-safe base64 and is good from its address for its whole life."""
    keys = TokenKeys([KEY])
    caller = canonical_address(str(address))
    token = keys.issue(caller, life, now)
    assert len(token) == 56
    assert set(token) <= set(ALPHABET)
    assert keys.remaining_life(token, caller, now) == life


def test_its_end() -> None:
    """The remaining life falls second by second; at its end the token is worthless."""
    keys = TokenKeys([KEY])
    token = keys.issue(CALLER, 60, NOW)
    lives = [keys.remaining_life(token, CALLER, NOW + passed) for passed in (0, 1, 59, 59.9, 60, 61, 10**9)]
    assert lives == [60, 59, 1, 1, None, None, None]


@pytest.mark.parametrize("back", [1, 21600, 86400 * 365])
def test_a_clock_that_was_set_back(back: int) -> None:
    """However far it was set back, a token is good for no longer than a new one would be."""
    keys = TokenKeys([KEY])
    token = keys.issue(CALLER, LONGEST_LIFE, NOW)
    life = keys.remaining_life(token, CALLER, NOW - back)
    assert life == LONGEST_LIFE


@given(st.ip_addresses(), st.ip_addresses())
@example("10.0.0.5", "::a00:5")
@example("0.0.0.0", "::")
@example("1.2.3.4", "102:304::")
def test_from_another_address(address: object, other: object) -> None:
    """A token is worthless from any address but its own, whatever the bytes of the two have in common."""
    keys = TokenKeys([KEY])
    caller, thief = canonical_address(str(address)), canonical_address(str(other))
    token = keys.issue(caller, 60, NOW)
    assert (keys.remaining_life(token, thief, NOW) is not None) is (caller == thief)


def test_a_mapped_address_is_the_same_caller() -> None:
    """`::ffff:10.0.0.5` is 10.0.0.5: a token got by one socket is good on the other."""
    keys = TokenKeys([KEY])
    token = keys.issue(canonical_address("::ffff:10.0.0.5"), 60, NOW)
    assert keys.remaining_life(token, CALLER, NOW) == 60


@pytest.mark.parametrize("position", range(56))
def test_tampered(position: int) -> None:
    """Any other character at any position makes the token worthless: no second spelling is good either."""
    keys = TokenKeys([KEY])
    token = keys.issue(CALLER, 60, NOW)
    others = set(string.printable + "é٣\0") - {token[position]}
    assert [
        other
        for other in others
        if keys.remaining_life(token[:position] + other + token[position + 1 :], CALLER, NOW) is not None
    ] == []


def test_only_one_spelling() -> None:
    """The alphabet of ordinary base64 (`+`, `/`) is not ours, even where the bytes would be the same."""
    keys = TokenKeys([KEY])
    tokens = [keys.issue(CALLER, 60, NOW) for _ in range(200)]
    respelled = [token.replace("-", "+").replace("_", "/") for token in tokens]
    other_spellings = set(respelled) - set(tokens)
    assert other_spellings
    assert not [token for token in other_spellings if keys.remaining_life(token, CALLER, NOW) is not None]


@given(st.text(max_size=60) | st.text(ALPHABET + "=+/", min_size=56, max_size=56))
@example("")
@example("é" * 56)
@example("=" * 56)
@example("A" * 55 + "=")
@example("\ud800" * 56)
def test_any_text(token: str) -> None:
    """Whatever somebody sends as a token is no token, and no error."""
    assert TokenKeys([KEY]).remaining_life(token, CALLER, NOW) is None


@given(st.integers(0, 2**48 - 1), st.binary(min_size=4, max_size=4), st.binary(min_size=32, max_size=32))
def test_a_forged_end(end: int, noise: bytes, signature: bytes) -> None:
    """An end that nobody signed is worth nothing, however far away it is."""
    forged = urlsafe_b64encode(end.to_bytes(6, "big") + noise + signature).decode()
    assert TokenKeys([KEY]).remaining_life(forged, CALLER, NOW) is None


def test_no_two_are_equal() -> None:
    """Two tokens of one caller in one second differ."""
    keys = TokenKeys([KEY])
    tokens = sorted(keys.issue(CALLER, 60, NOW) for _ in range(100))
    assert all(first != second for first, second in pairwise(tokens))


def test_another_key() -> None:
    """A token that another key signed is worthless."""
    token = TokenKeys([OTHER_KEY]).issue(CALLER, 60, NOW)
    assert TokenKeys([KEY]).remaining_life(token, CALLER, NOW) is None


def test_a_change_of_keys() -> None:
    """The first key signs and all verify: a new key in front, then the old one taken away."""
    old = TokenKeys([OTHER_KEY]).issue(CALLER, 60, NOW)
    both = TokenKeys([KEY, OTHER_KEY])
    assert both.remaining_life(old, CALLER, NOW) == 60
    new = both.issue(CALLER, 60, NOW)
    assert TokenKeys([KEY]).remaining_life(new, CALLER, NOW) == 60
    assert TokenKeys([OTHER_KEY]).remaining_life(new, CALLER, NOW) is None


def test_a_long_key() -> None:
    """All of a long key counts: a token of one that is the same at its beginning is worthless."""
    long, longer = b"k" * 100, b"k" * 99 + b"l"
    token = TokenKeys([long]).issue(CALLER, 60, NOW)
    assert TokenKeys([long]).remaining_life(token, CALLER, NOW) == 60
    assert TokenKeys([longer]).remaining_life(token, CALLER, NOW) is None


def test_no_key() -> None:
    """Without a key there is nothing to sign with: an error, not tokens that anybody can make."""
    with pytest.raises(ValueError, match="at least one token key"):
        TokenKeys([])


@pytest.mark.parametrize(("text", "life"), [("1", 1), ("10", 10), ("300", 300), ("21600", 21600)])
def test_lives(text: str, life: int) -> None:
    """1 to 21600 seconds can be asked for."""
    assert parse_life(text) == life


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "21601",
        "99999",
        "100000",
        "-1",
        "+5",
        " 5",
        "5 ",
        "5_0",
        "5.0",
        "1e3",
        "0x10",
        "٣",
        "²",
        "5\n",
    ],
)
def test_no_lives(text: str) -> None:
    """Everything but ASCII digits within the limits is what EC2 answers 400 to; `int` would take some."""
    assert parse_life(text) is None


@given(st.text())
@example("9" * 5000)
def test_any_life(text: str) -> None:
    """Whatever stands in the header, the answer is a life within the limits or none, and no error."""
    life = parse_life(text)
    assert life is None or 1 <= life <= 21600
