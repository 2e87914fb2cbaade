"""The name server stand-in as dnspython's resolver sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.exception
import dns.resolver
import pytest

from tests.standins.dns_server import NameServer, reverse_name, running_name_server

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "tuvfoo42.valid.example"


@pytest.fixture
def names() -> Iterator[NameServer]:
    """A name server without records."""
    with running_name_server() as server:
        yield server


def ask(names: NameServer, name: str, kind: str) -> list[str]:
    """Return the records of a name, sorted, as text."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [names.address], names.port
    resolver.timeout, resolver.lifetime = 0.5, 1
    return sorted(record.to_text() for record in resolver.resolve(name, kind))


def test_host_has_both_directions(names: NameServer) -> None:
    """A host's name leads to its address and back, for both families, in any case."""
    names.add_host("10.0.0.5", HOST)
    names.add_host("fd00::5", "v6.valid.example")
    assert ask(names, reverse_name("10.0.0.5"), "PTR") == [f"{HOST}."]
    assert ask(names, HOST.upper(), "A") == ["10.0.0.5"]
    assert ask(names, reverse_name("fd00::5"), "PTR") == ["v6.valid.example."]
    assert ask(names, "v6.valid.example", "AAAA") == ["fd00::5"]


def test_negative_answers(names: NameServer) -> None:
    """A name without records is NXDOMAIN, one without this type an empty answer."""
    names.add_host("10.0.0.5", HOST)
    with pytest.raises(dns.resolver.NoAnswer):
        ask(names, HOST, "AAAA")
    names.remove(HOST)
    with pytest.raises(dns.resolver.NXDOMAIN):
        ask(names, HOST, "A")


def test_alias_of_a_reverse_zone(names: NameServer) -> None:
    """RFC 2317: a PTR behind a CNAME is found."""
    names.set_records("5.0.0.10.in-addr.arpa", "CNAME", "5.sub.0.0.10.in-addr.arpa.")
    names.set_records("5.sub.0.0.10.in-addr.arpa", "PTR", f"{HOST}.")
    assert ask(names, "5.0.0.10.in-addr.arpa", "PTR") == [f"{HOST}."]


def test_long_answer_comes_over_tcp(names: NameServer) -> None:
    """What does not fit a datagram is asked for again over TCP."""
    pointers = [f"tuvfoo{number}.valid.example" for number in range(100)]
    names.set_pointers("10.0.0.5", *pointers)
    assert len(ask(names, reverse_name("10.0.0.5"), "PTR")) == 100
    assert names.queries(reverse_name("10.0.0.5"), "PTR") == 2


@pytest.mark.parametrize("kind", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "drop", "close", "malformed"])
def test_faults_until_healed(kind: str, names: NameServer) -> None:
    """A fault is a failure, never a negative answer; healed, the name is there again."""
    names.add_host("10.0.0.5", HOST)
    names.fault(HOST, kind)
    with pytest.raises((dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout)):
        ask(names, HOST, "A")
    names.heal()
    assert ask(names, HOST, "A") == ["10.0.0.5"]


@pytest.mark.parametrize("kind", ["truncate", "delay"])
def test_faults_that_still_answer(kind: str, names: NameServer) -> None:
    """A truncated answer is found over TCP, a late one is waited for."""
    names.add_host("10.0.0.5", HOST)
    names.fault_all(kind, seconds=0.1)
    assert ask(names, HOST, "A") == ["10.0.0.5"]


def test_queries_are_counted(names: NameServer) -> None:
    """Questions are counted by name, whatever its case, and type."""
    names.add_host("10.0.0.5", HOST)
    ask(names, HOST, "A")
    ask(names, HOST.upper(), "A")
    assert (names.queries(HOST), names.queries(HOST, "A"), names.queries(HOST, "AAAA")) == (2, 2, 0)
    names.forget_queries()
    assert names.queries() == 0


def test_unknown_fault_is_an_error(names: NameServer) -> None:
    """A test that misspells its fault hears of it."""
    with pytest.raises(dns.exception.DNSException):
        names.fault(HOST, "slow")
