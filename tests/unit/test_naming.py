"""The names that AWS is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imds_proxy import naming

SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
LEGAL = "ABCXYZabcxyz0189_+=,.@-"
SHORT_OF_MARK = st.text("abcdef0123456789-=", min_size=2, max_size=64)

any_text = st.one_of(st.text(), st.text(LEGAL + ": /ä", max_size=80), SHORT_OF_MARK, st.text("\ud800:a"))


@pytest.mark.parametrize("role", ["a", "roleprefix-tuvfoo", "A_+=,.@-z9", "x" * 64])
def test_names_iam_takes(role: str) -> None:
    """IAM's alphabet, 1 to 64 characters, is a role name."""
    assert naming.is_role_name(role)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 65, "a/b", "a b", "a\n", "\n", "ä", "١", "a:b", "a*", "a\0", "a{b}", "ａ"],  # noqa: RUF001
)
def test_names_iam_does_not_take(text: str) -> None:
    """A path, white space (a last newline too), letters beyond ASCII and wildcards are no role name."""
    assert not naming.is_role_name(text)


@pytest.mark.parametrize(
    ("partition", "path", "arn"),
    [
        ("aws", "/", "arn:aws:iam::000123456789:role/foo"),
        ("aws-cn", "/machines/ber/", "arn:aws-cn:iam::000123456789:role/machines/ber/foo"),
    ],
)
def test_role_arn(partition: str, path: str, arn: str) -> None:
    """The ARN has partition, account and path; the account id keeps its leading zeros."""
    assert naming.role_arn(partition, "000123456789", path, "foo") == arn


@pytest.mark.parametrize("text", ["tuvfoo42.valid.example", "10.77.0.5", "web_1.proj", "ab", "y" * 64])
def test_session_name_says_the_machine(text: str) -> None:
    """A host name or an IPv4 address is its own session name."""
    assert naming.session_name(text) == text


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("fd00:ec2::5", "fd00-ec2--5="),
        ("a", "a="),
        ("", "="),
        ("x" * 65, "x" * 47 + "="),
        ("zoë", "zo-="),
    ],
)
def test_session_name_keeps_what_can_be_read(text: str, start: str) -> None:
    """What AWS would not take is replaced, cut or filled up, and ends in 16 digits of a hash."""
    assert re.fullmatch(re.escape(start) + "[0-9a-f]{16}", naming.session_name(text))


@given(any_text)
def test_session_name_is_always_valid(text: str) -> None:
    """Whatever the text is, AWS takes the session name."""
    assert SESSION_NAME.fullmatch(naming.session_name(text))


@given(st.text(LEGAL.replace("=", ""), min_size=2, max_size=64))
def test_session_name_is_unchanged_when_valid(text: str) -> None:
    """A text that AWS takes, and that bears no mark, stays as it is."""
    assert naming.session_name(text) == text


@given(any_text, any_text)
def test_two_texts_have_two_session_names(one: str, other: str) -> None:
    """Two callers are never one in CloudTrail."""
    assume(one != other)
    assert naming.session_name(one) != naming.session_name(other)


@given(any_text)
def test_no_text_reads_like_the_mark_of_another(text: str) -> None:
    """A text that equals another's session name, hash and all, still gets one of its own."""
    marked = naming.session_name(text)
    assume(marked != text)
    assert naming.session_name(marked) != marked


def test_texts_with_a_long_common_start_differ() -> None:
    """What is cut off still counts."""
    names = {naming.session_name("x" * 100 + str(number)) for number in range(100)}
    assert len(names) == 100


def test_shared_session_name() -> None:
    """It names the gateway, and stays valid for a gateway whose name is long."""
    assert naming.shared_session_name("gw1") == "imds-proxy-gw1"
    assert SESSION_NAME.fullmatch(naming.shared_session_name("g" * 80 + ".valid.example"))


def test_instance_id_stays_the_same() -> None:
    """The id of a name is fixed for all versions: tools keep it."""
    assert naming.instance_id("tuvfoo42.valid.example") == "i-14f883da998655429"


@given(st.text(), st.text())
def test_instance_ids(one: str, other: str) -> None:
    """The form is EC2's, and two names have two ids."""
    assert re.fullmatch("i-[0-9a-f]{17}", naming.instance_id(one))
    assert (naming.instance_id(one) == naming.instance_id(other)) == (one == other)
