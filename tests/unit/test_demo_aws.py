"""The demo's AWS turns down what AWS turns down and moto, which serves it, lets through."""

from __future__ import annotations

import pytest

from imds_proxy.demo.embedded_aws import find_fault
from imds_proxy.demo.machines import HONEST, role_arn

_FORM = {
    "Action": ["AssumeRole"],
    "RoleArn": [role_arn(HONEST.role or "")],
    "RoleSessionName": ["tuvfoo42.valid.example"],
    "DurationSeconds": ["3600"],
}


def test_a_good_request_goes_through() -> None:
    """What AWS would take is left to moto, whose job is signature and trust policy."""
    assert find_fault(_FORM) is None


def test_other_actions_are_left_alone() -> None:
    """GetCallerIdentity has none of AssumeRole's parameters."""
    assert find_fault({"Action": ["GetCallerIdentity"]}) is None


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        ("RoleArn", role_arn("roleprefix-missing"), "AccessDenied"),
        ("RoleArn", "arn:aws:iam::123456789012:role/roleprefix-tuvfoo", "AccessDenied"),
        ("RoleSessionName", "a", "ValidationError"),
        ("RoleSessionName", "a" * 65, "ValidationError"),
        ("RoleSessionName", "tuvfoo42 valid", "ValidationError"),
        ("RoleSessionName", "tüvfoo42", "ValidationError"),
        ("DurationSeconds", "899", "ValidationError"),
        ("DurationSeconds", "3601", "ValidationError"),
        ("DurationSeconds", "1h", "ValidationError"),
    ],
)
def test_what_aws_would_refuse_is_refused(parameter: str, value: str, code: str) -> None:
    """A missing role is AccessDenied as with AWS, which does not tell it from a trust policy's no."""
    fault = find_fault({**_FORM, parameter: [value]})
    assert fault is not None
    assert fault[0] == code


@pytest.mark.parametrize("parameter", ["RoleArn", "RoleSessionName"])
def test_a_missing_parameter_is_a_fault(parameter: str) -> None:
    """Both are required."""
    assert find_fault({name: values for name, values in _FORM.items() if name != parameter})
