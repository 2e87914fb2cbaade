"""Who may ask at all: the guards, tokens and their hop limit, on a real network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.lab.gateway import (
    EXCEPTED_CALLER,
    FOREIGN_CALLER,
    make_listener,
    make_settings,
)
from tests.system.lab.machine import METADATA, METADATA_V6, ROLE_LIST
from tests.system.verdicts import TUVFOO, assert_granted, assert_unavailable

if TYPE_CHECKING:
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

HOP_LIMIT_2 = [f"{METADATA}:8002", f"{METADATA_V6}:8002"]
_COUNT_METADATA_REQUESTS = """
table inet own {
    counter asked {}
    chain outgoing {
        type filter hook output priority 0;
        ip daddr 169.254.0.0/16 tcp dport 80 counter name asked
        ip6 daddr fd00:ec2::/32 tcp dport 80 counter name asked
    }
}
"""
_TOKEN_REQUEST = (
    b"PUT /latest/api/token HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n"
    b"X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n"
)
_OTHER_REQUEST = b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"
LOSSES = [
    pytest.param(False, b"", id="nothing lost"),
    pytest.param(True, b"", id="first packet lost"),
    # A daemon that puts the limit back for the next answer lets the lost packet through, too.
    pytest.param(True, _OTHER_REQUEST, id="first packet lost and another request behind it"),
]


@pytest.mark.parametrize(
    ("address", "name"),
    [(EXCEPTED_CALLER, "tuvfoo61.valid.example"), (FOREIGN_CALLER, "tuvfoo64.valid.example")],
)
def test_a_peer_outside_callers_gets_nothing(
    lab: Laboratory, gateway: Gateway, address: str, name: str
) -> None:
    """A peer that is excepted or not listed gets 403 for everything, its name confirmed or not."""
    machine = lab.make_machine(gateway, name, address=address)
    before = lab.calls()
    token = lab.make_machine(gateway).fetch_token()
    refusals = [
        machine.ask_token(),
        machine.ask(ROLE_LIST),
        machine.ask(ROLE_LIST, token=token),
        machine.ask("/"),
    ]
    assert [(answer.status, answer.body) for answer in refusals] == [(403, "")] * 4
    assert lab.calls() == before


@pytest.mark.parametrize(
    ("header", "value", "name"),
    [
        ("X-Forwarded-For", "10.77.1.1", "tuvfoo71.valid.example"),
        ("Forwarded", "for=10.77.1.1", "tuvfoo72.valid.example"),
        ("Via", "1.1 proxy", "tuvfoo73.valid.example"),
    ],
)
def test_forwarding_headers_are_refused(
    lab: Laboratory, gateway: Gateway, header: str, value: str, name: str
) -> None:
    """A request that came through a proxy gets 403: its peer is the proxy, not the caller."""
    machine = lab.make_machine(gateway, name)
    before = lab.calls()
    at_token = machine.ask_token(headers={header: value})
    assert (at_token.status, at_token.body) == (403, "")
    assert lab.calls() == before
    assert_granted(lab, machine, TUVFOO, name)
    at_role = machine.ask(ROLE_LIST + TUVFOO, token=machine.fetch_token(), headers={header: value})
    assert (at_role.status, at_role.body) == (403, "")


def test_a_foreign_host_is_refused(lab: Laboratory, gateway: Gateway) -> None:
    """A name that somebody made lead to 169.254.169.254 (DNS rebinding) gets 403."""
    machine = lab.make_machine(gateway, lab.new_name())
    before = lab.calls()
    for host in ("attacker.example", "169.254.169.254.attacker.example", gateway.address):
        headers = {"Host": host}
        answers = [machine.ask_token(headers=headers), machine.ask(ROLE_LIST, headers=headers)]
        assert [(answer.status, answer.body) for answer in answers] == [(403, "")] * 2
    assert lab.calls() == before


def test_a_token_is_worth_nothing_elsewhere(lab: Laboratory, gateway: Gateway) -> None:
    """A token is bound to the address it was given to: from another machine it is a 401."""
    owner = lab.make_machine(gateway, lab.new_name())
    other = lab.make_machine(gateway, lab.new_name())
    token = owner.fetch_token()
    assert owner.list_role(token).body == TUVFOO
    before = lab.calls()
    for path in (ROLE_LIST, ROLE_LIST + TUVFOO):
        answer = other.ask(path, token=token)
        assert (answer.status, answer.body) == (401, "")
    assert lab.calls() == before


def test_without_a_token_there_is_nothing(lab: Laboratory, gateway: Gateway) -> None:
    """IMDSv1 is off: a request without a token is a 401 and starts nothing."""
    machine = lab.make_machine(gateway, lab.new_name())
    before = lab.calls()
    answer = machine.ask(ROLE_LIST)
    assert (answer.status, answer.body) == (401, "")
    assert lab.calls() == before


def test_the_daemon_asks_no_metadata_service_for_its_own_key(lab: Laboratory) -> None:
    """On a gateway 169.254.169.254 is the daemon itself: without a key of its own it has none."""
    keyless = {"aws": {"region": "eu-central-1", "sts_endpoint": lab.aws.url}}
    settings = make_settings(lab.aws) | keyless
    with lab.running_gateway(settings) as gateway:
        gateway.namespace.filter(_COUNT_METADATA_REQUESTS)
        machine = lab.make_machine(gateway, lab.new_name())
        assert_unavailable(lab, machine)
        assert gateway.namespace.read_counter("own", "asked") == 0
        gateway.namespace.run("curl", "--silent", "--max-time", "5", METADATA)
        assert gateway.namespace.read_counter("own", "asked") > 0


@pytest.mark.parametrize("base", HOP_LIMIT_2)
def test_a_hop_limit_of_two_reaches_two_hops(lab: Laboratory, gateway: Gateway, base: str) -> None:
    """The machine behind the router gets a token where the listener allows two hops."""
    lab.far_side.watch(gateway, lose_first=False)
    assert len(lab.far_side.machine.fetch_token(base)) == 56
    assert lab.far_side.arrived >= 1


@pytest.mark.parametrize("base", HOP_LIMIT_2)
def test_a_lost_answer_is_sent_again(lab: Laboratory, gateway: Gateway, base: str) -> None:
    """The loss that the next test relies on is real, and TCP mends it where two hops are allowed."""
    lab.far_side.watch(gateway, lose_first=True)
    assert len(lab.far_side.machine.fetch_token(base)) == 56
    assert lab.far_side.sent > lab.far_side.arrived


@pytest.mark.parametrize(("lose_first", "behind"), LOSSES)
@pytest.mark.parametrize("host", ["169.254.169.254", "fd00:ec2::254"])
def test_a_token_does_not_arrive_two_hops_away(
    lab: Laboratory, gateway: Gateway, host: str, lose_first: bool, behind: bytes
) -> None:
    """With hop limit 1 no packet of the answer passes the router, and no retransmission of it either."""
    _assert_token_stays_near(lab, gateway, host, lose_first=lose_first, behind=behind)


@pytest.mark.parametrize(("lose_first", "behind"), LOSSES)
def test_a_dual_stack_listener_keeps_the_hop_limit_for_ipv4(
    lab: Laboratory, lose_first: bool, behind: bytes
) -> None:
    """An IPv4 peer of `[::]:80` has an IPv4 time to live, which the hop limit must set too."""
    with lab.running_gateway(make_settings(lab.aws, listen=[make_listener("[::]:80")])) as gateway:
        _assert_token_stays_near(lab, gateway, "169.254.169.254", lose_first=lose_first, behind=behind)


def _assert_token_stays_near(
    lab: Laboratory, gateway: Gateway, host: str, *, lose_first: bool, behind: bytes
) -> None:
    far_side = lab.far_side
    far_side.watch(gateway, lose_first=lose_first)
    in_url = f"[{host}]" if ":" in host else host
    requests = _TOKEN_REQUEST.replace(b"HOST", in_url.encode()) + behind.replace(b"HOST", in_url.encode())
    assert far_side.send_in_vain(host, requests, packets=3) == b""
    assert (far_side.loose, far_side.arrived) == (0, 0)
    # The way there and back is open: whatever is not a token's answer arrives.
    assert far_side.machine.ask(ROLE_LIST, base=f"http://{in_url}").status == 401
