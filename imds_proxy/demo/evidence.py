"""What the demo saw from its three sides (client, daemon, audit log), and whether it fits together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from imds_proxy.demo.machines import ACCOUNT_ID, BUCKET, CONTENT, HONEST, KEY, REGION, SPOOFER, role_arn

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST_LIFE = timedelta(minutes=25)
"""What every hand-out has at least: the SDKs' own refresh windows end below it."""


class _Seen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ClientReport(_Seen):
    """What the client process printed: plain boto3's view."""

    region: str | None
    credentials_from: str | None
    access_key_id: str | None
    account_id: str
    arn: str
    content: str


class Name(_Seen):
    """A host name in a verdict."""

    name: str
    confirmed: bool
    allowed: bool


class Verdict(_Seen):
    """What `explain --json` says about an address."""

    address: str
    names: tuple[Name, ...] = ()
    account_id: str | None = None
    role: str | None = None
    role_arn: str | None = None
    session_name: str | None = None
    reason: str | None = None
    outcome: str


class AuditRecord(_Seen):
    """The audit record of a decision."""

    caller: str
    outcome: str
    name: str | None = None
    role: str | None = None
    session_name: str | None = None
    access_key_id: str | None = None
    expiration: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that `demo --once` has seen."""

    client: ClientReport
    verdict: Verdict
    audit: AuditRecord
    spoofer: Verdict

    def lines(self) -> Iterator[str]:
        """Yield what there is to show, one line per thing, its word first."""
        names = ", ".join(name.name for name in self.verdict.names if name.confirmed and name.allowed)
        yield _line("address", self.verdict.address)
        yield _line("name", f"{names or 'none'} (by PTR, and its A record leads back)")
        yield _line(
            "role", f"{self.verdict.role} in account {self.verdict.account_id}: {self.verdict.reason}"
        )
        until = f"{self.audit.expiration:%Y-%m-%dT%H:%M:%SZ}" if self.audit.expiration else "?"
        session = f"session {self.audit.session_name}, key {self.audit.access_key_id}, until {until}"
        yield _line("assume-role", f"{self.verdict.role_arn}, {session}")
        yield _line("caller-identity", self.client.arn)
        yield _line("s3", f"s3://{BUCKET}/{KEY}: {self.client.content}")
        yield _line("spoofed", f"{self.spoofer.address} {self.spoofer.outcome}: {self.spoofer.reason}")


def _line(word: str, text: str) -> str:
    return f"{word:<16} {text}"


def find_faults(evidence: Evidence, now: datetime) -> list[str]:
    """Return everything that does not fit; empty when all was real. `now` is aware, UTC.

    Each value is compared with the one that another side saw, and the story with what the demo's
    machines are meant to get.
    """
    client, verdict, audit, spoofer = evidence.client, evidence.verdict, evidence.audit, evidence.spoofer
    confirmed = [name.name for name in verdict.names if name.confirmed and name.allowed]
    identity = f"arn:aws:sts::{verdict.account_id}:assumed-role/{verdict.role}/{audit.session_name}"
    life = audit.expiration - now if audit.expiration else timedelta(0)
    comparisons = (
        ("outcome of explain", verdict.outcome, "granted"),
        ("address that explain speaks of", verdict.address, HONEST.address),
        ("confirmed names", confirmed, [HONEST.claimed_name]),
        ("account", verdict.account_id, ACCOUNT_ID),
        ("role", verdict.role, HONEST.role),
        ("role's ARN", verdict.role_arn, role_arn(verdict.role or "")),
        ("session name in explain", verdict.session_name, HONEST.claimed_name),
        ("caller in the audit record", audit.caller, verdict.address),
        ("outcome in the audit record", audit.outcome, "granted"),
        ("name in the audit record", audit.name, HONEST.claimed_name),
        ("role in the audit record", audit.role, verdict.role),
        ("session name in the audit record", audit.session_name, verdict.session_name),
        ("access key of the audit record", audit.access_key_id, client.access_key_id),
        ("at least 25 minutes of life", life >= _SHORTEST_LIFE, True),
        ("where boto3 has its credentials from", client.credentials_from, "iam-role"),
        ("region", client.region, REGION),
        ("account of the caller's identity", client.account_id, verdict.account_id),
        ("caller's identity", client.arn, identity),
        ("content of the object", client.content, CONTENT),
        ("address of the spoofer", spoofer.address, SPOOFER.address),
        ("outcome for the spoofer", spoofer.outcome, "refused"),
        ("role for the spoofer", spoofer.role, None),
    )
    return [f"{what}: {seen!r} is not {wanted!r}" for what, seen, wanted in comparisons if seen != wanted]


def utc_now() -> datetime:
    """Return the time that expirations are judged by."""
    return datetime.now(UTC)
