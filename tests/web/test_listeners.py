"""One daemon, several listeners, each with a policy of its own. The callers are loopback addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_PATH
from tests.web.machines import ACCOUNT, BAR, FOO, FOO_ROLE, HOSTS
from tests.web.test_hop_limit import hops_of

if TYPE_CHECKING:
    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

CONTAINERS, OLD, HERE = 0, 1, 2
"""For containers: IMDSv2 alone. For old hosts: IMDSv1, one role for all. For the server itself."""

CONTAINER, OLD_HOST, SERVER = "127.7.0.5", "127.8.0.5", FOO
LISTEN: list[dict[str, Any]] = [
    {"address": "127.0.0.1:0", "callers": ["127.7.0.0/16"], "provider": "containers", "hop_limit": 2},
    {
        "address": "127.0.0.1:0",
        "callers": ["127.8.0.0/16"],
        "provider": "old",
        "imds_v1": True,
        "hop_limit": 64,
        "hosts": ["imds.rz.example"],
    },
    {"address": "127.0.0.1:0", "callers": ["127.0.0.1"], "provider": "here"},
]
OLD_ACCOUNT = "210987654321"


@pytest.fixture
def site(start_site: StartSite) -> RunningSite:
    """The three listeners in one daemon."""
    by_ip = {"type": "by_ip", "allowed_domains": ["valid.example"], "account_name": "main"}
    return start_site(
        listen=LISTEN,
        providers={
            "containers": {**by_ip, "role_prefix": "app-", "rule": "hostname"},
            "old": {"type": "simple", "grants": [{"account": "archive", "role": "old-backup"}]},
            "here": {**by_ip, "role_prefix": "roleprefix-"},
        },
        accounts={"main": {"id": ACCOUNT}, "archive": {"id": OLD_ACCOUNT}},
        hosts={**HOSTS, CONTAINER: "web-1.valid.example"},
    )


def test_each_has_its_provider(site: RunningSite, sts: LittleSts) -> None:
    """The role, its account and the name in the session follow from the listener that was asked."""
    found = {}
    for listener, source in ((CONTAINERS, CONTAINER), (OLD, OLD_HOST), (HERE, SERVER)):
        caller = site.caller(source, listener=listener)
        role = caller.fetch_role()
        found[listener] = role
        assert caller.get(ROLES_PATH + role, caller.fetch_token()).status == 200
    assert found == {CONTAINERS: "app-web-1", OLD: "old-backup", HERE: FOO_ROLE}
    assert sorted(call["RoleArn"] for call in sts.calls) == [
        f"arn:aws:iam::{ACCOUNT}:role/app-web-1",
        f"arn:aws:iam::{ACCOUNT}:role/{FOO_ROLE}",
        f"arn:aws:iam::{OLD_ACCOUNT}:role/old-backup",
    ]


def test_each_has_its_callers(site: RunningSite) -> None:
    """Who is let in at one is 403 at the others, with a token of the right one too."""
    sources = {CONTAINERS: CONTAINER, OLD: OLD_HOST, HERE: SERVER}
    for own, source in sources.items():
        token = site.caller(source, listener=own).fetch_token()
        for listener in sources:
            answer = site.caller(source, listener=listener).get(ROLES_PATH, token)
            assert (answer.status == 403) == (listener != own), (source, listener)


def test_each_has_its_switch(site: RunningSite) -> None:
    """Without a token: the old hosts' listener answers, the others don't."""
    assert site.caller(OLD_HOST, listener=OLD).settle(ROLES_PATH, None).text == "old-backup"
    for listener, source in ((CONTAINERS, CONTAINER), (HERE, SERVER)):
        assert site.caller(source, listener=listener).get(ROLES_PATH).status == 401


def test_each_has_its_hosts(site: RunningSite) -> None:
    """A name in Host is good where it was allowed."""
    for listener, source in ((CONTAINERS, CONTAINER), (OLD, OLD_HOST), (HERE, SERVER)):
        answer = site.caller(source, listener=listener).ask(
            "PUT", TOKEN_PATH, (LIFE_HEADER, "60"), host="imds.rz.example"
        )
        assert answer.status == (200 if listener == OLD else 403)


def test_each_has_its_hop_limit(site: RunningSite) -> None:
    """A token travels as far as its listener says."""
    for listener, source, hops in ((CONTAINERS, CONTAINER, 2), (OLD, OLD_HOST, 64), (HERE, SERVER, 1)):
        caller = site.caller(source, listener=listener)
        with caller.connected() as connection:
            connection.send(caller.render("PUT", TOKEN_PATH, (LIFE_HEADER, "60")))
            assert connection.read_answer().status == 200
            assert hops_of(site, listener, connection) == (hops, None)


def test_a_token_goes_with_the_address(start_site: StartSite) -> None:
    """Where two listeners let one caller in, its token is good at both, and each still gives its own role:
    a credential that one has fetched never comes out of the other.
    """
    by_ip = {"type": "by_ip", "allowed_domains": ["valid.example"], "account_name": "main"}
    site = start_site(
        listen=[
            {"address": "127.0.0.1:0", "provider": "one"},
            {"address": "127.0.0.1:0", "provider": "two"},
        ],
        providers={
            "one": {**by_ip, "role_prefix": "one-", "rule": "hostname"},
            "two": {**by_ip, "role_prefix": "two-", "rule": "hostname"},
        },
    )
    token = site.caller(BAR).fetch_token()
    keys = set()
    for listener, role in enumerate(("one-berbar07", "two-berbar07")):
        caller = site.caller(BAR, listener=listener)
        assert caller.settle(ROLES_PATH, token).text == role
        keys.add(caller.get(ROLES_PATH + role, token).text)
        other = "two-berbar07" if listener == 0 else "one-berbar07"
        assert caller.get(ROLES_PATH + other, token).status == 404
    assert len(keys) == 2
