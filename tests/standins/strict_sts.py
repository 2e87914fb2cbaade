"""What real STS checks of an AssumeRole and moto lets through: parameters, trust policy, durations.

Pure decisions over the request's parameters. Wording and limits: AWS STS API reference, AssumeRole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.standins.iam_policies import ALLOW_ALL, Asked, decide, names_principal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SESSION_NAME = re.compile(r"[\w+=,.@-]*", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]*", re.ASCII)
_TAG = re.compile(r"[\w\s_.:/=+\-@]*")  # \p{L}\p{Z}\p{N}_.:/=+\-@ of the API reference
_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::(\d{12}):role/[\x21-\x7e]+")
_LONGEST_POLICY = 2048
_MOST_TAGS = 50
_CHAINED_DURATION = 3600
# Service authorization reference, "Condition keys for AWS STS": which of them each action knows.
_CONDITION_KEYS = {
    "sts:AssumeRole": {"sts:externalid", "sts:rolesessionname", "sts:sourceidentity"},
    "sts:TagSession": set(),
    "sts:SetSourceIdentity": {"sts:sourceidentity"},
}
_TAGGED_ACTIONS = frozenset({"sts:AssumeRole", "sts:TagSession"})


@dataclass(frozen=True)
class Signer:
    """Who signed: a user, or the session of an assumed role."""

    arn: str
    account_id: str
    is_session: bool = False
    policies: tuple[str, ...] = field(default=(ALLOW_ALL,), repr=False)
    """Its own policies."""
    source_identity: str | None = None
    """What its session carries, and every session that it opens."""

    role_arn: str | None = None
    """Of a session: the role, by which policies know it."""


@dataclass(frozen=True)
class Role:
    """The role as IAM knows it."""

    arn: str
    trust_policy: str = field(repr=False)
    max_session_duration: int = 3600


@dataclass(frozen=True)
class StsError(Exception):
    """An answer that is not credentials."""

    status: int
    code: str
    message: str


@dataclass(frozen=True)
class AssumeRole:
    """The parameters of one call, as they came."""

    role_arn: str
    session_name: str
    duration: int
    tags: tuple[tuple[str, str], ...] = ()
    policy: str | None = None
    external_id: str | None = None
    source_identity: str | None = None

    @classmethod
    def parse(cls, form: Mapping[str, str]) -> AssumeRole:
        """Return the call that a form makes. Raises StsError for a duration that is no number."""
        try:
            duration = int(form.get("DurationSeconds", "3600"))
        except ValueError:
            raise StsError(400, "MalformedInput", "DurationSeconds is not a number") from None
        return cls(
            role_arn=form.get("RoleArn", ""),
            session_name=form.get("RoleSessionName", ""),
            duration=duration,
            tags=tuple(_tags(form)),
            policy=form.get("Policy"),
            external_id=form.get("ExternalId"),
            source_identity=form.get("SourceIdentity"),
        )

    @property
    def role_name(self) -> str:
        """The role's name, without its path."""
        return self.role_arn.rpartition("/")[2]

    @property
    def account_id(self) -> str | None:
        """The account in the role's ARN; None when it is no role ARN."""
        match = _ROLE_ARN.fullmatch(self.role_arn)
        return match.group(1) if match else None


