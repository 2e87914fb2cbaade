"""What we ship of others: the locks, what an audit says of them, whether a bill of materials is complete.

`python -m tests.supply_chain audit REPORT` judges what pip-audit wrote (status 3: it could not tell),
`python -m tests.supply_chain sbom FILE` compares a CycloneDX document with the locks.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGING = Path(__file__).parent.parent / "packaging"
SHIPPED = ("requirements.txt", "requirements-ldap.txt")
"""The locks of what is in the package. The image has the first."""

NOT_CHECKED = 3
"""Exit status of an audit that has no data."""

_HASH = re.compile(r" {4}--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of a module, and the hashes of its files."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The one version that will do."""
        [only] = self.requirement.specifier
        return only.version


def read_lock(text: str) -> dict[str, Pin]:
    """Return the pins of a lock by name. Raises ValueError for a line that is not pin, hash or comment."""
    pins: dict[str, Pin] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        content = line.removesuffix("\\").rstrip()
        if (found := _HASH.fullmatch(content)) is not None and name:
            pins[name] = Pin(pins[name].requirement, (*pins[name].hashes, found[1]))
        elif not line.startswith("#"):
            requirement = Requirement(content)
            if [each.operator for each in requirement.specifier] != ["=="]:
                raise ValueError(f"line {number}: {content} has no version")
            name = canonicalize_name(requirement.name)
            pins[name] = Pin(requirement, ())
    return pins


def shipped() -> dict[str, str]:
    """Return the versions of what the package has on this system, by name."""
    pins: dict[str, Pin] = {}
    for name in SHIPPED:
        pins |= read_lock((PACKAGING / name).read_text())
    return {
        name: pin.version
        for name, pin in pins.items()
        if pin.requirement.marker is None or pin.requirement.marker.evaluate()
    }


def judge_audit(report: Any, wanted: dict[str, str]) -> tuple[int, list[str]]:
    """Return an exit status and lines for people of pip-audit's report (None: there is none)."""
    found: dict[str, Any] = {
        canonicalize_name(each["name"]): each for each in (report or {}).get("dependencies", ())
    }
    bad = [
        f"{name} {each['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'no version'}"
        for name, each in sorted(found.items())
        for hole in each.get("vulns", ())
    ]
    looked_at = {name: each["version"] for name, each in found.items() if "skip_reason" not in each}
    known = {name for name, version in wanted.items() if looked_at.get(name) == version}
    unknown = sorted(wanted.keys() - known)
    if unknown:
        bad.append(
            f"NOT CHECKED: no vulnerability data reachable for {len(unknown)} of {len(wanted)} modules: "
            + ", ".join(unknown)
        )
    if any(each.get("vulns") for each in found.values()):
        return 1, bad
    return (NOT_CHECKED, bad) if unknown else (0, [f"{len(wanted)} modules have no known vulnerability"])


def judge_sbom(document: Any, wanted: dict[str, str]) -> list[str]:
    """Return what a CycloneDX document lacks or has beyond the locks and ourselves."""
    has: dict[str, Any] = {
        canonicalize_name(each["name"]): each.get("version") for each in document.get("components", ())
    }
    root = document.get("metadata", {}).get("component", {})
    faults = [] if canonicalize_name(str(root.get("name"))) == "imds-proxy" else ["it is not of imds-proxy"]
    has.pop("imds-proxy", None)
    faults += [f"lacks {name} {version}" for name, version in wanted.items() if has.get(name) != version]
    return faults + [f"has {name}, which no lock has" for name in has.keys() - wanted.keys()]


def main(what: str, file: str) -> int:
    """Judge a file; return the exit status."""
    text = Path(file).read_text() if Path(file).exists() else ""
    document = json.loads(text) if text else None
    if what == "audit":
        status, lines = judge_audit(document, shipped())
    else:
        lines = judge_sbom(document, shipped())
        status = 1 if lines else 0
        lines = lines or [f"{file}: all {len(shipped())} modules of the locks, and no other"]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
