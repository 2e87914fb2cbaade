"""Texts that somebody else chose: nothing in them hides, and spellings of one login are one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy import cli
from imds_proxy.explain import Explanation
from imds_proxy.text import fold_login, visible, visible_lines

BIDI = "ada\u202e\u2066niam-nimda\u2069"


@given(st.text())
def test_what_is_shown_can_be_seen(text: str) -> None:
    """One line of printable characters, whatever was in it; what was printable stays."""
    assert visible(text).isprintable()
    printable = "".join(character for character in text if character.isprintable())
    assert visible(printable) == printable
    assert all(line.isprintable() for line in visible_lines(text).split("\n"))
    assert visible_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("j\u00fcrgen m\u00fcller", "j\u00fcrgen m\u00fcller"),
        ("\u202eevil", "\\u202eevil"),
        ("a\u200bb\ufeffc", "a\\u200bb\\ufeffc"),
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\udcff\U000e0001", "\\udcff\\U000e0001"),
    ],
)
def test_what_stands_for_it(text: str, shown: str) -> None:
    """Python's escapes."""
    assert visible(text) == shown


@given(st.text(min_size=1))
def test_spellings_of_one_login(user: str) -> None:
    """Case, Unicode's forms and spaces around make no difference; folding twice changes nothing."""
    folded = fold_login(user)
    assert fold_login(folded) == folded
    assert fold_login(unicodedata.normalize("NFC", user)) == fold_login(unicodedata.normalize("NFD", user))
    assert fold_login(f" {user} ") == folded


def test_explain_shows_no_hidden_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason may have a login, or what a provider of a site's own says."""
    explanation = Explanation("10.0.0.5", "refused", BIDI, ("one step", f"refused: {BIDI}"))
    cli._show(explanation, as_json=False, assumes=False)
    out = capsys.readouterr().out
    assert [line.isprintable() for line in out.splitlines()] == [True, True, True]
    assert out.splitlines()[-1] == "refused: ada\\u202e\\u2066niam-nimda\\u2069"
