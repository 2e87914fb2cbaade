"""boto3, unmodified, with container credentials: a process that knows a URL and a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sdk.machine import ACCOUNT, HOSTS, ROLE, SESSION_ARN
from tests.standins.daemon import settings_for
from tests.standins.sdk_clients import run_container_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon
    from tests.standins.sdk_clients import Outcome

SECRET = "a-secret-that-web-has-in-a-file"
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
