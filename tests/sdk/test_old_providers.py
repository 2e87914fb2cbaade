"""Providers of the old AWS Federation Proxy in the daemon: a site's classes as they were written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sdk.machine import ACCOUNT, HOST, HOSTS, ROLE, assert_served, run
from tests.standins.daemon import settings_for
from tests.standins.metadata_client import LIST_PATH, metadata_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.dns_server import NameServer

pytestmark = pytest.mark.sdk

SITE = "tests.standins.old_providers"
SAMPLES = "imds_proxy_providers.samples"
BY_IP = {"allowed_domains": ["valid.example"], "account_name": "main", "role_prefix": "roleprefix-"}
OLD_RULE = {"module": "aws_federation_proxy.provider.provider_by_ip", **BY_IP}


async def list_status(daemon: Any) -> tuple[int, str]:
    """Return what LIST answers to a caller with a token, and its text."""
    async with metadata_client(daemon) as caller:
        answer = await caller.get(LIST_PATH, await caller.fetch_token())
        return answer.status, answer.text


def test_the_old_class_by_host_name(aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Its settings go on as they are, its name leads to it, and boto3 gets its role."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, providers={"machines": OLD_RULE}, hosts=HOSTS))
    assert_served("boto3", run("boto3", daemon, aws, tmp_path))


async def test_a_name_that_does_not_lead_back(
    aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """The old program believed a PTR record; here it is only a claim."""
    aws.add_roles(ROLE)
    name_server.set_pointers("127.0.0.1", HOST)
    name_server.set_records(HOST, "A", "127.0.0.2")
    dns = {"nameservers": [name_server.endpoint]}
    daemon = start_daemon(settings_for(aws, providers={"machines": OLD_RULE}, dns=dns))
    assert await list_status(daemon) == (404, "")
    assert aws.counts() == {}


@pytest.mark.parametrize(
    ("class_name", "role"),
    [("HostRole", "roleprefix-tuvfoo42"), ("ReturnedRole", "roleprefix-tuvfoo42-test")],
)
async def test_a_site_s_own_rule(class_name: str, role: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """A subclass of ProviderByIP sets its role's name or returns it, and may have settings of its own."""
    aws.add_roles(role)
    provider = {"module": SITE, "class": class_name, "stage": "test", **BY_IP}
    daemon = start_daemon(settings_for(aws, providers={"machines": provider}, hosts=HOSTS))
    assert await list_status(daemon) == (200, role)


async def test_groups_of_an_address(aws: Aws, start_daemon: StartDaemon) -> None:
    """A subclass of ProviderByGroups is asked about the address as text."""
    aws.add_roles("dev")
    provider = {
        "module": SITE,
        "class": "Groups",
        "regex": "(?P<account>.*)-(?P<role>.*)",
        "members": {"127.0.0.1": ["main-dev", "nothing"]},
    }
    daemon = start_daemon(settings_for(aws, providers={"machines": provider}))
    assert await list_status(daemon) == (200, "dev")


@pytest.mark.parametrize(
    ("class_name", "answer"),
    [
        ("SingleAccountSingleRoleProvider", (200, "the_only_role")),
        ("SimpleTestProvider", (404, "")),
        ("NoAccountNoRoleProvider", (404, "")),
    ],
)
async def test_one_role_or_none(
    class_name: str, answer: tuple[int, str], aws: Aws, start_daemon: StartDaemon
) -> None:
    """Several accounts are as good as none to a machine."""
    aws.add_roles("the_only_role", "testrole", "testrole2")
    accounts = {name: {"id": ACCOUNT} for name in ("the_only_account", "testaccount", "testaccount1")}
    provider = {"module": SAMPLES, "class": class_name}
    daemon = start_daemon(settings_for(aws, providers={"machines": provider}, accounts=accounts))
    assert await list_status(daemon) == answer


async def test_a_class_that_raises(aws: Aws, start_daemon: StartDaemon) -> None:
    """It is trouble; the log says where, without the secret in the settings."""
    provider = {"module": SITE, "class": "Failing", "password": "swordfish"}
    daemon = start_daemon(settings_for(aws, providers={"machines": provider}))
    assert await list_status(daemon) == (503, "")
    (text,) = daemon.await_log(r"error: provider machines: failed for 127\.0\.0\.1: (.*)")
    assert text == "ConnectionError: no answer for ********"
    assert "swordfish" not in daemon.log + daemon.audit_text


async def test_a_class_that_hangs(aws: Aws, start_daemon: StartDaemon) -> None:
    """Its callers hear 503, those of another provider get their role, and the daemon ends as ever."""
    aws.add_roles("dev")
    daemon = start_daemon(
        settings_for(
            aws,
            listen=[
                {"address": "127.0.0.1:0", "provider": "good"},
                {"address": "127.0.0.1:0", "provider": "hanging"},
            ],
            providers={
                "hanging": {"module": SITE, "class": "Waiting"},
                "good": {"type": "simple", "grants": [{"account": "main", "role": "dev"}]},
            },
        )
    )
    async with metadata_client(daemon) as caller:
        hanging = f"http://{daemon.addresses[1]}"
        caller.endpoint, good = hanging, caller.endpoint
        answer = await caller.get(LIST_PATH, await caller.fetch_token())
        assert (answer.status, answer.text) == (503, "")
        caller.endpoint = good
        answer = await caller.get(LIST_PATH, await caller.fetch_token())
        assert (answer.status, answer.text) == (200, "dev")
    daemon.stop()