def _tags(form: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    numbers = {
        match.group(1) for match in map(re.compile(r"Tags\.member\.(\d+)\.\w+").fullmatch, form) if match
    }
    for number in sorted(numbers, key=int):
        yield form.get(f"Tags.member.{number}.Key", ""), form.get(f"Tags.member.{number}.Value", "")


def check_parameters(call: AssumeRole) -> None:
    """Raise StsError when a parameter breaks the limits of the API reference."""
    violations = [*_required(call), *_optional(call), *_tag_violations(call.tags)]
    if violations:
        plural = "s" if len(violations) > 1 else ""
        text = f"{len(violations)} validation error{plural} detected: " + "; ".join(violations)
        raise StsError(400, "ValidationError", text)
    folded = [key.casefold() for key, _ in call.tags]
    if len(set(folded)) < len(folded):
        raise StsError(
            400,
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    if call.policy is not None:
        _check_policy(call.policy)


def _violation(value: object, name: str, constraint: str) -> str:
    return f"Value '{value}' at '{name}' failed to satisfy constraint: Member must {constraint}"


def _required(call: AssumeRole) -> Iterator[str]:
    if call.account_id is None:
        yield f"{call.role_arn} is invalid"
    if len(call.session_name) < 2:
        yield _violation(call.session_name, "roleSessionName", "have length greater than or equal to 2")
    if len(call.session_name) > 64:
        yield _violation(call.session_name, "roleSessionName", "have length less than or equal to 64")
    if not _SESSION_NAME.fullmatch(call.session_name):
        yield _violation(
            call.session_name, "roleSessionName", r"satisfy regular expression pattern: [\w+=,.@-]*"
        )
    if call.duration < 900:
        yield _violation(call.duration, "durationSeconds", "have value greater than or equal to 900")
    if call.duration > 43200:
        yield _violation(call.duration, "durationSeconds", "have value less than or equal to 43200")


def _optional(call: AssumeRole) -> Iterator[str]:
    if call.external_id is not None:
        if not 2 <= len(call.external_id) <= 1224:
            yield _violation(call.external_id, "externalId", "have length between 2 and 1224")
        if not _EXTERNAL_ID.fullmatch(call.external_id):
            yield _violation(
                call.external_id, "externalId", r"satisfy regular expression pattern: [\w+=,.@:\/-]*"
            )
    if call.source_identity is not None:
        if not 2 <= len(call.source_identity) <= 64:
            yield _violation(call.source_identity, "sourceIdentity", "have length between 2 and 64")
        if not _SESSION_NAME.fullmatch(call.source_identity):
            yield _violation(
                call.source_identity, "sourceIdentity", r"satisfy regular expression pattern: [\w+=,.@-]*"
            )
    if call.policy is not None and not 1 <= len(call.policy) <= _LONGEST_POLICY:
        yield _violation(call.policy, "policy", f"have length less than or equal to {_LONGEST_POLICY}")


def _tag_violations(tags: tuple[tuple[str, str], ...]) -> Iterator[str]:
    if len(tags) > _MOST_TAGS:
        yield _violation("[Tag, ...]", "tags", f"have length less than or equal to {_MOST_TAGS}")
    for number, (key, value) in enumerate(tags, start=1):
        if not 1 <= len(key) <= 128 or not _TAG.fullmatch(key) or key.lower().startswith("aws:"):
            yield _violation(
                key,
                f"tags.{number}.member.key",
                r"satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+",
            )
        if len(value) > 256 or not _TAG.fullmatch(value):
            yield _violation(
                value,
                f"tags.{number}.member.value",
                r"satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*",
            )


def _check_policy(policy: str) -> None:
    try:
        document = json.loads(policy)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise StsError(400, "MalformedPolicyDocument", "This policy contains invalid Json")


def check_role(
    call: AssumeRole, signer: Signer, role: Role | None, network: Mapping[str, str] | None = None
) -> None:
    """Raise StsError when the role is missing, does not let the signer in, or allows no session that long.

    `network` are the condition keys that say where the call comes from.
    """
    actions = ["sts:AssumeRole"]
    if call.tags:
        actions.append("sts:TagSession")
    if call.source_identity or signer.source_identity:
        actions.append("sts:SetSourceIdentity")
    for action in actions:
        if role is None or not _is_allowed(role, signer, _asked(call, signer, action, network or {})):
            text = f"User: {signer.arn} is not authorized to perform: {action} on resource: {call.role_arn}"
            raise StsError(403, "AccessDenied", text)
    if signer.source_identity not in {None, call.source_identity or signer.source_identity}:
        raise StsError(403, "AccessDenied", "The source identity of a session can't be changed")
    assert role is not None
    if signer.is_session and call.duration > _CHAINED_DURATION:
        limit = "the 1 hour session limit for roles assumed by role chaining"
        raise StsError(400, "ValidationError", f"The requested DurationSeconds exceeds {limit}")
    if call.duration > role.max_session_duration:
        text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise StsError(400, "ValidationError", text)


def _is_allowed(role: Role, signer: Signer, asked: Asked) -> bool:
    """Tell whether both sides agree; within an account a role that names the signer is enough."""
    own, trust = decide(signer.policies, asked), decide((role.trust_policy,), asked)
    if own is False or not trust:
        return False
    is_same_account = role.arn.split(":")[4] == signer.account_id
    return own is True or (is_same_account and names_principal(role.trust_policy, asked))


def _asked(call: AssumeRole, signer: Signer, action: str, network: Mapping[str, str]) -> Asked:
    parameters = {
        "sts:externalid": call.external_id,
        "sts:rolesessionname": call.session_name,
        "sts:sourceidentity": call.source_identity or signer.source_identity,
    }
    known = _CONDITION_KEYS[action]
    context: dict[str, str | tuple[str, ...]] = {
        key: value for key, value in parameters.items() if key in known and value is not None
    }
    if action in _TAGGED_ACTIONS and call.tags:
        context["aws:tagkeys"] = tuple(key for key, _ in call.tags)
        context |= {f"aws:requesttag/{key.lower()}": value for key, value in call.tags}
    return Asked(signer.role_arn or signer.arn, action, call.role_arn, {**context, **network})
