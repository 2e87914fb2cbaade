"""What a granted and a refused machine see, asserted in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.lab.machine import METADATA, ROLE_LIST

if TYPE_CHECKING:
    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine

TUVFOO = "roleprefix-tuvfoo"
PROBAR = "roleprefix-probar"


def assert_refused(lab: Laboratory, machine: Machine, base: str = METADATA) -> None:
    """The machine gets a token, but no role at any path, and nobody asked AWS for it."""
    before = lab.calls()
    token = machine.fetch_token(base)
    for path in (ROLE_LIST, ROLE_LIST + TUVFOO, ROLE_LIST + PROBAR):
        answer = machine.ask(path, token=token, base=base)
        assert (answer.status, answer.body) == (404, ""), (path, answer)
    listing = machine.ask("/latest/meta-data/", token=token, base=base)
    assert listing.status == 200
    assert "iam/" not in listing.body.split("\n")
    assert lab.calls() == before


def assert_unavailable(lab: Laboratory, machine: Machine) -> None:
    """The machine gets a token at once, a 503 for its role, and nobody asked AWS for it."""
    before = lab.calls()
    token = machine.fetch_token()
    for path in (ROLE_LIST, ROLE_LIST + TUVFOO):
        answer = machine.ask(path, token=token)
        assert (answer.status, answer.body) == (503, ""), (path, answer)
    assert lab.calls() == before


def assert_granted(
    lab: Laboratory, machine: Machine, role: str, session_name: str, base: str = METADATA
) -> None:
    """The machine gets credentials of the role, from one AssumeRole under that session name."""
    document = machine.fetch_credentials(role, base)
    assert document["Code"] == "Success"
    (call,) = [call for call in lab.calls() if call.access_key_id == document["AccessKeyId"]]
    assert call.role_arn == f"arn:aws:iam::000123456789:role/{role}"
    assert call.session_name == session_name
