"""The rules by which by_ip makes a role of a host part: two built in, and patterns that a site writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from imds_proxy import naming

if TYPE_CHECKING:
    from collections.abc import Callable

    Rule = Callable[[str], str | None]
    """Host part -> role name without the prefix, or None: no role."""

_LOCTYP_LENGTH = 8
_PRODUCTION_LOCATIONS = frozenset({"ber", "ham"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def loctyp(host: str) -> str | None:
    """Return location and type of a host part of exactly eight characters: `tuvfoo42` -> `tuvfoo`.

    The production locations `ber` and `ham` share their roles: `berbar07` -> `probar`.
    """
    if len(host) != _LOCTYP_LENGTH:
        return None
    location, kind = host[:3], host[3:6]
    return ("pro" if location in _PRODUCTION_LOCATIONS else location) + kind


def hostname(host: str) -> str:
    """Return the whole host part: every machine has a role of its own."""
    return host


class PatternSettings(BaseModel):
    """A rule that a site writes: named groups of a regular expression, put into a role's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str = Field(
        description="Regular expression with named groups; must match the whole host part, ASCII classes."
    )
    role: str = Field(
        description="The role name after the prefix; {group} stands for what the group matched."
    )
    maps: dict[str, dict[str, str]] = Field(
        default={}, description="Per group, values that become others; a value not listed stays as it is."
    )

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        if not _compile(pattern).groupindex:
            raise ValueError(
                "the pattern has no named group, such as (?P<svc>[a-z]+): every host would get one role"
            )
        return pattern

    @field_validator("role")
    @classmethod
    def _check_role(cls, role: str, info: ValidationInfo) -> str:
        literals, groups = _split_template(role)
        for literal in literals:
            _check_characters(literal)
        if not groups:
            raise ValueError("no {group} in it: every host would get one role")
        _check_groups(groups, info)
        return role

    @field_validator("maps")
    @classmethod
    def _check_maps(cls, maps: dict[str, dict[str, str]], info: ValidationInfo) -> dict[str, dict[str, str]]:
        _check_groups(list(maps), info)
        for values in maps.values():
            for value in values.values():
                _check_characters(value)
        return maps


class PatternRule:
    """The rule that `PatternSettings` describe, ready to be asked."""

    def __init__(self, settings: PatternSettings) -> None:
        self._pattern = _compile(settings.pattern)
        self._literals, self._groups = _split_template(settings.role)
        self._maps = settings.maps

    def __call__(self, host: str) -> str | None:
        """Return the role name, or None where the pattern or a group of the template does not match."""
        match = self._pattern.fullmatch(host)
        if match is None:
            return None
        role = self._literals[0]
        for group, literal in zip(self._groups, self._literals[1:], strict=True):
            value = match[group]
            if value is None:
                return None
            role += self._maps.get(group, {}).get(value, value) + literal
        return role


_BUILT_IN: dict[str, Rule] = {"loctyp": loctyp, "hostname": hostname}


def _parse_rule(value: object) -> object:
    """Judge by the value's kind, so that a fault in a pattern names its own key and nothing else."""
    if isinstance(value, dict):
        return PatternSettings.model_validate(value)
    if isinstance(value, PatternSettings) or (isinstance(value, str) and value in _BUILT_IN):
        return value
    raise ValueError(f"not a rule; known: {', '.join(_BUILT_IN)}, or a map of pattern, role and maps")


BuiltIn = Literal["loctyp", "hostname"]
RuleSettings = Annotated[BuiltIn | PatternSettings, BeforeValidator(_parse_rule)]
"""The setting `rule`: the name of a built-in rule, or a pattern."""


def make_rule(settings: BuiltIn | PatternSettings) -> Rule:
    """Return the rule that the settings ask for."""
    return PatternRule(settings) if isinstance(settings, PatternSettings) else _BUILT_IN[settings]


def rule_name(settings: BuiltIn | PatternSettings) -> str:
    """Return what the rule is called in reasons."""
    return "pattern" if isinstance(settings, PatternSettings) else settings


def _compile(pattern: str) -> re.Pattern[str]:
    """Raises ValueError saying what is wrong with the pattern."""
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _split_template(template: str) -> tuple[list[str], list[str]]:
    """Return the literal texts and the groups between them: one text more than groups."""
    parts = _PLACEHOLDER.split(template)
    literals, groups = parts[::2], parts[1::2]
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError("a brace without its partner; write {group}")
    return literals, groups


def _check_groups(groups: list[str], info: ValidationInfo) -> None:
    """Raise ValueError for a group that the pattern lacks; a faulty pattern has its own fault already."""
    pattern = info.data.get("pattern")
    if pattern is None:
        return
    known = _compile(pattern).groupindex
    for group in groups:
        if group not in known:
            raise ValueError(f"the pattern has no group {group!r}; it has: {', '.join(known)}")


def _check_characters(text: str) -> None:
    if text and not naming.is_role_name(text):
        raise ValueError(f"{text!r} can't be part of a role name: up to 64 of A-Z a-z 0-9 _ + = , . @ -")
