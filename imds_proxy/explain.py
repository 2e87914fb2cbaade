"""Every step of a decision, in words, for the operator who asks why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imds_proxy.caller import NO_POINTER_V6
from imds_proxy.errors import Refusal, Trouble
from imds_proxy.model import is_link_local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imds_proxy.caller import Finding, Identity
    from imds_proxy.clock import Clock
    from imds_proxy.model import IPAddress
    from imds_proxy.sts import Sts
    from imds_proxy.verdict import Judge, Verdict

_ADVICE_ON_TEMPORARY_ADDRESSES = (
    "if the caller has a name at another address and this is a temporary one, let it come from the other; "
    "on Linux: ip -6 route add fd00:ec2::254/128 via GATEWAY src ADDRESS"
)


@dataclass(frozen=True, slots=True)
class Door:
    """A listener as far as a decision goes: who is let in and who decides."""

    address: str
    admits: Callable[[IPAddress], bool]
    judge: Judge
    is_for_containers: bool = False
    is_by_workload: bool = False
    """Whether the name of the workload decides, which its token proves."""

    def __str__(self) -> str:
        return f"listener {self.address}" + (" (container credentials)" if self.is_for_containers else "")


@dataclass(frozen=True, slots=True)
class NameFound:
    """A name that was found for the address and what it counts."""

    name: str
    confirmed: bool
    allowed: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was decided, and the way there. The keys of its JSON are these fields."""

    address: str
    outcome: str
    reason: str
    steps: tuple[str, ...]
    names: tuple[NameFound, ...] = ()
    account: str | None = None
    account_id: str | None = None
    role: str | None = None
    role_arn: str | None = None
    session_name: str | None = None
    access_key_id: str | None = None
    expiration: str | None = None


async def explain(
    address: IPAddress,
    doors: Sequence[Door],
    *,
    workload: str | None = None,
    sts: Sts | None,
    clock: Clock,
) -> Explanation:
    """Decide about the caller at `address` anew and say how it went; with `sts`, assume the role as well.

    With `workload`, about who shows that workload's token from there, at a listener where its name decides.
    """
    steps: list[str] = []
    door = _find_door(address, workload, doors, steps)
    if door is None:
        reason = "no listener lets this address in"
        if workload is not None:
            reason = "no listener where the workload decides lets this address in"
        elif any(one.admits(address) for one in doors):
            reason = "no listener decides by this address: name the workload with --workload"
        return Explanation(str(address), "refused", reason, (*steps, f"refused: {reason}"))
    verdict = await door.judge.decide(address, clock.monotonic(), workload)
    steps += _steps_of(address, verdict, door)
    explanation = _conclude(address, verdict, steps)
    if verdict.session is None or sts is None:
        return explanation
    return await _assume(explanation, verdict, sts)


def _find_door(
    address: IPAddress, workload: str | None, doors: Sequence[Door], steps: list[str]
) -> Door | None:
    for door in doors:
        if not door.admits(address):
            why = "is not in its callers, or in callers_except"
            steps.append(f"{door}: {address} {'is link-local' if is_link_local(address) else why}")
        elif workload is None and door.is_by_workload:
            steps.append(f"{door}: the workload decides, not the address; name it with --workload")
        elif workload is not None and not door.is_by_workload:
            steps.append(f"{door}: the address decides, not the workload")
        else:
            steps.append(f"{door}: {address} is in its callers")
            return door
    return None


def _steps_of(address: IPAddress, verdict: Verdict, door: Door) -> list[str]:
    steps = [f"provider {door.judge.name} decides"]
    identity, pointers = verdict.identity, verdict.pointers
    if identity is None:
        steps.append("names: the provider asked for none")
    else:
        steps += _steps_of_names(address, identity)
    if pointers is not None and pointers is not identity:
        steps.append("names: looked up, because deny has names")
        steps += _steps_of_names(address, pointers)
    return steps


def _steps_of_names(address: IPAddress, identity: Identity) -> list[str]:
    steps = [f"name {finding.name}: {_note_of(finding, address)}" for finding in identity.findings]
    if identity.is_stale:
        steps.append(f"DNS fails now ({identity.failure}): the last confirmed names count on")
    elif identity.failure is not None:
        steps.append(f"DNS fails: {identity.failure}")
    if identity.refusal == NO_POINTER_V6:
        steps.append(_ADVICE_ON_TEMPORARY_ADDRESSES)
    if identity.names:
        steps.append(f"confirmed: {', '.join(identity.names)}")
    return steps


def _note_of(finding: Finding, address: IPAddress) -> str:
    if finding.note is not None:
        return finding.note
    return f"leads back to {address}" if finding.is_confirmed else f"does not lead back to {address}"


def _conclude(address: IPAddress, verdict: Verdict, steps: list[str]) -> Explanation:
    found = verdict.identity or verdict.pointers
    findings = found.findings if found else ()
    names = tuple(NameFound(f.name, confirmed=f.is_confirmed, allowed=f.is_allowed) for f in findings)
    grant, session = verdict.grant, verdict.session
    if grant is None or session is None:
        steps = [*steps, f"{verdict.outcome}: {verdict.reason}"]
        return Explanation(str(address), verdict.outcome, verdict.reason, tuple(steps), names)
    steps = [
        *steps,
        f"grant: role {grant.role} in account {grant.account}, because {grant.reason}",
        f"role ARN: {session.role_arn}",
        f"session name: {session.session_name}"
        + (", and source identity" if session.source_identity else ""),
    ]
    return Explanation(
        address=str(address),
        outcome="granted",
        reason=grant.reason,
        steps=tuple(steps),
        names=names,
        account=grant.account,
        account_id=session.account_id,
        role=grant.role,
        role_arn=session.role_arn,
        session_name=session.session_name,
    )


async def _assume(explanation: Explanation, verdict: Verdict, sts: Sts) -> Explanation:
    assert verdict.session is not None
    try:
        credentials = await sts.assume(verdict.session)
    except Refusal as refusal:
        try:
            cause = await sts.diagnose_refusal(verdict.session)
        except Trouble as trouble:
            cause = str(trouble)
        steps = (*explanation.steps, f"AssumeRole: {refusal}", f"refused: {cause}")
        return replace(explanation, outcome="refused", reason=f"{refusal} ({cause})", steps=steps)
    except Trouble as trouble:
        steps = (*explanation.steps, f"trouble: {trouble}")
        return replace(explanation, outcome="trouble", reason=str(trouble), steps=steps)
    step = f"AssumeRole: access key {credentials.access_key}, until {credentials.expiration}"
    return replace(
        explanation,
        steps=(*explanation.steps, step),
        access_key_id=credentials.access_key,
        expiration=credentials.expiration,
    )
