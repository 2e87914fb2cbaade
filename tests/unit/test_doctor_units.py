"""The doctor on systemd's units: what is loaded against what the settings make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from imds_proxy.doctor.units import (
    SERVICE,
    SOCKET,
    Unit,
    differing_keys,
    judge_units,
    listen_streams,
    parse_unit,
)

if TYPE_CHECKING:
    from pathlib import Path

RENDERED = """\
# rendered
[Socket]
ListenStream=169.254.169.254:80
ListenStream=[fd00:ec2::254]:80
FreeBind=true
"""
STREAMS = frozenset({"169.254.169.254:80", "[fd00:ec2::254]:80"})
GOOD_SERVICE = Unit(SERVICE, "loaded", "active", "enabled")
GOOD_SOCKET = Unit(SOCKET, "loaded", "active", "enabled", listens=STREAMS, fragment=RENDERED)


def levels(service: Unit = GOOD_SERVICE, socket: Unit = GOOD_SOCKET) -> dict[str, str]:
    """Return the levels of the findings by their titles."""
    return {one.title: one.level for one in judge_units(service, [socket], {SOCKET: RENDERED})}


def test_parse_unit(tmp_path: Path) -> None:
    """All that `systemctl show` says counts, every Listen= too; the unit's file is read."""
    file = tmp_path / "imds-proxy.socket"
    file.write_text(RENDERED)
    text = (
        "Listen=169.254.169.254:80 (Stream)\nListen=[fd00:ec2::254]:80 (Stream)\nLoadState=loaded\n"
        f"ActiveState=active\nFragmentPath={file}\nUnitFileState=enabled\nNeedDaemonReload=yes\n"
    )
    assert parse_unit(SOCKET, text) == replace(GOOD_SOCKET, needs_reload=True)


def test_parse_unit_that_is_not_there() -> None:
    """A unit that systemd lacks is known as such."""
    unit = parse_unit(SOCKET, "LoadState=not-found\nActiveState=inactive\nFragmentPath=\nUnitFileState=\n")
    assert (unit.is_there, unit.is_active, unit.fragment, unit.listens) == (False, False, None, frozenset())


def test_all_well() -> None:
    """Every unit is as it is to be."""
    assert levels() == {SERVICE: "ok", SOCKET: "ok"}


def test_waiting_for_the_first_request() -> None:
    """A service that is not running yet is well, where a socket starts it."""
    service = Unit(SERVICE, "loaded", "inactive", "disabled")
    assert levels(service) == {SERVICE: "ok", SOCKET: "ok"}


@pytest.mark.parametrize(
    ("service", "socket", "title", "level"),
    [
        (replace(GOOD_SERVICE, active="failed"), GOOD_SOCKET, SERVICE, "fault"),
        (
            replace(GOOD_SERVICE, active="inactive"),
            replace(GOOD_SOCKET, active="inactive"),
            SERVICE,
            "fault",
        ),
        (
            replace(GOOD_SERVICE, enabled="disabled"),
            replace(GOOD_SOCKET, enabled="disabled"),
            SERVICE,
            "warning",
        ),
        (GOOD_SERVICE, replace(GOOD_SOCKET, active="inactive"), SOCKET, "fault"),
        (GOOD_SERVICE, Unit(SOCKET, "not-found", "inactive", ""), SOCKET, "warning"),
        (GOOD_SERVICE, replace(GOOD_SOCKET, listens=frozenset({"169.254.169.254:80"})), SOCKET, "fault"),
        (GOOD_SERVICE, replace(GOOD_SOCKET, listens=STREAMS | {"10.0.0.1:80"}), SOCKET, "fault"),
        (replace(GOOD_SERVICE, needs_reload=True), GOOD_SOCKET, "daemon-reload", "warning"),
        (Unit(SERVICE, "not-found", "inactive", ""), GOOD_SOCKET, SERVICE, "warning"),
    ],
)
def test_not_well(service: Unit, socket: Unit, title: str, level: str) -> None:
    """Each deviation is found, by the right name."""
    assert levels(service, socket)[title] == level


def test_another_file() -> None:
    """A unit file that sets something else is a warning that names the keys."""
    socket = replace(GOOD_SOCKET, fragment=RENDERED.replace("FreeBind=true", "FreeBind=false\nBacklog=1"))
    found = judge_units(GOOD_SERVICE, [socket], {SOCKET: RENDERED})
    (finding,) = [one for one in found if one.level == "warning"]
    assert "Backlog, FreeBind" in finding.fact


def test_comments_don_t_count() -> None:
    """Neither do blank lines, sections or order."""
    assert differing_keys(RENDERED, "[Socket]\n; other\n\nFreeBind = true\n" + RENDERED) == []
    assert listen_streams(RENDERED) == STREAMS


def test_each_finding_says_what_to_do() -> None:
    """Whatever is not well has a command."""
    service = replace(GOOD_SERVICE, active="failed", needs_reload=True)
    for one in judge_units(service, [replace(GOOD_SOCKET, active="failed")], {SOCKET: RENDERED}):
        assert (one.level == "ok") == (one.remedy is None)
