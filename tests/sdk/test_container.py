"""boto3, unmodified, with container credentials: a process that knows a URL and a token."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.sdk.machine import ACCOUNT, HOSTS, ROLE, SESSION_ARN
from tests.standins.daemon import settings_for
from tests.standins.processes import bare_environment
from tests.standins.sdk_clients import run_container_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon
    from tests.standins.sdk_clients import Outcome

SECRET = "a-secret-that-web-has-in-a-file"
ORDER = ("web.pods.example", "--from", "127.0.0.0/8")
URL, TOKEN, TOKEN_FILE = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)


@pytest.fixture
def settings(aws: Aws, tmp_path: Path) -> dict[str, Any]:
    """Return settings of a daemon with a container endpoint that knows the workload web by its secret."""
    folder = tmp_path / "workloads"
    folder.mkdir()
    file = folder / "web.pods.example"
    file.touch(mode=0o600)
    file.write_text(f"{SECRET}\n")
    listen = [{"address": "127.0.0.1:0", "container": {"secrets": str(folder)}}]
    return settings_for(aws, listen=listen, hosts=HOSTS)


def mint(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `imds-proxy token` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "imds_proxy", "token", *arguments],
        env=bare_environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(daemon: Daemon, aws: Aws, folder: Path, **variables: str) -> Outcome:
    """Run boto3 with the daemon's container endpoint and these variables."""
    given = {URL: f"{daemon.endpoint}/v1/credentials", **variables}
    return run_container_client(given, aws, ROLE, folder, ACCOUNT)


def test_secret(settings: dict[str, Any], aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """With its secret in the environment it is who its address is, and reads what only that role may."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings)
    outcome = run(daemon, aws, tmp_path, **{TOKEN: SECRET})
    assert outcome.is_success, outcome
    assert (outcome.arn, outcome.content) == (SESSION_ARN, f"hello from {ACCOUNT}/{ROLE}")


def test_token_file(settings: dict[str, Any], aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """With a token that `imds-proxy token` has put into its file; each new one counts from then on."""
    aws.add_roles(ROLE)
    socket, file = tmp_path / "admin.sock", tmp_path / "token"
    daemon = start_daemon({**settings, "admin": {"socket": str(socket)}})
    for _ in range(2):
        made = mint(*ORDER, "--socket", str(socket), "--output", str(file))
        assert (made.returncode, made.stdout) == (0, ""), made
        assert (file.stat().st_mode & 0o777, file.read_text().count("\n")) == (0o600, 0)
        outcome = run(daemon, aws, tmp_path, **{TOKEN_FILE: str(file)})
        assert outcome.arn == SESSION_ARN, outcome
        assert file.read_text() not in daemon.log + daemon.audit_text
    assert (
        len(
            daemon.await_log(
                r".*?minted the token [0-9a-f]{16} for (web\.pods\.example), from 127\.0\.0\.0/8, .*", 2
            )
        )
        == 2
    )


@pytest.mark.patient
def test_client_that_outlives_its_token(
    settings: dict[str, Any], aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """A process whose file has a worthless token fails, and asks with the new one when that is there."""
    aws.add_roles(ROLE)
    socket, file = tmp_path / "admin.sock", tmp_path / "token"
    daemon = start_daemon({**settings, "admin": {"socket": str(socket)}})
    made = mint("web.pods.example", "--socket", str(socket), "--from", "10.0.0.0/8")
    file.write_text(made.stdout)
    script = """
import sys, boto3
session = boto3.Session(region_name="eu-central-1")
for line in sys.stdin:
    try:
        print("ok", session.client("sts").get_caller_identity()["Arn"], flush=True)
    except Exception as error:
        print("error", error, flush=True)
"""
    variables = {
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": aws.url,
        URL: f"{daemon.endpoint}/v1/credentials",
        TOKEN_FILE: str(file),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=bare_environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("go\n")
        client.stdin.flush()
        first = client.stdout.readline()
        assert first.startswith("error"), first
        assert "401" in first
        assert mint(*ORDER, "--socket", str(socket), "--output", str(file)).returncode == 0
        client.stdin.write("go\n")
        client.stdin.close()
        assert client.stdout.readline() == f"ok {SESSION_ARN}\n"
    assert client.returncode == 0


@pytest.mark.patient
def test_wrong_secret(settings: dict[str, Any], aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A wrong secret is an error of the SDK's that shows the status and no reason."""
    daemon = start_daemon(settings)
    outcome = run(daemon, aws, tmp_path, **{TOKEN: SECRET + "x"})
    assert outcome.is_clean_failure, outcome
    assert "401" in outcome.stderr
    assert daemon.audit_records == []


def test_orders_that_are_refused(settings: dict[str, Any], start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Wrong usage ends with 2, a daemon that is not there with 3, a file that can't be written with 1."""
    socket = tmp_path / "admin.sock"
    start_daemon({**settings, "admin": {"socket": str(socket)}})
    for wrong in (
        ["10.0.0.5"],
        ["web", "--duration", "366d"],
        ["web", "--from", "10.0.0.1/8"],
        ["web", "--duration", "59"],
    ):
        assert mint(*wrong, "--socket", str(socket)).returncode == 2
    for too_wide in ([], ["--from", "0.0.0.0/0"], ["--from", "::/1", "--from", "8000::/1"]):
        refused = mint("web", *too_wide, "--socket", str(socket))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "--from NETWORK" in refused.stderr
        assert "tokens.any_network" in refused.stderr
    assert mint(*ORDER, "--socket", str(tmp_path / "nothing.sock")).returncode == 3
    assert mint(*ORDER, "--socket", str(socket), "--output", str(tmp_path / "no" / "file")).returncode == 1
