"""DNS dies, the daemon restarts, a second one takes over: machines that were served go on."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

import pytest

from tests.sdk.machine import HOST, HOSTS, ROLE, assert_served, run
from tests.standins.daemon import settings_for
from tests.standins.dns_server import reverse_name
from tests.standins.metadata_client import LIST_PATH, metadata_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.dns_server import NameServer

pytestmark = pytest.mark.sdk

MOST_ROUNDS = 100


@pytest.mark.patient
@pytest.mark.parametrize("fault", ["drop", "SERVFAIL", "REFUSED", "malformed"])
async def test_known_machine_goes_on_when_dns_is_dead(
    fault: str, aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """A known machine is served while look-ups fail; one that was never known gets 503, empty."""
    aws.add_roles(ROLE)
    name_server.add_host("127.0.0.1", HOST, ttl=1)
    name_server.add_host("127.9.0.1", "tuvfoo43.valid.example")
    dns = {"nameservers": [name_server.endpoint], "recheck": "1s", "deadline": "600ms"}
    daemon = start_daemon(settings_for(aws, dns=dns))
    pointer = reverse_name("127.0.0.1")
    async with metadata_client(daemon) as known, metadata_client(daemon, "127.9.0.1") as unknown:
        first = await known.fetch_credentials()
        name_server.fault_all(fault)
        name_server.forget_queries()
        for _ in range(MOST_ROUNDS):
            assert await known.fetch_credentials() == first
            if name_server.queries(pointer) > 1:  # looked up again, failed, and looked up once more
                break
            await asyncio.sleep(0.1)
        assert name_server.queries(pointer) > 1
        assert await known.fetch_credentials() == first
        answer = await unknown.list_role()
        assert (answer.status, answer.text) == (503, "")
    assert len(aws.calls()) == 1


async def test_negative_answer_ends_what_an_outage_does_not(
    aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """A name that DNS says is gone is gone, at the latest with the look-up after the recheck time."""
    aws.add_roles(ROLE)
    name_server.add_host("127.0.0.1", HOST, ttl=1)
    dns = {"nameservers": [name_server.endpoint], "recheck": "1s"}
    daemon = start_daemon(settings_for(aws, dns=dns))
    async with metadata_client(daemon) as caller:
        await caller.fetch_credentials()
        name_server.remove(reverse_name("127.0.0.1"))
        answer = await caller.list_role()
        for _ in range(MOST_ROUNDS):
            if answer.status == 404:
                break
            await asyncio.sleep(0.1)
            answer = await caller.list_role()
        assert (answer.status, answer.text) == (404, "")
        role = await caller.get(LIST_PATH + ROLE, await caller.fetch_token())
        assert (role.status, role.text) == (404, "")


async def test_token_is_good_after_a_restart(
    aws: Aws, start_daemon: StartDaemon, token_key: Path, tmp_path: Path
) -> None:
    """A token that the daemon gave before it was restarted opens everything after it, boto3 never notices."""
    aws.add_roles(ROLE)
    settings = settings_for(aws, hosts=HOSTS, tokens={"key_file": str(token_key)})
    before = start_daemon(settings, name="before")
    async with metadata_client(before) as caller:
        token = await caller.fetch_token()
        await caller.fetch_credentials(token)
    before.stop()
    after = start_daemon(settings, name="after")
    async with metadata_client(after) as caller:
        assert (await caller.list_role(token)).text == ROLE
        await caller.fetch_credentials(token)
    assert_served("boto3", run("boto3", after, aws, tmp_path))


async def test_replicas_take_each_others_tokens(aws: Aws, start_daemon: StartDaemon, token_key: Path) -> None:
    """Two daemons that share a token key are one to their callers; a third with another key is not."""
    aws.add_roles(ROLE)
    settings = settings_for(aws, hosts=HOSTS, tokens={"key_file": str(token_key)})
    one = start_daemon(settings, name="one")
    two = start_daemon(settings, name="two")
    stranger = start_daemon(settings_for(aws, hosts=HOSTS), name="stranger")
    async with metadata_client(one) as first, metadata_client(two) as second:
        of_first, of_second = await first.fetch_token(), await second.fetch_token()
        assert (await second.list_role(of_first)).text == ROLE
        assert (await first.list_role(of_second)).text == ROLE
    async with metadata_client(stranger) as third:
        assert (await third.list_role(of_first)).status == 401


async def test_token_is_worthless_from_another_address(aws: Aws, start_daemon: StartDaemon) -> None:
    """A token that another machine got hold of is refused with 401, empty, and starts nothing."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts={"127.9.0.1": HOST}))
    async with metadata_client(daemon, "127.9.0.1") as owner, metadata_client(daemon, "127.9.0.2") as thief:
        token = await owner.fetch_token()
        answer = await thief.list_role(token)
        assert (answer.status, answer.text) == (401, "")
        assert (await owner.list_role(token)).text == ROLE


@pytest.fixture
def token_key(tmp_path: Path) -> Path:
    """A file with a token key, readable for its owner alone."""
    file = tmp_path / "token.key"
    file.touch(mode=0o600)
    file.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    return file
