"""caller: which names an address has. What DNS is asked, and never asked, is part of the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.errors import Refusal
from imds_proxy.model import canonical_address
from imds_proxy.names import AllowedDomains
from tests.standins.identity_desk import ADDRESS, ANY_AGE, NAME, OTHER_NAME, VALID, Desk
from tests.standins.virtual_time import in_virtual_time


@pytest.mark.parametrize("address", [ADDRESS, "fd00::5", "::ffff:10.0.0.5"])
@in_virtual_time
async def test_a_confirmed_name(address: str) -> None:
    """A PTR name in an allowed domain that leads back to the address is the caller's."""
    desk = Desk()
    desk.dns.add_host(address, NAME)
    assert await desk.names(address) == (NAME,)
    (finding,) = (await desk.identify(address)).findings
    assert (finding.name, finding.is_allowed, finding.is_confirmed) == (NAME, True, True)


@in_virtual_time
async def test_no_pointer() -> None:
    """An address without a PTR record is refused, and no name is asked about."""
    desk = Desk()
    with pytest.raises(Refusal, match="no PTR record"):
        await desk.names()
    assert desk.dns.questions == [ADDRESS]


@in_virtual_time
async def test_no_pointer_of_an_ipv6_address() -> None:
    """The refusal of an IPv6 address says what it may be; that of another one does not."""
    desk = Desk()
    for address in (ADDRESS, "fd00::5"):
        with pytest.raises(Refusal) as refused:
            await desk.names(address)
        assert ("temporary address" in str(refused.value)) == (address != ADDRESS)


@pytest.mark.parametrize("leads_to", [[], ["10.0.0.6"], ["fd00::5"]])
@in_virtual_time
async def test_a_name_that_leads_elsewhere(leads_to: list[str]) -> None:
    """A PTR name that does not lead back is refused: whoever owns the reverse zone chose it."""
    desk = Desk()
    desk.dns.set_pointers(ADDRESS, NAME)
    desk.dns.set_addresses(NAME, *leads_to)
    with pytest.raises(Refusal, match="no PTR name is allowed and leads back"):
        await desk.names()


@in_virtual_time
async def test_an_address_of_the_other_version() -> None:
    """An IPv4 caller is confirmed by A and an IPv6 caller by AAAA, whatever else the name has."""
    desk = Desk()
    desk.dns.set_pointers("fd00::5", NAME)
    desk.dns.set_addresses(NAME, ADDRESS, "fd00::5")
    assert await desk.names("fd00::5") == (NAME,)


@pytest.mark.parametrize(
    "pointer",
    [
        "tuvfoo42.other.example",
        "tuvfoo42.evilvalid.example",
        "tuvfoo42.valid.example.attacker.example",
        "valid.example",
        "a.b.valid.example",
        (b"tuvfoo42.valid", b"example"),
        (b"tuvfoo42", b"valid.example"),
        (b"tuvfoo42", b"valid", b"example\0"),
        (b"tuvfoo42 ", b"valid", b"example"),
        ("tuvfoo42".encode("utf-16"), b"valid", b"example"),
        (b"-tuvfoo", b"valid", b"example"),
        (),
        (b"",),
    ],
)
@in_virtual_time
async def test_names_that_don_t_count(pointer: str | tuple[bytes, ...]) -> None:
    """A name outside the domains, or that is no host name, is dropped before anything is asked about it."""
    desk = Desk()
    desk.dns.set_pointers(ADDRESS, pointer)
    with pytest.raises(Refusal):
        await desk.names()
    assert desk.dns.questions == [ADDRESS]
    (finding,) = (await desk.identify()).findings
    assert not finding.is_allowed
    assert not finding.is_confirmed


@in_virtual_time
async def test_a_forbidden_name_beside_a_good_one() -> None:
    """A name that does not count neither harms the good one nor is it asked about."""
    desk = Desk()
    desk.dns.set_pointers(ADDRESS, "x.attacker.example", NAME.upper(), NAME)
    desk.dns.set_addresses(NAME, ADDRESS)
    assert await desk.names() == (NAME,)
    assert desk.dns.questions == [ADDRESS, NAME]


@in_virtual_time
async def test_several_names() -> None:
    """All names that lead back are the caller's, sorted; one that leads elsewhere is not."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME, OTHER_NAME)
    desk.dns.set_pointers(ADDRESS, NAME, "stray.valid.example", OTHER_NAME)
    assert await desk.names() == (OTHER_NAME, NAME)


@pytest.mark.parametrize(("many", "counts"), [(8, True), (9, False)])
@in_virtual_time
async def test_many_pointers(many: int, counts: bool) -> None:
    """Eight PTR names are taken; nine are a refusal, before anything is asked about them."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, *(f"tuvfoo{number}.valid.example" for number in range(many)))
    if counts:
        assert len(await desk.names()) == many
    else:
        with pytest.raises(Refusal, match="9 PTR names, 8 at most"):
            await desk.names()
        assert desk.dns.questions == [ADDRESS]


@in_virtual_time
async def test_hosts_come_first() -> None:
    """A name from `hosts:` counts as confirmed and DNS is not asked at all, so it can't fail either."""
    desk = Desk(hosts={ADDRESS: NAME})
    desk.dns.fail()
    assert await desk.names(not_before=desk.clock.monotonic()) == (NAME,)
    assert desk.identities.mapped_name(canonical_address(ADDRESS)) == NAME
    assert desk.identities.mapped_name(canonical_address("10.0.0.6")) is None
    assert desk.dns.questions == []


@in_virtual_time
async def test_hosts_in_another_domain() -> None:
    """A name from `hosts:` outside the provider's domains is a refusal, and DNS is not asked either."""
    desk = Desk(hosts={ADDRESS: "tuvfoo42.other.example"})
    desk.dns.add_host(ADDRESS, NAME)
    with pytest.raises(Refusal, match="is in no allowed domain"):
        await desk.names()
    assert desk.dns.questions == []


@in_virtual_time
async def test_domains_don_t_mix() -> None:
    """What one provider's domains allowed is no answer for another provider's."""
    desk = Desk()
    desk.dns.add_host(ADDRESS, NAME)
    assert await desk.names() == (NAME,)
    asking = desk.identities.caller(canonical_address(ADDRESS), not_before=ANY_AGE)
    with pytest.raises(Refusal):
        await asking.confirmed_names(AllowedDomains.parse(["other.example"]))


LABEL = st.binary(max_size=12) | st.sampled_from(
    [b"valid", b"example", b"tuvfoo42", b"valid.example", b"VALID"]
)
POINTERS = st.lists(st.lists(LABEL, max_size=5).map(tuple), max_size=10)


@given(POINTERS, st.booleans())
def test_any_pointers(pointers: list[tuple[bytes, ...]], leads_back: bool) -> None:
    """Whatever a reverse zone has: names in the domains that lead back, or a refusal; no other question."""

    @in_virtual_time
    async def look_up() -> None:
        desk = Desk()
        desk.dns.set_pointers(ADDRESS, *pointers)
        if leads_back:
            for labels in pointers:
                desk.dns.set_addresses(b".".join(labels).decode("latin-1").lower(), ADDRESS)
        try:
            names = await desk.names()
        except Refusal:
            names = ()
        assert all(VALID.allow(name) and leads_back for name in names)
        assert all(VALID.allow(question) for question in desk.dns.questions[1:])

    look_up()
