"""The machine that the clients of these tests run on, and what it should be taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.sdk_clients import Outcome, run_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

ACCOUNT = "000123456789"
HOST = "tuvfoo42.valid.example"
ROLE = "roleprefix-tuvfoo"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
SESSION_ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{HOST}"
HOSTS = {"127.0.0.1": HOST}
CLIENTS_WITHOUT_STS = {"pyarrow"}


def run(name: str, daemon: Daemon, aws: Aws, folder: Path) -> Outcome:
    """Run a client on the machine; skip the test when the client can't be installed."""
    try:
        return run_client(name, daemon, aws, ROLE, folder, ACCOUNT)
    except ClientUnavailableError as error:
        pytest.skip(f"{name} can't be installed: {error}")


def assert_served(name: str, outcome: Outcome) -> None:
    """Check that the client was who it should be and read what only its role may read."""
    assert outcome.is_success, outcome
    assert outcome.arn == (None if name in CLIENTS_WITHOUT_STS else SESSION_ARN), outcome
    assert outcome.content == f"hello from {ACCOUNT}/{ROLE}", outcome
