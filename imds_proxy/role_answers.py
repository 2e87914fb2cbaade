"""What a class of the old shape answers, {account: {(role, reason), ...}}, checked and turned into grants."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal
from imds_proxy.model import Grant

if TYPE_CHECKING:
    Answer = Mapping[tuple[str, str], frozenset[str]]
    """The reasons of each (account, role)."""

_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, halves of characters, line and paragraph separators."""


def read_answer(answer: object) -> Answer:
    """Return an answer in one form; None is a no, as is an empty map. Reasons become one line each.

    Raises TypeError for anything else, ValueError for a name that nothing can have. The message names types,
    never values: whatever it was may be a secret.
    """
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise TypeError(f"answered with {_a(answer)}, not with {{account: {{(role, reason), ...}}}}")
    found: dict[tuple[str, str], set[str]] = {}
    for account, roles in answer.items():
        _check_name("an account", account)
        if isinstance(roles, str | bytes | Mapping) or not isinstance(roles, Iterable):
            raise TypeError(f"answered for {account} with {_a(roles)}, not with (role, reason) pairs")
        for pair in roles:
            role, reason = _read_pair(account, pair)
            found.setdefault((account, role), set()).add(_one_line(reason))
    return {key: frozenset(reasons) for key, reasons in found.items()}


def read_logins(answer: object) -> frozenset[str]:
    """Return the login names that a class answers with. Raises TypeError for anything but texts."""
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        raise TypeError(f"answered with {_a(answer)}, not with login names")
    names = frozenset(answer)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"answered with {_a(name)} among the login names, not a text")
    return names


def _read_pair(account: str, pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"answered for {account} with {_a(pair)} among its roles, not a (role, reason) pair")
    role, reason = pair
    _check_name("a role", role)
    if not isinstance(reason, str):
        raise TypeError(f"answered for {account} with {_a(reason)} as the reason of {role}, not a text")
    return role, reason


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"answered with {_a(name)} for the name of {kind}, not a text")
    if not name:
        raise ValueError(f"answered with an empty text for the name of {kind}")
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in name):
        raise ValueError(f"answered with a line break or control character in the name of {kind}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in line)


def join(answers: Mapping[str, Answer]) -> frozenset[Grant]:
    """Return the one answer that the names of a caller gave, each grant with all its reasons.

    Raises Refusal when the answers differ in what they grant: then it is not known who is asking.
    """
    if len({frozenset(answer) for answer in answers.values()}) > 1:
        verdicts = ", ".join(f"{name} gives {_list(answer)}" for name, answer in answers.items())
        raise Refusal(f"the confirmed names disagree on the role: {verdicts}")
    reasons: dict[tuple[str, str], set[str]] = {}
    for answer in answers.values():
        for key, its_reasons in answer.items():
            reasons.setdefault(key, set()).update(its_reasons)
    return frozenset(Grant(*key, reason=join_reasons(found)) for key, found in reasons.items())


def join_reasons(reasons: Iterable[str]) -> str:
    """Return several reasons of one grant as one text, the same in whatever order they come."""
    return "; ".join(sorted(set(reasons)))


def _list(answer: Answer) -> str:
    return " and ".join(f"{role} in {account}" for account, role in sorted(answer)) or "nothing"


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
