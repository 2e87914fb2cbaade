"""Host names as labels, and the domains that count."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.names import AllowedDomains, host_name, parse_host_name, split_host

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


def test_labels_become_text() -> None:
    """Labels are joined with dots, in lower case."""
    assert host_name([b"TuvFoo42", b"Valid", b"EXAMPLE"]) == "tuvfoo42.valid.example"


@pytest.mark.parametrize("label", [b"proj-web-1", b"proj_default", b"_dmarc", b"a", b"x" * 63, b"1"])
def test_labels_that_hosts_have(label: bytes) -> None:
    """Letters, digits, inner hyphens, and the underscore of container networks are legal."""
    assert host_name([label, b"valid", b"example"]) == f"{label.decode()}.valid.example"


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(b"tuvfoo42.valid", id="escaped dot"),
        pytest.param(b"", id="empty"),
        pytest.param(b"*", id="wildcard"),
        pytest.param(b"-a", id="first hyphen"),
        pytest.param(b"a-", id="last hyphen"),
        pytest.param(b"a\n", id="newline"),
        pytest.param(b"a\0", id="NUL"),
        pytest.param(b"a b", id="space"),
        pytest.param(b"a/b", id="slash"),
        pytest.param(b"a\\b", id="backslash"),
        pytest.param(b"{a}", id="braces"),
        pytest.param(b"\xc3\xa4", id="utf-8"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"x" * 64, id="too long"),
    ],
)
def test_labels_that_no_host_has(label: bytes) -> None:
    """One such label makes the whole name none, wherever it stands."""
    assert host_name([label, b"valid", b"example"]) is None
    assert host_name([b"tuvfoo42", label, b"example"]) is None
    assert host_name([b"tuvfoo42", label]) is None


def test_a_name_has_labels() -> None:
    """The root is no host name."""
    assert host_name([]) is None


def test_the_longest_name() -> None:
    """253 characters are a name, 255 are not (RFC 1035 section 2.3.4 as text without the last dot)."""
    assert host_name([b"x" * 61, *[b"y" * 63] * 3]) is not None
    assert host_name([b"x" * 63, *[b"y" * 63] * 3]) is None


@given(st.lists(st.binary(max_size=70), max_size=6))
def test_any_labels_give_a_safe_name_or_none(labels: list[bytes]) -> None:
    """What comes out splits at its dots into the labels that went in, and has a host's characters alone."""
    name = host_name(labels)
    if name is not None:
        assert name.split(".") == [label.decode("ascii").lower() for label in labels]
        assert re.fullmatch(r"[a-z0-9_.-]+", name)


@given(NAME)
def test_a_name_survives_reading_and_writing(name: str) -> None:
    """A name as text is read back as itself, in whatever case, with or without the last dot."""
    assert parse_host_name(name) == name
    assert parse_host_name(name.upper() + ".") == name


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", ".a", "a..", "a b", "*.a", "a\n", "ä.example", "\u212a.example", "\ud800"]
)
def test_texts_that_are_no_name(text: str) -> None:
    """Empty labels, white space and letters beyond ASCII (a Kelvin sign is no k) are no host name."""
    assert parse_host_name(text) is None


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_a_name_or_none(text: str) -> None:
    """No text raises."""
    name = parse_host_name(text)
    assert name is None or parse_host_name(name) == name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tuvfoo42.valid.example", ("tuvfoo42", "valid.example")),
        ("tuvfoo42", ("tuvfoo42", "")),
    ],
)
def test_split_host(name: str, parts: tuple[str, str]) -> None:
    """The first label is the host part, the rest the domain."""
    assert split_host(name) == parts


@pytest.mark.parametrize(
    ("domain", "name", "is_allowed"),
    [
        ("valid.example", "tuvfoo42.valid.example", True),
        ("VALID.example.", "tuvfoo42.valid.example", True),
        ("valid.example", "tuvfoo42.evilvalid.example", False),
        ("valid.example", "evilvalid.example", False),
        ("valid.example", "valid.example", False),
        ("valid.example", "a.b.valid.example", False),
        ("valid.example", "tuvfoo42.valid.example.evil.example", False),
        ("valid.example", "tuvfoo42", False),
        ("*.valid.example", "tuvfoo42.a.valid.example", True),
        ("*.valid.example", "tuvfoo42.a.b.valid.example", True),
        ("*.valid.example", "tuvfoo42.valid.example", False),
        ("*.valid.example", "tuvfoo42.evilvalid.example", False),
        ("*.valid.example", "tuvfoo42.a.evilvalid.example", False),
        ("example", "valid.example", True),
        ("example", "tuvfoo42.valid.example", False),
        ("proj_default", "proj-web-1.proj_default", True),
    ],
)
def test_allowed_domains(domain: str, name: str, is_allowed: bool) -> None:
    """A domain equals all after the host part; with `*.` it must lie below, label by label."""
    assert AllowedDomains.parse([domain]).allow(name) is is_allowed


@given(NAME)
def test_no_domain_allows_no_name(name: str) -> None:
    """An empty list allows nobody."""
    assert not AllowedDomains.parse([]).allow(name)


@given(NAME, NAME, st.booleans())
def test_allowed_names_end_in_the_domain(name: str, domain: str, below: bool) -> None:
    """What is allowed has the domain's labels at its end and at least one (below: two) before them."""
    allowed = AllowedDomains.parse([f"*.{domain}" if below else domain]).allow(name)
    labels, tail = name.split("."), domain.split(".")
    before = len(labels) - len(tail)
    ends = before > 0 and labels[before:] == tail
    assert allowed == (ends and (before >= 2 if below else before == 1))


@given(LABEL, NAME, NAME)
def test_names_below_a_domain_are_allowed(host: str, middle: str, domain: str) -> None:
    """The stars of both forms: exactly one label before the domain, or more than one."""
    assert AllowedDomains.parse([domain]).allow(f"{host}.{domain}")
    assert AllowedDomains.parse([f"*.{domain}"]).allow(f"{host}.{middle}.{domain}")


@pytest.mark.parametrize(
    "text", ["", "*", "*.", ".", "*.*.example", "a.*.example", "valid..example", "a b", "\ud800"]
)
def test_texts_that_are_no_domain(text: str) -> None:
    """A faulty domain is named in the error."""
    with pytest.raises(ValueError, match=r"is not a domain") as error:
        AllowedDomains.parse(["valid.example", text])
    assert repr(text) in str(error.value)
