"""Who may talk to a listener: peers and Host headers, without a socket."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imds_proxy.model import canonical_address
from imds_proxy.web.edge.guard import Guard, host_of

GUARD = Guard(
    callers=(ip_network("10.77.0.0/16"), ip_network("fd77::/64")),
    callers_except=(ip_network("10.77.0.9/32"), ip_network("fd77::9/128")),
    hosts=frozenset({"imds.rz.example", "10.77.0.1"}),
)
LOCAL = "10.77.0.2"


@dataclass(frozen=True)
class At:
    """A connection to an address."""

    local_host: str | None


HERE, NOWHERE = At(LOCAL), At(None)


@pytest.mark.parametrize(
    "peer", ["10.77.0.0", "10.77.255.255", "::ffff:10.77.0.5", "fd77::5", "fd77::5%eth0"]
)
def test_callers(peer: str) -> None:
    """An address in a network is let in, also when a dual-stack socket shows it IPv4-mapped."""
    assert GUARD.admits_peer(canonical_address(peer))


@pytest.mark.parametrize(
    "peer",
    [
        "10.77.0.9",
        "::ffff:10.77.0.9",
        "fd77::9",
        "10.78.0.0",
        "10.76.255.255",
        "fd77:0:0:1::5",
        "::10.77.0.5",
        "::1",
        "64:ff9b::10.77.0.5",
        "2002:0a4d:0005::1",
    ],
)
def test_strangers(peer: str) -> None:
    """Exceptions, neighbours, and other ways to write an IPv4 address in IPv6 are not let in."""
    assert not GUARD.admits_peer(canonical_address(peer))


@pytest.mark.parametrize("peer", ["fe80::5", "fe80::5%eth0", "fe80::5%3", "febf::1"])
def test_a_link_local_peer_is_a_stranger(peer: str) -> None:
    """Whatever `callers` say: on two links it would be two machines, and one caller."""
    wide = replace(GUARD, callers=(ip_network("fe80::/10"), ip_network("::/0")), callers_except=())
    assert not wide.admits_peer(canonical_address(peer))
    assert wide.admits_peer(canonical_address("fd77::5"))


def test_a_link_local_ipv4_peer_is_a_caller() -> None:
    """This host's own programs ask from the metadata address itself."""
    wide = replace(GUARD, callers=(ip_network("169.254.169.254/32"),))
    assert wide.admits_peer(canonical_address("169.254.169.254"))


def test_an_empty_list_allows_nobody() -> None:
    """No callers, no service, whatever the rest says."""
    guard = Guard(callers=(), callers_except=(), hosts=GUARD.hosts)
    assert not guard.admits_peer(canonical_address("127.0.0.1"))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.169.254:80",
        "169.254.169.254:8080",
        "[fd00:ec2::254]",
        "[fd00:ec2::254]:80",
        "fd00:ec2::254",
        "FD00:EC2:0:0::254",
        "10.77.0.1",
        "10.77.0.2",
        "10.77.0.2:8169",
        "::ffff:10.77.0.2",
        "imds.rz.example",
        "IMDS.rz.Example:80",
        " 10.77.0.1 ",
        "10.77.0.1:",
    ],
)
def test_our_own_names(host: str) -> None:
    """The metadata addresses, the address connected to and the names set, with and without a port."""
    assert GUARD.admits_host([host], HERE)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "attacker.example",
        "attacker.example:80",
        "169.254.169.254.attacker.example",
        "imds.rz.example.attacker.example",
        "imds.rz.example.",
        "x.imds.rz.example",
        "10.77.0.3",
        "169.254.169.254:80:80",
        "169.254.169.254:x",
        "169.254.169.254:-80",
        "169.254.169.254:\u0668\u0660",
        "user@169.254.169.254",
        "169.254.169.254/x",
        "169.254.169.254?",
        "169.254.169.254#",
        "169.254.169.254, attacker.example",
        "169.254.43518",
        "2852039166",
        "0xa9fea9fe",
        "169.254.169.0376",
        "[fd00:ec2::254",
        "[fd00:ec2::254]x",
        "[fd00:ec2::254]80",
        "[attacker.example]",
        "fd00:ec2::254:80",
        "[]",
        "[",
        "]",
        "\u0661\u0666\u0669.254.169.254",
        "\x00",
    ],
)
def test_foreign_names(host: str) -> None:
    """Everything else is foreign, whatever it begins or ends with, and other spellings of the address too."""
    assert not GUARD.admits_host([host], HERE)


@pytest.mark.parametrize(
    "hosts", [[], ["169.254.169.254", "169.254.169.254"], ["169.254.169.254", "attacker.example"]]
)
def test_exactly_one_host(hosts: list[str]) -> None:
    """None and two, equal ones too, are foreign."""
    assert not GUARD.admits_host(hosts, HERE)


def test_without_a_local_address() -> None:
    """A socket whose own address is not known admits what is named in the settings, and no empty Host."""
    assert GUARD.admits_host(["10.77.0.1"], NOWHERE)
    assert not GUARD.admits_host([LOCAL], NOWHERE)
    assert not GUARD.admits_host([""], NOWHERE)


@given(st.text())
@example("[]:1")
@example("\ud800")
@example("1" * 5000)
def test_any_host_is_something_or_malformed(text: str) -> None:
    """No text raises, and only text that names us is ours."""
    host = host_of(text)
    assert host is None or host == host.lower()
    if GUARD.admits_host([text], HERE):
        assert host in {"169.254.169.254", "fd00:ec2::254", "imds.rz.example", "10.77.0.1", LOCAL}
