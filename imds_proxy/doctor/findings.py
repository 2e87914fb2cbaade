"""A finding: how it stands, what was looked at, the fact, and what to do where it is not well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = Literal["ok", "warning", "fault", "skipped"]

_WIDTH = len("skipped")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. The keys of its JSON are these fields."""

    level: Level
    title: str
    fact: str
    remedy: str | None = None
    """What to do, as a command where there is one; None where all is well."""


def ok(title: str, fact: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", title, fact)


def warning(title: str, fact: str, remedy: str) -> Finding:
    """Return a finding that may be meant, or is no trouble yet."""
    return Finding("warning", title, fact, remedy)


def fault(title: str, fact: str, remedy: str) -> Finding:
    """Return a finding that keeps callers from their credentials, or gives them to others."""
    return Finding("fault", title, fact, remedy)


def skipped(title: str, reason: str, remedy: str | None = None) -> Finding:
    """Return that something could not be looked at, and why."""
    return Finding("skipped", title, reason, remedy)


def describe(finding: Finding) -> list[str]:
    """Return the lines for people: one, and a second with what to do."""
    lines = [f"{finding.level:{_WIDTH}} {finding.title}: {finding.fact}"]
    if finding.remedy:
        lines.append(f"{'':{_WIDTH}} -> {finding.remedy}")
    return lines


def summarise(findings: Iterable[Finding]) -> str:
    """Return how many of each level there are, in one line."""
    levels = [finding.level for finding in findings]
    nouns = (("ok", "ok"), ("warning", "warnings"), ("fault", "faults"), ("skipped", "skipped"))
    return ", ".join(
        f"{levels.count(level)} {noun if levels.count(level) != 1 else level}"
        for level, noun in nouns
        if level in levels
    )
