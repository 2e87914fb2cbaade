"""by_groups: accounts and roles follow from the names of groups. Here the settings say who is in which."""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from imds_proxy.base_provider import BaseProvider
from imds_proxy.provider import ProviderSettings

if TYPE_CHECKING:
    import logging

LONGEST_GROUP = 256
"""Characters. A longer name is no grant: what an expression costs grows with the text."""

_GROUPS = ("account", "role")
_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, of line separators, and of bytes that are no UTF-8."""


def check_regex(regex: str) -> str:
    """Return a regular expression that can tell accounts and roles. Raises ValueError for any other."""
    try:
        names = re.compile(regex).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    missing = [f"(?P<{name}>...)" for name in _GROUPS if name not in names]
    if missing:
        raise ValueError(f"lacks the group {' and the group '.join(missing)}")
    return regex


class Settings(ProviderSettings):
    """What every provider by group needs to know."""

    regex: Annotated[str, AfterValidator(check_regex)] = Field(
        description="Regular expression with the groups account and role; must match a group's whole name."
    )


class OpenSettings(Settings):
    """The same for a class of a site's own, which reads further keys itself."""

    model_config = ConfigDict(extra="allow")


class ProviderByGroups(BaseProvider):
    """Base of providers that know somebody's groups: `get_group_list` is all that a subclass says."""

    settings_model: ClassVar[type[ProviderSettings] | None] = OpenSettings

    def __init__(self, user: str, config: Mapping[str, Any], logger: logging.Logger | None = None) -> None:
        """Raises ValueError for an expression that can't be used."""
        super().__init__(user, config, logger)
        regex = check_regex(config["regex"])
        self.pattern = re.compile(regex)
        self.regex = f"{'' if regex.startswith('^') else '^'}{regex}{'' if regex.endswith('$') else '$'}"
        """For subclasses that match by themselves; grants come of a match of the whole name."""

    @abstractmethod
    def get_group_list(self) -> Iterable[str] | None:
        """Return the names of the user's groups; None or an empty list for none."""
        raise NotImplementedError

    def get_accounts_and_roles(self) -> dict[str, set[tuple[str, str]]]:
        """Return {account: {(role, reason), ...}, ...} as the groups' names say."""
        groups = _check_groups(self.get_group_list())
        reasons: dict[tuple[str, str], list[str]] = {}
        for group in sorted(groups):
            grant = read_group(self.pattern, group)
            if grant is None:
                self.logger.debug("%s: the group %r gives nothing", self.user, group)
            else:
                reasons.setdefault(grant, []).append(f"group {group} matches {self.pattern.pattern}")
        found: dict[str, set[tuple[str, str]]] = {}
        for (account, role), texts in reasons.items():
            found.setdefault(account, set()).add((role, "; ".join(texts)))
        return found


def read_group(pattern: re.Pattern[str], group: str) -> tuple[str, str] | None:
    """Return the (account, role) that a group's name stands for, or None.

    The whole name must match, and what it matches first counts: never another way to split it.
    """
    if len(group) > LONGEST_GROUP or any(unicodedata.category(one) in _NOT_IN_NAMES for one in group):
        return None
    match = pattern.fullmatch(group)
    if match is None or not match["account"] or not match["role"]:
        return None
    return match["account"], match["role"]


def _check_groups(groups: object) -> set[str]:
    if groups is None:
        return set()
    if isinstance(groups, str | bytes | Mapping) or not isinstance(groups, Iterable):
        raise TypeError(f"get_group_list gave a {type(groups).__name__}, not a list of names")
    names = set(groups)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"get_group_list gave a {type(name).__name__} among the names")
    return names


class StaticSettings(Settings):
    """The groups themselves."""

    groups: dict[str, list[str]] = Field(
        min_length=1, description="Group -> login names (or addresses of machines), compared exactly."
    )


class Provider(ProviderByGroups):
    """Knows the groups that its settings list: for demos, tests and small sites."""

    settings_model = StaticSettings

    def get_group_list(self) -> list[str]:
        """Return the groups that list the user."""
        return [group for group, users in self.config["groups"].items() if self.user in users]
