"""How often AWS is asked: once for a grant, whoever asks, however many, whether they stay or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.sdk.machine import ACCOUNT, ROLE, ROLE_ARN
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import caller_identity, hanging_up, metadata_client
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon
    from tests.standins.dns_server import NameServer

pytestmark = pytest.mark.sdk

# One machine in each network of sixteen addresses: such a network has a small share of the look-ups
# under way, which is not what these tests count.
MACHINES = {f"127.7.{number}.1": f"tuvfoo{number:02}.valid.example" for number in range(100)}


async def fetch(daemon: Daemon, source: str) -> dict[str, str]:
    """Return the credentials that a cold caller with this address gets in one round."""
    async with metadata_client(daemon, source) as caller:
        return await caller.fetch_credentials()


async def test_shared_session_is_assumed_once(aws: Aws, start_daemon: StartDaemon) -> None:
    """100 cold callers of one grant with shared sessions cost one AssumeRole and get the same credentials."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=MACHINES, aws_extra={"session": "shared"}))
    documents = await asyncio.gather(*(fetch(daemon, source) for source in MACHINES))
    (call,) = aws.calls()
    assert call.role_arn == ROLE_ARN
    assert call.session_name.startswith("imds-proxy-")
    assert {document["AccessKeyId"] for document in documents} == {call.access_key_id}
    assert (await caller_identity(aws, documents[0])).endswith(f":assumed-role/{ROLE}/{call.session_name}")


async def test_shared_session_is_assumed_once_with_names_from_dns(
    aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """The same holds where each caller's name has to be looked up first."""
    aws.add_roles(ROLE)
    for address, name in MACHINES.items():
        name_server.add_host(address, name)
    dns = {"nameservers": [name_server.endpoint]}
    daemon = start_daemon(settings_for(aws, dns=dns, aws_extra={"session": "shared"}))
    documents = await asyncio.gather(*(fetch(daemon, source) for source in MACHINES))
    (call,) = aws.calls()
    assert {document["AccessKeyId"] for document in documents} == {call.access_key_id}
    for address in MACHINES:  # each was looked up, and by no other's request
        assert name_server.queries(".".join(reversed(address.split("."))) + ".in-addr.arpa", "PTR") == 1


async def test_caller_with_many_processes_costs_one_session(aws: Aws, start_daemon: StartDaemon) -> None:
    """30 cold processes of one machine share the machine's session."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts=MACHINES))
    source, name = next(iter(MACHINES.items()))
    documents = await asyncio.gather(*(fetch(daemon, source) for _ in range(30)))
    (call,) = aws.calls()
    assert call.session_name == name
    assert {document["AccessKeyId"] for document in documents} == {call.access_key_id}


@pytest.mark.parametrize("step", ["TOKEN", "LIST"])
async def test_first_caller_hangs_up(step: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """The flight belongs to nobody's connection: its first caller goes, the others get what it brings."""
    aws.add_roles(ROLE)
    aws.set_faults({"kind": "delay", "seconds": 1})
    daemon = start_daemon(settings_for(aws, hosts=MACHINES, aws_extra={"session": "shared"}))
    first, *others = list(MACHINES)[:21]
    async with hanging_up(step, daemon, first):
        await wait_until(lambda: len(aws.calls()) == 1, "AssumeRole under way")
    documents = await asyncio.gather(*(fetch(daemon, source) for source in others))
    (call,) = aws.calls()
    assert call.outcome == "ok"
    assert {document["AccessKeyId"] for document in documents} == {call.access_key_id}


async def test_last_caller_gone_does_not_lose_the_credentials(aws: Aws, start_daemon: StartDaemon) -> None:
    """Every caller hangs up while STS works; who comes later is served from that one flight."""
    aws.add_roles(ROLE)
    aws.set_faults({"kind": "delay", "seconds": 1, "times": 1})
    daemon = start_daemon(settings_for(aws, hosts=MACHINES, aws_extra={"session": "shared"}))
    first, second, later = list(MACHINES)[:3]
    async with hanging_up("TOKEN", daemon, first), hanging_up("TOKEN", daemon, second):
        await wait_until(lambda: len(aws.calls()) == 1, "AssumeRole under way")
    await wait_until(lambda: aws.calls()[0].outcome == "ok", "AssumeRole done")
    document = await fetch(daemon, later)
    assert [call.access_key_id for call in aws.calls()] == [document["AccessKeyId"]]
    assert ACCOUNT in await caller_identity(aws, document)
