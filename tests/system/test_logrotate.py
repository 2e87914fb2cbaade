"""The logrotate file of the package, run by logrotate itself on the audit log of a running daemon."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.standins.daemon import running_daemon
from tests.standins.little_sts import running_little_sts
from tests.standins.processes import REPOSITORY
from tests.standins.wire import ROLES_PATH
from tests.web.machines import caller_of, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed"),
]

SHIPPED = REPOSITORY / "systemd" / "imds-proxy.logrotate"
RELOAD = "if systemctl --quiet is-active imds-proxy.service; then systemctl reload imds-proxy.service; fi"


@pytest.fixture
def sts() -> Iterator[LittleSts]:
    with running_little_sts() as server:
        yield server


def rotate(folder: Path, daemon: Daemon) -> None:
    """Rotate the audit log in `folder` as the shipped file says; the daemon runs as who runs this."""
    owner = f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"
    text = SHIPPED.read_text()
    for old, new in (
        ("/var/log/imds-proxy", str(folder)),
        ("su imds-proxy imds-proxy", f"su {owner}" if os.geteuid() == 0 else ""),
        ("0640 imds-proxy imds-proxy", f"0640 {owner}"),
        (RELOAD, f"kill -HUP {daemon.pid}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    file = folder.parent / "logrotate.conf"
    file.write_text(text)
    file.chmod(0o644)
    command = ["logrotate", "--force", "--state", str(folder.parent / "state"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def hand_out(daemon: Daemon, source: str) -> str:
    """Return the access key that the machine at `source` gets for the first time."""
    caller = caller_of(daemon, source)
    token = caller.fetch_token()
    key = json.loads(caller.get(ROLES_PATH + caller.fetch_role(token), token).body)["AccessKeyId"]
    assert isinstance(key, str)
    return key


def keys_in(text: str) -> list[str]:
    """Return the keys of the hand-outs. A slow machine may have trouble on record as well."""
    records = [json.loads(line) for line in text.splitlines()]
    return [record["access_key_id"] for record in records if record["outcome"] == "granted"]


@pytest.mark.parametrize("is_faulty", [False, True])
def test_the_shipped_file(sts: LittleSts, tmp_path: Path, *, is_faulty: bool) -> None:
    """After the rotation records go to the new file, also when the configuration has a fault by then."""
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o750)
    file, old = folder / "audit.jsonl", folder / "audit.jsonl.1"
    settings = site_settings(sts)
    with running_daemon(settings, tmp_path, environment={"LOGS_DIRECTORY": str(folder)}) as daemon:
        first = hand_out(daemon, "127.0.0.1")
        if is_faulty:
            with (tmp_path / "imds-proxy.yaml").open("a") as stream:
                stream.write("no_such_key: 1\n")
        rotate(folder, daemon)
        daemon.await_log(r".*(configuration kept|configuration reloaded).*")
        second = hand_out(daemon, "127.0.0.2")
        assert daemon.audit_text == ""
    assert (keys_in(old.read_text()), keys_in(file.read_text())) == ([first], [second])
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_what_is_kept(sts: LittleSts, tmp_path: Path) -> None:
    """The last but one is compressed, and is whole."""
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o750)
    with running_daemon(site_settings(sts), tmp_path, environment={"LOGS_DIRECTORY": str(folder)}) as daemon:
        first = hand_out(daemon, "127.0.0.1")
        rotate(folder, daemon)
        daemon.await_log(r".*(configuration reloaded)")
        hand_out(daemon, "127.0.0.2")
        rotate(folder, daemon)
        daemon.await_log(r".*(configuration reloaded)", 2)
    unpacked = subprocess.run(
        ["zcat", str(folder / "audit.jsonl.2.gz")], capture_output=True, text=True, check=True
    ).stdout
    assert keys_in(unpacked) == [first]
