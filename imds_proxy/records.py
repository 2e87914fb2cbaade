"""From a decision to its audit record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imds_proxy.audit_records import Record
from imds_proxy.errors import AWSError, Refusal, Trouble

if TYPE_CHECKING:
    from imds_proxy.errors import FederationError
    from imds_proxy.model import Credentials, Grant, IPAddress, RoleSession
    from imds_proxy.verdict import Verdict


def hand_out_record(
    address: IPAddress, verdict: Verdict | None, credentials: Credentials, *, workload: str | None = None
) -> Record:
    """Return the record of credentials that go to the caller at `address`, by which verdict.

    Of a `workload`, its name is on record whatever became of it.
    """
    return replace(
        _record_of(address, verdict, "granted", workload),
        access_key_id=credentials.access_key,
        expiration=credentials.expiration,
        sts_request_id=credentials.request_id,
    )


def denial_record(
    address: IPAddress, verdict: Verdict | None, error: Refusal | Trouble, *, workload: str | None = None
) -> Record:
    """Return the record of a refusal, or of trouble.

    What the verdict already says is not said twice: `error` is there for what came after it.
    """
    outcome = "refused" if isinstance(error, Refusal) else "trouble"
    record = _record_of(address, verdict, outcome, workload)
    text = None if str(error) == record.reason else str(error)
    request_id = error.request_id if isinstance(error, AWSError | Refusal) else None
    return replace(record, error=text, sts_request_id=request_id)


def person_hand_out_record(
    caller: str, user: str, grant: Grant, session: RoleSession, credentials: Credentials
) -> Record:
    """Return the record of credentials that go to the person who logged in as `user`, by which grant."""
    return Record(
        caller=caller,
        outcome="granted",
        name=user,
        reason=grant.reason,
        account=grant.account,
        role=grant.role,
        session_name=session.session_name,
        access_key_id=credentials.access_key,
        expiration=credentials.expiration,
        sts_request_id=credentials.request_id,
    )


def person_denial_record(
    caller: str,
    user: str | None,
    error: FederationError,
    *,
    account: str | None = None,
    role: str | None = None,
    grant: Grant | None = None,
) -> Record:
    """Return the record of what a person did not get, of the account and role they asked for.

    `error` is there for what came after a grant, as in a machine's records.
    """
    return Record(
        caller=caller,
        outcome="refused" if isinstance(error, Refusal) else "trouble",
        name=user,
        reason=grant.reason if grant is not None else str(error),
        account=account,
        role=role,
        error=str(error) if grant is not None else None,
        sts_request_id=error.request_id if isinstance(error, AWSError | Refusal) else None,
    )


def _record_of(address: IPAddress, verdict: Verdict | None, outcome: str, workload: str | None) -> Record:
    record = Record(caller=str(address), outcome=outcome, name=workload)
    if verdict is None:
        return record
    record = replace(
        record,
        name=verdict.names[0] if verdict.names else workload,
        reason=verdict.reason,
        stale=verdict.is_stale,
    )
    if verdict.grant is None or verdict.session is None:
        return record
    return replace(
        record,
        account=verdict.grant.account,
        role=verdict.grant.role,
        session_name=verdict.session.session_name,
    )
