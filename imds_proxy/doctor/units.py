"""The units: what systemd has loaded against what the settings make of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from imds_proxy.doctor.findings import Finding, fault, ok, skipped, warning
from imds_proxy.doctor.programs import UnavailableError, read_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICE = "imds-proxy.service"
SOCKET = "imds-proxy.socket"
_BOOTED = Path("/run/systemd/system")
"""sd_booted(3): there where systemd is the init system."""
_PROPERTIES = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,Listen"
_STARTS_AT_BOOT = frozenset({"enabled", "enabled-runtime", "indirect", "generated", "alias"})
_RENDER = "imds-proxy render systemd --dir /etc/systemd/system && systemctl daemon-reload"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as systemd has it."""

    name: str
    load: str
    active: str
    enabled: str
    needs_reload: bool = False
    listens: frozenset[str] = frozenset()
    fragment: str | None = None
    """The text of its file; None where it can't be read."""

    @property
    def is_there(self) -> bool:
        """Whether systemd knows it."""
        return self.load == "loaded"

    @property
    def is_active(self) -> bool:
        """Whether it runs, or listens."""
        return self.active in {"active", "reloading"}

    @property
    def starts_at_boot(self) -> bool:
        """Whether something starts it when the host does."""
        return self.enabled in _STARTS_AT_BOOT


def is_booted() -> bool:
    """Tell whether systemd is the init system."""
    return _BOOTED.is_dir()


async def read_unit(name: str) -> Unit:
    """Return a unit as systemd has it, also one that it lacks. Raises UnavailableError."""
    text = await read_output("systemctl", "show", name, f"--property={_PROPERTIES}")
    return parse_unit(name, text)


def parse_unit(name: str, text: str) -> Unit:
    """Return the unit that `systemctl show` describes, with its file if that can be read."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key, []).append(value)

    def one(key: str) -> str:
        return values.get(key, [""])[0]

    # "[fd00:ec2::254]:80 (Stream)"
    listens = frozenset(value.partition(" ")[0] for value in values.get("Listen", ()) if value)
    fragment = None
    if one("FragmentPath"):
        try:
            fragment = Path(one("FragmentPath")).read_text("utf-8")
        except (OSError, ValueError):
            fragment = None
    return Unit(
        name,
        one("LoadState"),
        one("ActiveState"),
        one("UnitFileState"),
        needs_reload=one("NeedDaemonReload") == "yes",
        listens=listens,
        fragment=fragment,
    )


async def examine_units(rendered: Mapping[str, str]) -> list[Finding]:
    """Return the findings on the service and its sockets; `rendered` are texts by the files' names."""
    title = "systemd"
    if not is_booted():
        return [skipped(title, "this host does not run systemd")]
    sockets = {PurePath(name).name: text for name, text in rendered.items() if name.endswith(".socket")}
    try:
        service, *units = await asyncio.gather(read_unit(SERVICE), *map(read_unit, sockets))
    except UnavailableError as error:
        return [skipped(title, str(error))]
    return judge_units(service, units, sockets)


def judge_units(service: Unit, sockets: Sequence[Unit], rendered: Mapping[str, str]) -> list[Finding]:
    """Return the findings on the service and on its sockets, whose rendered texts are given by name."""
    if not service.is_there:
        return [
            warning(
                SERVICE,
                f"systemd does not have it ({service.load or 'unknown'})",
                "imds-proxy render systemd --service --dir /etc/systemd/system && systemctl daemon-reload && "
                f"systemctl enable --now {SOCKET} {SERVICE}",
            )
        ]
    findings = [_judge_service(service, sockets)]
    for unit in sockets:
        findings += _judge_socket(unit, rendered[unit.name])
    stale = [unit.name for unit in (service, *sockets) if unit.needs_reload]
    if stale:
        text = f"{', '.join(stale)}: the files have changed since systemd read them"
        findings.append(warning("daemon-reload", text, "systemctl daemon-reload"))
    return findings


def _judge_service(service: Unit, sockets: Sequence[Unit]) -> Finding:
    is_activated = any(unit.is_active for unit in sockets)
    if service.active == "failed":
        return fault(
            SERVICE, "has failed", "journalctl -u imds-proxy -n 50; then systemctl restart imds-proxy.service"
        )
    if not service.is_active and not is_activated:
        return fault(SERVICE, f"is {service.active}", f"systemctl enable --now {SOCKET} {SERVICE}")
    starters = [unit for unit in (service, *sockets) if unit.starts_at_boot]
    if not starters:
        return warning(SERVICE, "does not start at boot", f"systemctl enable {SOCKET} {SERVICE}")
    state = "active" if service.is_active else "starts with the first request"
    return ok(SERVICE, f"{state}, {', '.join(unit.name for unit in starters)} enabled")


def _judge_socket(unit: Unit, rendered: str) -> list[Finding]:
    if not unit.is_there:
        return [
            warning(unit.name, "systemd does not have it", f"{_RENDER} && systemctl enable --now {unit.name}")
        ]
    wanted = listen_streams(rendered)
    restart = f"{_RENDER} && systemctl restart {unit.name} {SERVICE}"
    if unit.listens != wanted:
        parts = [f"lacks {one}" for one in sorted(wanted - unit.listens)]
        parts += [f"has {one}, which the settings lack" for one in sorted(unit.listens - wanted)]
        return [fault(unit.name, "; ".join(parts), restart)]
    if not unit.is_active:
        return [fault(unit.name, f"is {unit.active}", f"systemctl enable --now {unit.name}")]
    findings = [ok(unit.name, f"{unit.active}, listens on {', '.join(sorted(unit.listens)) or 'nothing'}")]
    if unit.fragment is not None and (keys := differing_keys(unit.fragment, rendered)):
        text = f"the loaded file is not what the settings make of it: {', '.join(keys)}"
        findings.append(warning(unit.name, text, restart))
    return findings


def listen_streams(text: str) -> frozenset[str]:
    """Return the addresses and paths that a socket unit listens on."""
    values = (value for key, value in _assignments(text) if key == "ListenStream" and value)
    return frozenset(value.replace("%%", "%") for value in values)


def differing_keys(one: str, other: str) -> list[str]:
    """Return the keys that two unit files set differently; comments and order don't count."""
    return sorted({key for key, _ in _assignments(one) ^ _assignments(other)})


def _assignments(text: str) -> set[tuple[str, str]]:
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#;[")
    return {(key.strip(), value.strip()) for key, _, value in pairs}
