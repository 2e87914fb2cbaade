"""The demo's name server tells the truth about two machines and lets a third one lie."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.reversename
import pytest

from imds_proxy.demo.embedded_dns import answer, make_zone
from imds_proxy.demo.machines import MACHINES

_ZONE = make_zone(MACHINES)


def _ask(name: str, record_type: str) -> dns.message.Message:
    wire = answer(dns.message.make_query(name, record_type, use_edns=0).to_wire(), _ZONE)
    assert wire is not None
    return dns.message.from_wire(wire)


def _records(response: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in response.answer for record in rrset]


@pytest.mark.parametrize(
    ("address", "name", "leads_to"),
    [
        ("127.0.0.1", "tuvfoo42.valid.example.", "127.0.0.1"),
        ("127.0.0.2", "berbar07.valid.example.", "127.0.0.2"),
        ("127.0.0.3", "tuvfoo42.valid.example.", "127.0.0.1"),
    ],
)
def test_a_name_leads_back_only_for_those_who_own_it(address: str, name: str, leads_to: str) -> None:
    """127.0.0.3 claims the first machine's name; the forward record leads elsewhere."""
    reverse = dns.reversename.from_address(address).to_text()
    assert _records(_ask(reverse, "PTR")) == [name]
    assert _records(_ask(name, "A")) == [leads_to]


def test_case_does_not_matter() -> None:
    """RFC 4343."""
    assert _records(_ask("TUVFOO42.Valid.Example.", "A")) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "record_type", "rcode"),
    [
        ("tuvfoo42.valid.example.", "AAAA", dns.rcode.NOERROR),
        ("tuvfoo43.valid.example.", "A", dns.rcode.NXDOMAIN),
        ("4.0.0.127.in-addr.arpa.", "PTR", dns.rcode.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(name: str, record_type: str, rcode: dns.rcode.Rcode) -> None:
    """A name without the asked type is an empty answer, an unknown name NXDOMAIN (RFC 2308)."""
    response = _ask(name, record_type)
    assert (response.rcode(), response.answer) == (rcode, [])


def test_what_is_no_query_gets_no_answer() -> None:
    """Noise and answers sent by others are met with silence, so that no two servers talk for ever."""
    query = dns.message.make_query("tuvfoo42.valid.example.", "A")
    assert answer(b"\x00", _ZONE) is None
    assert answer(b"GET / HTTP/1.1\r\n\r\n", _ZONE) is None
    assert answer(dns.message.make_response(query).to_wire(), _ZONE) is None
