"""The reader of policies: its rules are IAM's, and what it does not know is an error."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.standins.iam_policies import ALLOW_ALL, Asked, decide, names_principal

USER = "arn:aws:iam::000123456789:user/gateway"
ASKED = Asked(
    USER,
    "s3:GetObject",
    "arn:aws:s3:::bucket/tuvfoo42/state",
    {
        "aws:sourceip": "203.0.113.7",
        "aws:principaltag/host": "tuvfoo42",
        "aws:tagkeys": ("host", "gateway"),
        "aws:viaawsservice": "false",
    },
)


def document(**elements: object) -> str:
    """Return a policy with one statement."""
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", **elements}]})


def test_deny_beats_allow_and_nothing_is_neither() -> None:
    """Over several policies."""
    deny = document(Effect="Deny", Action="s3:Get*")
    assert decide([ALLOW_ALL], ASKED) is True
    assert decide([ALLOW_ALL, deny], ASKED) is False
    assert decide([document(Action="s3:PutObject")], ASKED) is None
    assert decide([], ASKED) is None


@pytest.mark.parametrize(
    ("elements", "concerns"),
    [
        ({"Action": "S3:getobject"}, True),
        ({"Action": ["s3:Put*", "s3:*Object"]}, True),
        ({"Resource": "arn:aws:s3:::bucket/*"}, True),
        ({"Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::other/*"]}, False),
        ({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/host}/*"}, True),
        ({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/other}*"}, False),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": USER}}, True),
        ({"Principal": {"AWS": ["arn:aws:iam::000123456789:root"]}}, True),
        ({"Principal": {"AWS": "210987654321"}}, False),
        ({"Principal": {"Service": "ec2.amazonaws.com"}}, False),
    ],
)
def test_what_a_statement_is_about(elements: dict[str, object], concerns: bool) -> None:
    """Actions in any case, resources exactly, with wildcards and variables; principals by ARN or account."""
    assert decide([document(**elements)], ASKED) is (True if concerns else None)


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "holds"),
    [
        ("StringEquals", "aws:PrincipalTag/host", ["x", "tuvfoo42"], True),
        ("StringEquals", "aws:PrincipalTag/host", "tuvfoo*", False),
        ("StringLike", "aws:PrincipalTag/host", "tuvfoo*", True),
        ("StringEquals", "aws:PrincipalTag/other", "x", False),
        ("StringEqualsIfExists", "aws:PrincipalTag/other", "x", True),
        ("StringNotEquals", "aws:PrincipalTag/host", ["x", "tuvfoo42"], False),
        ("StringNotEquals", "aws:PrincipalTag/other", "x", True),
        ("StringNotLike", "aws:PrincipalTag/host", "x*", True),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:user/gateway", True),
        ("ArnNotEquals", "aws:PrincipalArn", USER, False),
        ("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "203.0.113.0/24"], True),
        ("NotIpAddressIfExists", "aws:SourceIp", "203.0.113.0/24", False),
        ("NotIpAddressIfExists", "aws:SourceVpce", "203.0.113.0/24", True),
        ("BoolIfExists", "aws:ViaAWSService", False, True),
        ("BoolIfExists", "aws:ViaAWSService", "true", False),
        ("Null", "aws:SourceVpc", "true", True),
        ("Null", "aws:SourceIp", "true", False),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["host", "gateway", "x"], True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["host"], False),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["host"], True),
        ("ForAllValues:StringEquals", "sts:TransitiveTagKeys", ["host"], True),
        ("ForAnyValue:StringEquals", "sts:TransitiveTagKeys", ["host"], False),
    ],
)
def test_conditions(operator: str, key: str, wanted: object, holds: bool) -> None:
    """A key that is missing fails a condition, but not a negated one, nor IfExists, nor ForAllValues."""
    assert decide([document(Condition={operator: {key: wanted}})], ASKED) is (True if holds else None)


def test_who_is_named() -> None:
    """By its own ARN, which is more than by its account's."""
    assert names_principal(document(Principal={"AWS": ["x", USER]}), ASKED)
    assert not names_principal(document(Principal={"AWS": "000123456789"}), ASKED)
    assert not names_principal(document(Principal={"AWS": USER}, Action="s3:Put*"), ASKED)
    assert not names_principal(document(Principal={"AWS": USER}), replace(ASKED, principal=USER + "2"))


@pytest.mark.parametrize(
    "elements",
    [
        {"NotAction": "s3:*"},
        {"Effect": "allow"},
        {"Condition": {"NumericLessThan": {"aws:SourceIp": "1"}}},
        {"Condition": {"ForNoValue:StringEquals": {"aws:TagKeys": "1"}}},
        {"Condition": {"StringEquals": {"aws:PrincipalType": "User"}}},
        {"Resource": "arn:aws:s3:::bucket/${aws:username}"},
    ],
)
def test_what_is_beyond_it(elements: dict[str, object]) -> None:
    """Neither a yes nor a no."""
    with pytest.raises(ValueError, match=r"beyond this stand-in|is none"):
        decide([document(**elements)], ASKED)
