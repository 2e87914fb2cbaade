"""The commands for people against the real daemon: the kernel says who is asking, AWS takes the keys."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.commands import run_command
from tests.standins.daemon import people_settings_for
from tests.standins.sdk_clients import run_client_with_profile
from tests.standins.sign_in import running_sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.sdk

ACCOUNT = "000123456789"
USER = pwd.getpwuid(os.getuid()).pw_name
GROUPS = {
    "main-admin": [USER],
    "main-reader": [USER, "alice"],
    "main-writer": ["alice"],
    "spare-reader": [USER],
}
PEER = {"peer": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.sock"


@pytest.fixture
def daemon(aws: Aws, start_daemon: StartDaemon, path: Path) -> Daemon:
    """A daemon for the people of this host."""
    aws.add_roles("admin", "reader")
    return start_daemon(people_settings_for(aws, PEER, GROUPS, {"unix": str(path)}))


@pytest.mark.usefixtures("daemon")
def test_accounts(path: Path, aws: Aws) -> None:
    """All that the user may have and why; AWS is not asked."""
    done = run_command("accounts", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["main", "admin"], ["main", "reader"], ["spare", "reader"]]
    assert "main-admin" in lines[0][2]
    listed = json.loads(run_command("accounts", "--json", "--socket", path).stdout)
    assert [each["account_id"] for each in listed] == [ACCOUNT, ACCOUNT, None]
    assert aws.calls() == []


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("client", ["boto3", "awscli"])
def test_credential_process(client: str, path: Path, aws: Aws, tmp_path: Path) -> None:
    """An unmodified client with a profile that names the command is the session named after the user."""
    command = [sys.executable, "-m", "imds_proxy", "credentials", "main", "admin", "--socket", str(path)]
    config = tmp_path / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(f"[profile main-admin]\ncredential_process = {shlex.join(command)}\n")
    try:
        outcome = run_client_with_profile(client, "main-admin", aws, "admin", tmp_path, ACCOUNT)
    except ClientUnavailableError as error:
        pytest.skip(f"{client} can't be installed: {error}")
    assert outcome.is_success, outcome
    assert outcome.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/{USER}"
    assert outcome.content == f"hello from {ACCOUNT}/admin"
    (call,) = aws.calls()
    assert (call.session_name, call.outcome) == (USER, "ok")


def test_refused(path: Path, aws: Aws, daemon: Daemon) -> None:
    """What is another's is refused before AWS hears of it, in words, and goes on record."""
    for command in ("credentials", "console"):
        done = run_command(command, "main", "writer", "--socket", path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "'writer'" in line
    done = run_command("credentials", "spare", "reader", "--socket", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no id" in done.stderr
    assert aws.calls() == []
    daemon.stop()
    assert {record["outcome"] for record in daemon.audit_records} == {"refused", "trouble"}
    assert run_command("accounts", "--socket", path).returncode == 3


def test_a_socket_for_a_web_server(aws: Aws, start_daemon: StartDaemon, path: Path) -> None:
    """There the base path is asked for: the web server may have rules for it, and for nothing else."""
    identity = {"header": "X-Remote-User", "trusted": [str(os.getuid())]}
    start_daemon(people_settings_for(aws, identity, GROUPS, {"unix": str(path)}))
    done = run_command("accounts", "--socket", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "has no such path" in done.stderr


def test_aws_refuses(path: Path, aws: Aws, daemon: Daemon) -> None:
    """What AWS refuses is refused; what AWS fails to answer is trouble."""
    aws.remove_role("reader", ACCOUNT)
    done = run_command("credentials", "main", "reader", "--socket", path)
    assert (done.returncode, done.stdout) == (1, "")
    aws.set_faults({"kind": "internal_failure"})
    done = run_command("credentials", "main", "admin", "--socket", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert daemon.is_running


def test_console(aws: Aws, start_daemon: StartDaemon, path: Path) -> None:
    """The URL has the token that AWS gave for the role's keys; no other output."""
    aws.add_roles("admin")
    with running_sign_in(aws) as sign_in:
        extra = {"signin_endpoint": sign_in.url}
        start_daemon(people_settings_for(aws, PEER, GROUPS, {"unix": str(path)}, aws_extra=extra))
        done = run_command("console", "main", "admin", "--socket", path)
        assert (done.returncode, done.stderr) == (0, "")
        (url,) = done.stdout.splitlines()
        assert parse_qs(urlsplit(url).query)["SigninToken"] == sign_in.tokens
        sign_in.answer_with(503)
        done = run_command("console", "main", "admin", "--socket", path)
        assert (done.returncode, done.stdout) == (3, "")
