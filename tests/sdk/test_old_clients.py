"""Clients of the old service, IMDSv1 only: alppaca and boto 2, at the usual path and below a base path."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.sdk.machine import ACCOUNT, HOSTS, ROLE, SESSION_ARN
from tests.standins.client_venvs import ClientUnavailableError, client_bin
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import caller_identity
from tests.standins.processes import bare_environment
from tests.standins.sdk_clients import SCRIPTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.sdk

PREFIX = "/afp-api"
PREFIXES = ["", PREFIX]
"""What the old set-ups have before `/latest`: nothing, or the prefix of the old service."""

SHORTEST_LIFE = 25 * 60
"""Seconds that credentials have at every hand-out while STS works."""

needs_boto2 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="boto 2 brings a module along that Python 3.12 can't import"
)


@dataclass(frozen=True)
class Ended:
    """How a client ended, and what it printed if it got what it wanted."""

    status: int
    stderr: str
    printed: dict[str, Any]


def listener(**keys: object) -> list[dict[str, object]]:
    """Return `listen:` with one entry, as somebody would write it who comes from the old service."""
    return [{"address": "127.0.0.1:0", "imds_v1": True, "base_path": f"{PREFIX}/latest", **keys}]


def run(python: Path | str, script: str, *arguments: str) -> Ended:
    """Run a client to its end."""
    command = [str(python), str(SCRIPTS / script), *arguments]
    done = subprocess.run(
        command, env=bare_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    return Ended(done.returncode, done.stderr, json.loads(done.stdout) if done.returncode == 0 else {})


def run_alppaca(daemon: Daemon, prefix: str) -> Ended:
    """Ask as alppaca; the prefix stands where its settings have room for it."""
    host, _, port = daemon.addresses[0].rpartition(":")
    return run(sys.executable, "as_alppaca.py", "http", host, port + prefix)


def run_boto2(daemon: Daemon, prefix: str) -> Ended:
    """Run boto 2; skip the test when it can't be installed."""
    try:
        python = client_bin("boto2", ["boto==2.49.0"]) / "python"
    except ClientUnavailableError as error:
        pytest.skip(f"boto 2 can't be installed: {error}")
    return run(python, "with_boto2.py", daemon.endpoint + prefix)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_alppaca_gets_its_role(prefix: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """From cold: one role, a document that AWS takes, and more time left than it needs; one AssumeRole."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS, listen=listener()))
    ended = run_alppaca(daemon, prefix)
    assert ended.status == 0, ended
    ((role, text),) = ended.printed["documents"].items()
    assert role == ROLE
    assert ended.printed["seconds_left"] > SHORTEST_LIFE
    assert await caller_identity(aws, json.loads(text)) == SESSION_ARN
    assert len(aws.calls()) == 1


async def test_both_places_give_the_same_keys(aws: Aws, start_daemon: StartDaemon) -> None:
    """A machine that asks at both is one caller."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS, listen=listener()))
    first, second = (run_alppaca(daemon, prefix).printed["documents"] for prefix in PREFIXES)
    assert first == second
    assert len(aws.calls()) == 1


@pytest.mark.parametrize("prefix", PREFIXES)
def test_alppaca_without_imds_v1(prefix: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """Where tokens are needed it finds no role, and AWS hears nothing of it."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS, listen=listener(imds_v1=False)))
    ended = run_alppaca(daemon, prefix)
    assert (ended.status, ended.stderr.strip()) == (1, "no roles")
    assert aws.calls() == []


@pytest.mark.parametrize("prefix", PREFIXES)
def test_alppaca_on_a_machine_without_a_role(prefix: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """A machine of another domain, and a role that AWS does not give: no role, as it expects."""
    aws.remove_role(ROLE, ACCOUNT)
    foreign = start_daemon(
        settings_for(aws, hosts={"127.0.0.1": "tuvfoo42.evilvalid.example"}, listen=listener()),
        name="foreign",
    )
    refused = start_daemon(settings_for(aws, hosts=HOSTS, listen=listener()), name="refused")
    for daemon in (foreign, refused):
        ended = run_alppaca(daemon, prefix)
        assert (ended.status, ended.stderr.strip()) == (1, "no roles")
    assert {call.outcome for call in aws.calls()} == {"AccessDenied"}


@needs_boto2
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_boto2_gets_its_role(prefix: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """It finds its role, and AWS takes the keys that it reads."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS, listen=listener()))
    ended = run_boto2(daemon, prefix)
    assert ended.status == 0, ended
    assert ended.printed["role"] == ROLE
    assert await caller_identity(aws, ended.printed["keys"]) == SESSION_ARN


@needs_boto2
def test_boto2_on_a_machine_without_a_role(aws: Aws, start_daemon: StartDaemon) -> None:
    """It ends with its own word for that."""
    daemon = start_daemon(settings_for(aws, hosts={"127.0.0.1": "a.evil.example"}, listen=listener()))
    ended = run_boto2(daemon, PREFIX)
    assert (ended.status, ended.stderr.strip().splitlines()[-1]) == (1, "no role")
