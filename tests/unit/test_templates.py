"""Templates: what they take, and that nothing that is put in is ever read as a part of one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.metadata.templates import PLACEHOLDERS, literal, parse_template

KNOWN = st.fixed_dictionaries(
    {},
    optional={name: st.text() | st.sampled_from(["{name}", "{", "}}", "{0}", "%s"]) for name in PLACEHOLDERS},
)
PARTS = st.lists(
    st.one_of(
        st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS]),
        st.text(st.characters(exclude_characters="{}")),
    )
)


@given(parts=PARTS, known=KNOWN)
def test_values_are_put_in_once_and_stay_as_they_are(parts: list[str], known: dict[str, str]) -> None:
    """Each placeholder becomes its value, whatever is in that; one that is not known leaves nothing."""
    expected: list[str] | None = []
    for part in parts:
        name = part[1:-1] if part.startswith("{") else None
        if name is not None and name not in known:
            expected = None
            break
        assert expected is not None
        expected.append(known[name] if name is not None else part)
    filled = parse_template("".join(parts)).fill(known)
    assert filled == (None if expected is None else "".join(expected))


@given(st.text(st.sampled_from([*string.ascii_lowercase, "{", "}", "_", "!", ":", ".", "[", "]", "0"])))
def test_any_text_is_a_template_or_a_fault(text: str) -> None:
    """And what is taken has no brace left but those of its placeholders."""
    try:
        template = parse_template(text)
    except ValueError:
        return
    filled = template.fill(dict.fromkeys(PLACEHOLDERS, ""))
    assert filled is not None
    assert not set(filled) & {"{", "}"}
    assert str(template) == text


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "{name",
        "name}",
        "{{name}}",
        "{}",
        "{Name}",
        "{name }",
        "{name!r}",
        "{name.x}",
        "{0}",
        "{user}",
    ],
)
def test_what_is_no_placeholder_is_a_fault(text: str) -> None:
    """Format's own tricks as well as mistakes."""
    with pytest.raises(ValueError, match=r"brace|placeholder"):
        parse_template(text)


def test_a_literal_is_never_filled_in() -> None:
    """Braces in it are text."""
    assert literal("{name}").fill({"name": "x"}) == "{name}"
    assert literal("").fill({}) == ""
