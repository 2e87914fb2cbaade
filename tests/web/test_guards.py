"""Who is let in at all: the peer's address, Host and the request's target, and no proxy in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH, WireAnswer
from tests.web.machines import BAR, DUAL, FOO, FOO_ROLE, OUTSIDE, SIX, SIX_ROLE, V1, V2

if TYPE_CHECKING:
    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

REGION = "/latest/meta-data/placement/region"


def assert_forbidden(answer: WireAnswer) -> None:
    """Check for an empty 403."""
    assert (answer.status, answer.reason, answer.body) == (403, "Forbidden", b"")


# --- peers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("listener", [V2, V1, DUAL])
def test_callers_except(listener: int, shared_site: RunningSite) -> None:
    """An address that `callers_except` takes out of `callers` is refused, IPv4-mapped on `[::]` too."""
    assert_forbidden(shared_site.caller(OUTSIDE, listener=listener).put_token("60"))
    assert_forbidden(shared_site.caller(OUTSIDE, listener=listener).get(REGION))


def test_both_families_on_one_socket(shared_site: RunningSite) -> None:
    """`[::]` serves IPv4 callers under their IPv4 address: the role of its `hosts` entry, and it is shown."""
    four, six = shared_site.caller(FOO, listener=DUAL), shared_site.caller(SIX, listener=DUAL)
    assert four.fetch_role() == FOO_ROLE
    assert six.fetch_role() == SIX_ROLE
    assert four.get("/latest/meta-data/local-ipv4").text == FOO


def test_networks(start_site: StartSite) -> None:
    """Only the networks listed are let in; an IPv4 network lets no IPv6 caller in, nor vice versa."""
    listen = [
        {"address": "127.0.0.1:0", "callers": ["127.0.0.2/32"], "imds_v1": True},
        {"address": "[::]:0", "callers": ["127.0.0.0/8"], "imds_v1": True},
        {"address": "[::]:0", "callers": ["::1/128"], "imds_v1": True},
        {"address": "127.0.0.1:0", "callers": [], "imds_v1": True},
    ]
    site = start_site(listen=listen)

    def status(source: str, listener: int) -> int:
        return site.caller(source, listener=listener).get(REGION).status

    assert (status(BAR, 0), status(FOO, 0)) == (200, 403)
    assert (status(FOO, 1), status(BAR, 1), status(SIX, 1)) == (200, 200, 403)
    assert (status(FOO, 2), status(SIX, 2)) == (403, 200)
    assert status(FOO, 3) == 403


def test_strangers_start_nothing(sts: LittleSts, start_site: StartSite) -> None:
    """Nobody's name is looked up and STS is not asked for who is refused at the door."""
    site = start_site()
    site.caller(OUTSIDE).put_token("60")
    foo = site.caller(FOO)
    foo.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), ("Via", "1.1 x"))
    foo.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), host="attacker.example")
    assert sts.calls == []
    assert site.do(lambda: sum(broker.size for broker in site.site.brokers.values())) == 0


