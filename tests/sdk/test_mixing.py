"""Accounts, roles, session names and external ids stay apart, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.daemon import settings_for
from tests.standins.metadata_client import caller_identity, metadata_client

if TYPE_CHECKING:
    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.sdk

ACCOUNT_IDS = {"main": "000123456789", "other": "210987654321"}
EXTERNAL_IDS = {"main": "external/main", "other": "external/other"}
ROLE_NAMES = ("roleprefix-tuvfoo", "roleprefix-probar")
# Two kinds of machine in turn; `berbar07` has the role of `pro` because its place is a site of production.
MACHINES = {
    f"127.8.{number}.1": f"{'tuvfoo' if number % 2 else 'berbar'}{number:02}.valid.example"
    for number in range(30)
}


def role_of(name: str) -> str:
    """Return the role that a machine's name leads to."""
    return "roleprefix-tuvfoo" if name.startswith("tuvfoo") else "roleprefix-probar"


def two_accounts(aws: Aws, **aws_extra: object) -> dict[str, Any]:
    """Return settings with a listener for each account; the roles want an external id, tags are set."""
    provider = settings_for(aws)["providers"]["machines"]
    return settings_for(
        aws,
        listen=[{"address": "127.0.0.1:0", "provider": account} for account in ACCOUNT_IDS],
        providers={account: {**provider, "account_name": account} for account in ACCOUNT_IDS},
        accounts={
            account: {
                "id": account_id,
                "external_id": EXTERNAL_IDS[account],
                "session_tags": {"account": account},
            }
            for account, account_id in ACCOUNT_IDS.items()
        },
        hosts=MACHINES,
        aws_extra=aws_extra,
    )


async def identity_at(daemon: Daemon, aws: Aws, source: str, listener: int) -> str:
    """Return the ARN that a caller ends up with at one of the listeners."""
    async with metadata_client(daemon, source, listener) as caller:
        return await caller_identity(aws, await caller.fetch_credentials())


async def test_every_caller_ends_with_its_own_arn(aws: Aws, start_daemon: StartDaemon) -> None:
    """30 machines of two roles ask for two accounts at once: 60 sessions, each asked for once."""
    for account, account_id in ACCOUNT_IDS.items():
        aws.add_roles(*ROLE_NAMES, account=account_id, external_id=EXTERNAL_IDS[account])
    daemon = start_daemon(two_accounts(aws))
    wanted = [(source, listener) for source in MACHINES for listener in range(len(ACCOUNT_IDS))]
    arns = await asyncio.gather(*(identity_at(daemon, aws, *one) for one in wanted))

    expected_calls = set()
    for (source, listener), arn in zip(wanted, arns, strict=True):
        account = list(ACCOUNT_IDS)[listener]
        account_id, name = ACCOUNT_IDS[account], MACHINES[source]
        assert arn == f"arn:aws:sts::{account_id}:assumed-role/{role_of(name)}/{name}"
        role_arn = f"arn:aws:iam::{account_id}:role/{role_of(name)}"
        expected_calls.add((role_arn, name, EXTERNAL_IDS[account], account))
    calls = [
        (call.role_arn, call.session_name, call.external_id, call.tags.get("account")) for call in aws.calls()
    ]
    assert sorted(calls) == sorted(expected_calls)


@pytest.mark.patient
async def test_shared_sessions_stay_apart_too(aws: Aws, start_daemon: StartDaemon) -> None:
    """With shared sessions the same machines make one session for each account and role, four in all."""
    for account, account_id in ACCOUNT_IDS.items():
        aws.add_roles(*ROLE_NAMES, account=account_id, external_id=EXTERNAL_IDS[account])
    daemon = start_daemon(two_accounts(aws, session="shared"))
    wanted = [(source, listener) for source in MACHINES for listener in range(len(ACCOUNT_IDS))]
    arns = await asyncio.gather(*(identity_at(daemon, aws, *one) for one in wanted))
    for (source, listener), arn in zip(wanted, arns, strict=True):
        account_id = list(ACCOUNT_IDS.values())[listener]
        assert arn.startswith(
            f"arn:aws:sts::{account_id}:assumed-role/{role_of(MACHINES[source])}/imds-proxy-"
        )
    assert len({call.role_arn for call in aws.calls()}) == len(aws.calls()) == 4


async def test_wrong_external_id_is_a_refusal(aws: Aws, start_daemon: StartDaemon) -> None:
    """A role that wants another external id is not to be had (404, empty); the other account's is."""
    aws.add_roles(*ROLE_NAMES, account=ACCOUNT_IDS["main"], external_id=EXTERNAL_IDS["main"])
    aws.add_roles(*ROLE_NAMES, account=ACCOUNT_IDS["other"], external_id="something/else")
    daemon = start_daemon(two_accounts(aws))
    source = next(iter(MACHINES))
    async with metadata_client(daemon, source, listener=1) as refused:
        answer = await refused.list_role()
        assert (answer.status, answer.text) == (404, "")
    assert ACCOUNT_IDS["main"] in await identity_at(daemon, aws, source, listener=0)
