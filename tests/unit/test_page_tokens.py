"""The tokens of the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.page_tokens import PAGE_TOKEN_LIFE, PageTokens, process_page_tokens

NOW = 1_800_000_000.0
TOKENS = PageTokens(b"k" * 32)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.floats(0, PAGE_TOKEN_LIFE - 1),
)
def test_good_for_its_user_until_it_ends(user: str, age: float) -> None:
    """12 hours, for nobody else, from no other process."""
    token = TOKENS.issue(user, NOW)
    assert TOKENS.is_good(token, user, NOW + age)
    assert not TOKENS.is_good(token, user, NOW + PAGE_TOKEN_LIFE)
    assert not TOKENS.is_good(token, user + "x", NOW)
    assert not PageTokens(b"l" * 32).is_good(token, user, NOW)


@given(st.integers(0, 39), st.characters(max_codepoint=0x7F))
def test_not_a_character_may_differ(index: int, character: str) -> None:
    """A token has one spelling."""
    token = TOKENS.issue("alice", NOW)
    changed = token[:index] + character + token[index + 1 :]
    assert TOKENS.is_good(changed, "alice", NOW) is (changed == token)


@pytest.mark.parametrize("token", ["", "A" * 40, "A" * 39, "A" * 56, "é" * 40, "=" * 40, "+" * 40])
def test_what_is_no_token(token: str) -> None:
    """Garbage is no error."""
    assert not TOKENS.is_good(token, "alice", NOW)


def test_a_clock_that_was_set_back() -> None:
    """Makes no token last for longer than any may."""
    assert not TOKENS.is_good(TOKENS.issue("alice", NOW), "alice", NOW - 60)


def test_one_key_for_the_process() -> None:
    """A reload makes no open page useless."""
    token = process_page_tokens().issue("alice", NOW)
    assert process_page_tokens().is_good(token, "alice", NOW)
