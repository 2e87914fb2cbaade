"""`demo --once` believes nothing: a story of client, daemon and audit log counts only if every value fits."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imds_proxy.demo.evidence import AuditRecord, ClientReport, Evidence, Name, Verdict, find_faults

_NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_KEY = "ASIAEXAMPLEEXAMPLE00"
_NAME = "tuvfoo42.valid.example"
_ROLE = "roleprefix-tuvfoo"

_TRUE_STORY = Evidence(
    client=ClientReport(
        region="eu-central-1",
        credentials_from="iam-role",
        access_key_id=_KEY,
        account_id="000123456789",
        arn=f"arn:aws:sts::000123456789:assumed-role/{_ROLE}/{_NAME}",
        content="Hello from a bucket that only a role may read.",
    ),
    verdict=Verdict(
        address="127.0.0.1",
        names=(Name(name=_NAME, confirmed=True, allowed=True),),
        account_id="000123456789",
        role=_ROLE,
        role_arn=f"arn:aws:iam::000123456789:role/{_ROLE}",
        session_name=_NAME,
        reason="its host part has the scheme loctyp",
        outcome="granted",
    ),
    audit=AuditRecord(
        caller="127.0.0.1",
        outcome="granted",
        name=_NAME,
        role=_ROLE,
        session_name=_NAME,
        access_key_id=_KEY,
        expiration=_NOW + timedelta(hours=1),
    ),
    spoofer=Verdict(address="127.0.0.3", outcome="refused", reason="no name leads back"),
)


def _changed(part: str, field: str, value: object) -> Evidence:
    changed = getattr(_TRUE_STORY, part).model_copy(update={field: value})
    changes: dict[str, Any] = {part: changed}
    return dataclasses.replace(_TRUE_STORY, **changes)


def test_a_story_that_fits_has_no_faults() -> None:
    """Three sides that saw the same are believed."""
    assert find_faults(_TRUE_STORY, _NOW) == []


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("client", "region", None),
        ("client", "credentials_from", "shared-credentials-file"),
        ("client", "access_key_id", "AKIASOMEBODYELSES000"),
        ("client", "account_id", "123456789012"),
        ("client", "arn", "arn:aws:iam::000123456789:user/imds-proxy"),
        ("client", "arn", f"arn:aws:sts::000123456789:assumed-role/roleprefix-probar/{_NAME}"),
        ("client", "arn", f"arn:aws:sts::000123456789:assumed-role/{_ROLE}/somebody"),
        ("client", "content", ""),
        ("verdict", "outcome", "refused"),
        ("verdict", "address", "127.0.0.2"),
        ("verdict", "names", ()),
        ("verdict", "names", (Name(name=_NAME, confirmed=False, allowed=True),)),
        ("verdict", "names", (Name(name=_NAME, confirmed=True, allowed=False),)),
        ("verdict", "account_id", "123456789"),
        ("verdict", "role", "roleprefix-probar"),
        ("verdict", "role_arn", "arn:aws:iam::000123456789:role/roleprefix-probar"),
        ("verdict", "session_name", "shared"),
        ("audit", "caller", "127.0.0.2"),
        ("audit", "outcome", "trouble"),
        ("audit", "name", None),
        ("audit", "role", None),
        ("audit", "session_name", "berbar07.valid.example"),
        ("audit", "access_key_id", None),
        ("audit", "expiration", None),
        ("audit", "expiration", _NOW + timedelta(minutes=24, seconds=59)),
        ("spoofer", "address", "127.0.0.1"),
        ("spoofer", "outcome", "trouble"),
        ("spoofer", "role", _ROLE),
    ],
)
def test_any_value_that_differs_is_a_fault(part: str, field: str, value: object) -> None:
    """One value that another side saw differently, or that is not the machine's, fails the demo."""
    assert find_faults(_changed(part, field, value), _NOW)


def test_every_line_begins_with_its_word() -> None:
    """The lines can be told apart by their first word, the caller's identity being the ARN itself."""
    lines = [line.split() for line in _TRUE_STORY.lines()]
    words = [line[0] for line in lines]
    assert words == ["address", "name", "role", "assume-role", "caller-identity", "s3", "spoofed"]
    assert lines[4][1] == f"arn:aws:sts::000123456789:assumed-role/{_ROLE}/{_NAME}"
