"""What an IAM policy says to a request: pure decisions over policy documents, or ValueError.

As much of the language as this project's policies use; whatever is beyond it is an error, never a guess.
Rules: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ALLOW_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'

_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_KNOWN_KEYS = re.compile(
    r"sts:(externalid|rolesessionname|sourceidentity|transitivetagkeys)"
    r"|aws:(principalarn|sourceip|sourcevpce|sourcevpc|sourcearn|sourceidentity|viaawsservice"
    r"|resourceaccount|resourceorgid|tagkeys|requesttag/.+|principaltag/.+)"
)


@dataclass(frozen=True)
class Asked:
    """What is asked: by whom, for what, on what, and what else is known of the request."""

    principal: str
    """The ARN of a user or a role; a service's name for what a service does."""
    action: str
    resource: str
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Condition keys in lower case. A key that is not here is not in the request."""

    @property
    def account_id(self) -> str:
        """The principal's account, '' for a service."""
        return self.principal.split(":")[4] if self.principal.startswith("arn:") else ""

    def values(self, key: str) -> tuple[str, ...]:
        """Return the values of a condition key, () where the request has none."""
        folded = key.lower()
        if not _KNOWN_KEYS.fullmatch(folded):
            raise ValueError(f"the condition key {key} is beyond this stand-in")
        if folded == "aws:principalarn":
            return (self.principal,)
        value = self.context.get(folded, ())
        return (value,) if isinstance(value, str) else value


def decide(documents: Iterable[str], asked: Asked) -> bool | None:
    """Return False for a Deny in any of the policies, else True for an Allow, None for neither."""
    effects = {
        statement["Effect"]
        for text in documents
        for statement in _statements(text)
        if _concerns(statement, asked)
    }
    if unknown := effects - {"Allow", "Deny"}:
        raise ValueError(f"the effect {unknown} is none")
    return None if not effects else "Deny" not in effects


def names_principal(document: str, asked: Asked) -> bool:
    """Tell whether a resource's policy allows this by the principal's own ARN, not by its account's."""
    named = [statement for statement in _statements(document) if asked.principal in _trusted(statement)]
    return any(statement["Effect"] == "Allow" and _concerns(statement, asked) for statement in named)


def _statements(document: str) -> list[dict[str, Any]]:
    return [
        statement for statement in listed(json.loads(document)["Statement"]) if isinstance(statement, dict)
    ]


def listed(value: Any) -> list[Any]:
    """Return a list as it is, anything else as the only one of a list."""
    return value if isinstance(value, list) else [value]


def _trusted(statement: Mapping[str, Any]) -> list[str]:
    principal = statement.get("Principal", [])
    if isinstance(principal, dict):
        return [name for names in principal.values() for name in listed(names)]
    return listed(principal)


def _concerns(statement: Mapping[str, Any], asked: Asked) -> bool:
    if unknown := set(statement) - _ELEMENTS:
        raise ValueError(f"a policy with {sorted(unknown)} is beyond this stand-in")
    if "Principal" in statement:
        account = asked.account_id
        names = {"*", asked.principal, account, f"arn:aws:iam::{account}:root"}
        if names.isdisjoint(_trusted(statement)):
            return False
    actions = [action.lower() for action in listed(statement["Action"])]
    if not any(fnmatchcase(asked.action.lower(), pattern) for pattern in actions):
        return False
    resources = listed(statement.get("Resource", "*"))
    if not any(fnmatchcase(asked.resource, _filled_in(pattern, asked)) for pattern in resources):
        return False
    return all(
        _holds(operator, key, [str(one) for one in listed(wanted)], asked)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _filled_in(text: str, asked: Asked) -> str:
    """Return a text with its variables replaced; one without a value matches nothing."""

    def value(match: re.Match[str]) -> str:
        found = asked.values(match[1])
        return found[0] if len(found) == 1 else "\0"

    return _VARIABLE.sub(value, text)


def _match_address(actual: str, wanted: str) -> bool:
    return ip_address(actual) in ip_network(wanted)


_POSITIVE: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "ArnLike": fnmatchcase,
    "IpAddress": _match_address,
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
}


def _holds(operator: str, key: str, wanted: list[str], asked: Asked) -> bool:
    quantifier, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    actual = asked.values(key)
    if name == "Null":
        return (not actual) == (wanted == ["true"])
    match = _POSITIVE.get(_NEGATED.get(name, name))
    if match is None or quantifier not in {"", "ForAllValues", "ForAnyValue"}:
        raise ValueError(f"the condition operator {operator} is beyond this stand-in")
    if not actual:
        return quantifier == "ForAllValues" or rest.endswith("IfExists") or name in _NEGATED
    patterns = [_filled_in(pattern, asked) for pattern in wanted]
    found = [any(match(one, pattern) for pattern in patterns) != (name in _NEGATED) for one in actual]
    return any(found) if quantifier == "ForAnyValue" else all(found)