# --- Host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:80",
        "169.254.169.254",
        "169.254.169.254:80",
        "[fd00:ec2::254]",
        "[fd00:ec2::254]:80",
        "fd00:ec2::254",
        "localhost",
        "LocalHost:8080",
        "imds.rz.example",
        "IMDS.rz.example:80",
    ],
)
def test_hosts_that_are_ours(host: str, shared_site: RunningSite) -> None:
    """The address listened on, the two metadata addresses and what `hosts` names; awscrt leaves port and
    brackets out.
    """
    caller = shared_site.caller(FOO)
    answer = caller.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), host=host)
    assert answer.status == 200
    assert caller.ask("GET", REGION, token=answer.text, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:80",
        "169.254.169.254.attacker.example",
        "imds.rz.example.",
        "127.0.0.2",
        "[::1]",
        "user@127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1, attacker.example",
        "127.1",
        "2130706433",
        "127.0.0.1:port",
        " ",
    ],
)
def test_foreign_hosts(host: str, shared_site: RunningSite) -> None:
    """A name that leads here by somebody else's DNS is refused, with a good token too: DNS rebinding."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    assert_forbidden(caller.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), host=host))
    assert_forbidden(caller.ask("GET", ROLES_PATH, token=token, host=host))
    assert_forbidden(shared_site.caller(FOO, listener=V1).ask("GET", ROLES_PATH, host=host))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_no_host(version: str, shared_site: RunningSite) -> None:
    """A request that does not say whom it means is refused or malformed, never served."""
    caller = shared_site.caller(FOO, listener=V1)
    answer = caller.exchange(caller.render("GET", REGION, host=None, version=version))
    assert answer.status in {400, 403}
    assert answer.body == b""


@pytest.mark.parametrize("second", ["127.0.0.1", "attacker.example", ""])
@pytest.mark.parametrize("first", ["127.0.0.1", "attacker.example"])
def test_two_hosts(first: str, second: str, shared_site: RunningSite) -> None:
    """Two Host headers, equal ones too, are refused or malformed: which one counts depends on the reader."""
    caller = shared_site.caller(FOO, listener=V1)
    answer = caller.exchange(caller.render("GET", REGION, ("Host", second), host=first))
    assert answer.status in {400, 403}
    assert answer.body == b""


def test_the_address_connected_to(shared_site: RunningSite) -> None:
    """On a wildcard socket Host may be the address the packet went to, and no other of this machine's."""
    on_two = shared_site.caller(FOO, listener=DUAL, server="127.0.0.2")
    assert on_two.ask("GET", REGION, host="127.0.0.2").status == 200
    assert on_two.ask("GET", REGION, host="[::ffff:127.0.0.2]").status == 200
    assert_forbidden(on_two.ask("GET", REGION, host="127.0.0.3"))
    assert shared_site.caller(SIX, listener=DUAL).ask("GET", REGION, host="[::1]").status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://169.254.169.254/latest/meta-data/placement/region", 200),
        ("http://127.0.0.1:80/latest/meta-data/placement/region", 200),
        ("http://[fd00:ec2::254]/latest/meta-data/placement/region", 200),
        ("http://attacker.example/latest/meta-data/placement/region", 403),
        ("http://127.0.0.1@attacker.example/latest/meta-data/placement/region", 403),
        ("http://attacker.example:80@127.0.0.1/latest/meta-data/placement/region", 403),
        ("http://attacker.example#@127.0.0.1/latest/meta-data/placement/region", 400),
    ],
)
def test_absolute_targets(target: str, status: int, shared_site: RunningSite) -> None:
    """What a client sends to a proxy: the target's authority counts too (RFC 9112 section 3.2.2)."""
    caller = shared_site.caller(FOO, listener=V1)
    assert caller.ask("GET", target).status == status
    assert caller.ask("GET", target, host="attacker.example").status in {400, 403}


# --- proxies in between ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "x-forwarded-for", "Forwarded", "FORWARDED", "Via", "via"]
)
@pytest.mark.parametrize("value", ["10.0.0.5", "", "127.0.0.1"])
def test_forwarding_headers(name: str, value: str, shared_site: RunningSite) -> None:
    """A request that was passed on says nothing about its sender: 403 at TOKEN, with a token, and for v1."""
    caller = shared_site.caller(FOO)
    header = (name, value)
    assert_forbidden(caller.ask("PUT", TOKEN_PATH, (LIFE_HEADER, "60"), header))
    assert_forbidden(caller.ask("GET", ROLES_PATH, header, (TOKEN_HEADER, caller.fetch_token())))
    assert_forbidden(caller.ask("GET", ROLES_PATH, header))
    assert_forbidden(shared_site.caller(FOO, listener=V1).ask("GET", ROLES_PATH, header))
    assert_forbidden(shared_site.caller(FOO, listener=V1).ask("HEAD", ROLES_PATH, header))


def test_no_header_names_another_caller(shared_site: RunningSite) -> None:
    """Headers that proxies add and we don't know make nobody somebody else."""
    caller = shared_site.caller(FOO, listener=V1)
    for name in ("X-Real-IP", "X-Client-IP", "True-Client-IP", "X-Forwarded-Host", "X-Original-URL"):
        assert caller.get("/latest/meta-data/local-ipv4", None, (name, BAR)).text == FOO


def test_proxy_protocol(shared_site: RunningSite) -> None:
    """A PROXY line in front of a request (HAProxy) is no HTTP."""
    caller = shared_site.caller(FOO, listener=V1)
    line = f"PROXY TCP4 {BAR} 127.0.0.1 1234 80\r\n".encode()
    assert caller.exchange(line + caller.render("GET", REGION)).status == 400
