"""What is secret reaches the one caller it is for: no record, no log line, no metric has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.sdk.machine import ACCOUNT, HOST, HOSTS, ROLE
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import metadata_client
from tests.standins.sts_faults import SECRET_IN_MALFORMED
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws

pytestmark = pytest.mark.sdk

EXTERNAL_ID = "a-secret-between-two"


@pytest.mark.parametrize("fault", ["none", "access_denied", "malformed"])
async def test_secrets_are_nowhere_but_in_the_answer(fault: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """The audit names caller, session and access key id; keys, tokens and external ids are in no output."""
    aws.add_roles(ROLE, external_id=EXTERNAL_ID)
    aws.set_faults({"kind": "lifetime", "seconds": 1400})  # so that the second round renews
    settings = settings_for(
        aws,
        hosts=HOSTS,
        accounts={"main": {"id": ACCOUNT, "external_id": EXTERNAL_ID}},
        admin={"address": "127.0.0.1:0"},
    )
    daemon = start_daemon(settings)
    async with metadata_client(daemon) as caller:
        token = await caller.fetch_token()
        document = await caller.fetch_credentials(token)
        aws.set_faults(*([] if fault == "none" else [{"kind": fault}]))
        await caller.fetch_token()
        await wait_until(lambda: len(aws.calls()) >= 2, "a renewal")
        await caller.fetch_credentials()
    record = next(record for record in daemon.audit_records if record.get("session_name") == HOST)
    assert record["access_key_id"] == document["AccessKeyId"]
    assert (record["caller"], record["role"]) == ("127.0.0.1", ROLE)
    metrics = await asyncio.to_thread(read, f"{daemon.admin_url}/metrics")
    daemon.stop()
    written = daemon.log + daemon.audit_text + metrics
    of_caller = (document["SecretAccessKey"], document["Token"], token)
    for secret in (*of_caller, aws.secret_access_key, EXTERNAL_ID, SECRET_IN_MALFORMED):
        assert secret not in written


def read(url: str) -> str:
    """Return what a URL has, without any proxy."""
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())
