"""The paths of the people's listener."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.people_paths import (
    PeopleKind,
    PeopleTarget,
    authority_of,
    is_name,
    parse_people_target,
)

BASE = ("afp-api", "latest")
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", PeopleKind.BARE_PAGE),
        ("/", PeopleKind.PAGE),
        ("/status", PeopleKind.STATUS),
        ("/status/", PeopleKind.UNKNOWN),
        ("/account", PeopleKind.ACCOUNTS),
        ("/account/", PeopleKind.ACCOUNTS),
        ("/account//", PeopleKind.UNKNOWN),
        ("/account/a", PeopleKind.UNKNOWN),
        ("/account/a/r", PeopleKind.ROLE),
        ("/account/a/r/", PeopleKind.UNKNOWN),
        ("/account/a/r/credentials", PeopleKind.CREDENTIALS),
        ("/account/a/r/consoleurl", PeopleKind.CONSOLE_URL),
        ("/account/a/r/consoleurl/x", PeopleKind.UNKNOWN),
        ("/credentials", PeopleKind.PAGE_CREDENTIALS),
        ("/console", PeopleKind.PAGE_CONSOLE),
        ("/static/people.js", PeopleKind.ASSET),
        ("/static/a/b", PeopleKind.UNKNOWN),
    ],
)
def test_kinds(path: str, kind: PeopleKind) -> None:
    """With and without a base path, and with a query."""
    assert parse_people_target("/afp-api/latest" + path, BASE).kind is kind
    assert parse_people_target(f"/afp-api/latest{path}?a=/b", BASE).kind is kind
    if path:
        assert parse_people_target(path).kind is kind


@pytest.mark.parametrize("raw", ["", "*", "account", "?", "example:443", "%2Faccount"])
def test_what_is_no_path(raw: str) -> None:
    """As OPTIONS and CONNECT have it, and what is garbage."""
    assert parse_people_target(raw).kind is PeopleKind.UNKNOWN


@given(NAMES, NAMES)
def test_names_come_through(account: str, role: str) -> None:
    """Any name, percent-encoded whole or as little as a path needs, is decoded once."""
    for safe in ("", "!$&'()*+,;=:@"):
        raw = f"/account/{quote(account, safe=safe)}/{quote(role, safe=safe)}/credentials?x"
        assert parse_people_target(raw) == PeopleTarget(PeopleKind.CREDENTIALS, "x", account, role)


@given(st.text(max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    """Names that come out are names, whatever goes in."""
    target = parse_people_target("/account/" + text)
    if target.kind in (PeopleKind.ROLE, PeopleKind.CREDENTIALS, PeopleKind.CONSOLE_URL):
        assert is_name(target.account)
        assert is_name(target.role)
    else:
        assert (target.account, target.role) == ("", "")


@given(st.binary(max_size=30))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    """Also those that are no UTF-8, which aiohttp hands on as surrogates; as sent or percent-encoded."""
    as_sent = data.decode("utf-8", "surrogateescape")
    for raw in (as_sent, quote(data, safe="")):
        target = parse_people_target(f"/account/a/{raw}")
        if target.kind is PeopleKind.ROLE:
            target.role.encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "authority"),
    [
        ("/account", None),
        ("//host/account", None),
        ("http://host/account", "host"),
        ("http://host:80", "host:80"),
        ("http://host?x", "host"),
        ("http://user@host/x", "user@host"),
        ("/x?y=http://host", None),
    ],
)
def test_targets_in_absolute_form(raw: str, authority: str | None) -> None:
    """Their authority is what Host would say."""
    assert authority_of(raw) == authority


@pytest.mark.parametrize("text", ["", ".", "..", "\n", "a\0", "\x7f", "\x85", "\u2028", "\udc80"])
def test_what_is_no_name(text: str) -> None:
    """Nothing, dots, controls, what ends a line, what is no Unicode."""
    assert not is_name(text)
