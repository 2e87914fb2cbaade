"""The unit files, judged by the tools that read them; and that the check of them can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.system,
    *(
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")
        for tool in ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "nft")
    ),
]

UNITS = REPOSITORY / "systemd"
PATIENCE = 60


def check_units(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / ".ci" / "check-units", folder],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def exposure_of(folder: Path) -> str:
    """Return what `systemd-analyze security` thinks of the service in a folder, drop-ins included."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", folder / "imds-proxy.service"],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    match = re.search(r"exposure level for imds-proxy.service: ([0-9.]+)", found.stdout)
    assert match is not None, found
    return match[1]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a copy of the units that a test may spoil."""
    shutil.copytree(UNITS, tmp_path / "units")
    return tmp_path / "units"


def spoil(file: Path, changes: Mapping[str, str]) -> None:
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def test_the_units_are_good() -> None:
    """So are those that are made from the sample configurations, with the addresses and the firewall."""
    found = check_units(UNITS)
    assert found.returncode == 0, f"{found.stdout}\n{found.stderr}"
    assert "rendered for examples/people.yaml" in found.stdout
    assert "checked: rendered firewall" in found.stdout


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("imds-proxy.service", {"[Service]": "[Service]\nPrivateUser=yes"}, "PrivateUser"),
        ("imds-proxy.service", {"PrivateUsers=yes": "", "ProtectSystem=strict": ""}, "exposed too much"),
        ("imds-proxy.socket", {"ListenStream=169.254.169.254:80": "ListenStream=metadata"}, "metadata"),
        ("imds-proxy.sysusers.conf", {"u imds-proxy": "x imds-proxy"}, "imds-proxy"),
        ("imds-proxy.tmpfiles.conf", {"/etc/imds-proxy": "etc/imds-proxy"}, "imds-proxy"),
    ],
    ids=["an unknown key", "an open sandbox", "no address", "no user", "no folder"],
)
def test_what_is_wrong_with_a_unit_is_found(
    units: Path, name: str, changes: Mapping[str, str], complaint: str
) -> None:
    """The check ends with an error that names it."""
    spoil(units / name, changes)
    found = check_units(units)
    assert found.returncode != 0, found.stdout
    assert complaint in found.stdout + found.stderr


def test_the_manual_tells_the_exposure(units: Path) -> None:
    """Of the service, and of one with a people's socket, which can't have users of its own."""
    manual = (REPOSITORY / "docs" / "gateway.md").read_text()
    shown = re.findall(r"<!--exposure(?: of people)?-->([0-9.]+)", manual)
    measured = [exposure_of(units)]
    drop_in = units / "imds-proxy.service.d" / "people.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nPrivateUsers=no\n")
    measured.append(exposure_of(units))
    assert shown == measured
    assert float(measured[0]) <= 1.1


def test_the_user_and_the_folder_are_made(tmp_path: Path) -> None:
    """A user without a shell; a folder for the configuration that others can't look into."""
    (tmp_path / "etc").mkdir()
    for tool in ("sysusers", "tmpfiles"):
        how = ["--create"] if tool == "tmpfiles" else []
        subprocess.run(
            [f"systemd-{tool}", f"--root={tmp_path}", *how, str(UNITS / f"imds-proxy.{tool}.conf")],
            check=True,
            timeout=PATIENCE,
        )
    users = (tmp_path / "etc" / "passwd").read_text()
    match = re.search(r"^imds-proxy:x:(\d+):(\d+):.*:/usr/sbin/nologin$", users, re.MULTILINE)
    assert match is not None, users
    folder = (tmp_path / "etc" / "imds-proxy").stat()
    assert (folder.st_mode & 0o7777, folder.st_uid, folder.st_gid) == (0o750, 0, int(match[2]))
