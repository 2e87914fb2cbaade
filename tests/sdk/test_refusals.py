"""Who is refused costs AWS nothing: not one request leaves the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sdk.machine import HOST, ROLE
from tests.standins.daemon import settings_for
from tests.standins.dns_server import reverse_name
from tests.standins.metadata_client import LIST_PATH, metadata_client

if TYPE_CHECKING:
    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon
    from tests.standins.dns_server import NameServer

pytestmark = pytest.mark.sdk

POINTERS = {
    "no PTR at all": (),
    "another domain": ("tuvfoo42.other.example",),
    "a domain that ends alike": ("tuvfoo42.evilvalid.example",),
    "a domain below the allowed one": ("tuvfoo42.sub.valid.example",),
    "a dot inside a label": (r"tuvfoo42\.valid.example", r"tuvfoo42.valid\.example"),
    "no host part": ("valid.example",),
    "nine names": tuple(f"tuvfoo{number:02}.valid.example" for number in range(9)),
    "two names with two roles": ("tuvfoo42.valid.example", "berbar07.valid.example"),
    "a host part that is no loctyp": ("tuvfoo4.valid.example",),
}


async def assert_refused(daemon: Daemon, aws: Aws) -> None:
    """Check that a caller gets a token, no role by any way, and that AWS was asked nothing."""
    async with metadata_client(daemon) as caller:
        token = await caller.fetch_token()
        for path in (LIST_PATH, LIST_PATH.rstrip("/"), LIST_PATH + ROLE):
            answer = await caller.get(path, token)
            assert (answer.status, answer.text) == (404, "")
        listing = await caller.get("/latest/meta-data/", token)
        assert "iam/" not in listing.text.split("\n")
    assert aws.counts() == {}


@pytest.mark.parametrize("case", POINTERS)
async def test_names_that_give_no_role(
    case: str, aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """Names that are not allowed, suspicious or at odds are a refusal, and every one of them leads back."""
    aws.add_roles(ROLE)
    name_server.add_host("127.0.0.1", *POINTERS[case])
    daemon = start_daemon(settings_for(aws, dns={"nameservers": [name_server.endpoint]}))
    await assert_refused(daemon, aws)


async def test_name_that_does_not_lead_back(
    aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """A PTR with another machine's name is worth nothing: that name's address is not the caller's."""
    aws.add_roles(ROLE)
    name_server.set_pointers("127.0.0.1", HOST)
    name_server.set_records(HOST, "A", "127.0.0.2")
    daemon = start_daemon(settings_for(aws, dns={"nameservers": [name_server.endpoint]}))
    await assert_refused(daemon, aws)


async def test_forbidden_domain_costs_no_forward_look_up(
    aws: Aws, name_server: NameServer, start_daemon: StartDaemon
) -> None:
    """A name outside the allowed domains is dropped before anybody is asked for its address."""
    name_server.add_host("127.0.0.1", "tuvfoo42.attacker.example")
    daemon = start_daemon(settings_for(aws, dns={"nameservers": [name_server.endpoint]}))
    await assert_refused(daemon, aws)
    assert name_server.queries(reverse_name("127.0.0.1"), "PTR") >= 1
    assert name_server.queries("tuvfoo42.attacker.example") == 0


@pytest.mark.parametrize("denied", ["127.0.0.1", HOST])
async def test_denied_machine(denied: str, aws: Aws, start_daemon: StartDaemon) -> None:
    """A denied address or name is a refusal like any other."""
    aws.add_roles(ROLE)
    daemon = start_daemon(settings_for(aws, hosts={"127.0.0.1": HOST}, deny=[denied]))
    await assert_refused(daemon, aws)
