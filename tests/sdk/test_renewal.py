"""Credentials that are held are served on, whatever becomes of their renewal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.sdk.machine import HOSTS, ROLE, SESSION_ARN, assert_served, run
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import caller_identity, metadata_client
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws

pytestmark = pytest.mark.sdk

SHORT = {"kind": "lifetime", "seconds": 1400}
"""Less than the 25 minutes below which the next TOKEN starts a renewal."""


def seconds_left(document: dict[str, str]) -> float:
    """Return how long a document's credentials live on."""
    return (datetime.fromisoformat(document["Expiration"]) - datetime.now(UTC)).total_seconds()


async def test_short_lived_credentials_are_renewed_at_the_next_token(
    aws: Aws, start_daemon: StartDaemon
) -> None:
    """The second round finds a whole hour, though the first brought less than 25 minutes."""
    aws.add_roles(ROLE)
    aws.set_faults({**SHORT, "times": 1})
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    async with metadata_client(daemon) as caller:
        first = await caller.fetch_credentials()
        assert seconds_left(first) < 1500
        await caller.fetch_token()
        await wait_until(lambda: [call.outcome for call in aws.calls()] == ["ok", "ok"], "the renewal")
        second = await caller.fetch_credentials()
    assert second["AccessKeyId"] != first["AccessKeyId"]
    assert seconds_left(second) > 3000


@pytest.mark.parametrize(
    "kind",
    [
        "access_denied",
        "throttling",
        "internal_failure",
        "unavailable",
        "malformed",
        "reset",
        "expired_token",
        "invalid_client_token",
        "signature_mismatch",
    ],
)
async def test_failed_renewal_leaves_held_credentials_in_place(
    kind: str, aws: Aws, start_daemon: StartDaemon
) -> None:
    """After a renewal that was refused or failed, callers get what is held, whole and working."""
    aws.add_roles(ROLE)
    aws.set_faults(SHORT)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    async with metadata_client(daemon) as caller:
        first = await caller.fetch_credentials()
        aws.set_faults({"kind": kind})
        token = await caller.fetch_token()
        await wait_until(
            lambda: kind in {call.outcome for call in aws.calls()}, f"a renewal that ends in {kind}"
        )
        for _ in range(3):
            document = await caller.fetch_credentials(token)
            assert document == first
            token = await caller.fetch_token()
    assert await caller_identity(aws, first) == SESSION_ARN


async def test_renewal_that_hangs_holds_nobody_up(
    aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """While STS does not answer at all, boto3 is served at its first try with what is held."""
    aws.add_roles(ROLE)
    aws.set_faults(SHORT)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    async with metadata_client(daemon) as caller:
        await caller.fetch_credentials()
    aws.set_faults({"kind": "hang"})
    assert_served("boto3", run("boto3", daemon, aws, tmp_path))
    assert [call.outcome for call in aws.calls()][:2] == ["ok", "hang"]


async def test_role_taken_away_leaves_held_credentials_in_place(aws: Aws, start_daemon: StartDaemon) -> None:
    """AWS refuses to renew a role that it no longer knows; what is held lives until its end."""
    aws.add_roles(ROLE)
    aws.set_faults(SHORT)
    daemon = start_daemon(settings_for(aws, hosts=HOSTS))
    async with metadata_client(daemon) as caller:
        first = await caller.fetch_credentials()
        aws.remove_role(ROLE, "000123456789")
        await caller.fetch_token()
        await wait_until(
            lambda: [call.outcome for call in aws.calls()] == ["ok", "AccessDenied"], "a refusal"
        )
        assert await caller.fetch_credentials() == first
