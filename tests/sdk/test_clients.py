"""Unmodified clients get the credentials of their machine's role from the daemon, with nothing else set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sdk.machine import HOST, HOSTS, ROLE, ROLE_ARN, assert_served, run
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import metadata_client
from tests.standins.sdk_clients import CLIENT_NAMES
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.dns_server import NameServer

pytestmark = pytest.mark.sdk


@pytest.mark.parametrize("name", CLIENT_NAMES)
def test_client_is_taken_for_its_machine(
    name: str, aws: Aws, name_server: NameServer, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """The client is the session named after its host, reads its role's object, and costs one AssumeRole."""
    aws.add_roles(ROLE)
    name_server.add_host("127.0.0.1", HOST)
    daemon = start_daemon(settings_for(aws, dns={"nameservers": [name_server.endpoint]}))
    assert_served(name, run(name, daemon, aws, tmp_path))
    (call,) = aws.calls()
    assert (call.role_arn, call.session_name) == (ROLE_ARN, HOST)
    assert (call.signer, call.outcome) == (aws.access_key_id, "ok")


@pytest.mark.parametrize("name", CLIENT_NAMES)
def test_refused_client_fails_cleanly(name: str, aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A machine of another domain gets nothing, its client does not crash, AWS hears nothing of it."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts={"127.0.0.1": "tuvfoo42.evilvalid.example"}))
    outcome = run(name, daemon, aws, tmp_path)
    assert outcome.is_clean_failure, outcome
    assert aws.calls() == []


@pytest.mark.parametrize("seconds", [0.3, 0.8])
@pytest.mark.parametrize("name", ["boto3", "awscli"])
async def test_slow_sts_does_not_cost_a_try(
    name: str, seconds: float, aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """A cold client that waits a second and never asks twice is served at its first try."""
    aws.add_roles(ROLE, "roleprefix-probar")
    daemon = start_daemon(settings_for(aws, hosts={**HOSTS, "127.9.0.1": "berbar07.valid.example"}))
    async with metadata_client(daemon, "127.9.0.1") as other_machine:
        await other_machine.fetch_credentials()  # the daemon has been up for a while
    aws.set_faults({"kind": "delay", "seconds": seconds})
    assert_served(name, run(name, daemon, aws, tmp_path))
    assert [call.session_name for call in aws.calls()] == ["berbar07.valid.example", HOST]


@pytest.mark.patient
@pytest.mark.parametrize("name", CLIENT_NAMES)
async def test_sts_slower_than_any_client_waits(
    name: str, aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """With STS at 3 s no client crashes; the one flight goes on, and the second try is served from it."""
    aws.add_roles(ROLE)
    aws.set_faults({"kind": "delay", "seconds": 3})
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    first = run(name, daemon, aws, tmp_path)
    if name in {"boto3", "awscli"}:  # these ask once; others may have asked until the answer was there
        assert first.is_clean_failure, first
    assert first.is_success or first.is_clean_failure, first
    await wait_until(lambda: [call.outcome for call in aws.calls()] == ["ok"], "AssumeRole done")
    assert_served(name, run(name, daemon, aws, tmp_path))
    assert len(aws.calls()) == 1


@pytest.mark.parametrize(
    "kind", ["access_denied", "throttling", "unavailable", "expired_token", "malformed", "reset"]
)
@pytest.mark.parametrize("name", ["boto3", "awscrt"])
def test_faults_of_sts_end_in_a_clean_failure(
    name: str, kind: str, aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """Whatever STS answers, a client that has no credentials yet fails by itself and does not abort."""
    aws.add_roles(ROLE)
    aws.set_faults({"kind": kind})
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    outcome = run(name, daemon, aws, tmp_path)
    assert outcome.is_clean_failure, outcome
    assert {call.outcome for call in aws.calls()} == {kind}
