"""simple: from the caller's address to one grant, or to a refusal that says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imds_proxy_providers import simple
from pydantic import ValidationError

from imds_proxy.errors import Refusal, ResolutionError
from tests.standins.callers import NamedCaller
from tests.standins.provider_pages import REFUSED, Sample, samples

ACCOUNTS = {"main": {"id": "000123456789"}, "other": {"id": "000123456780"}}


def settings(*entries: dict[str, object]) -> simple.Settings:
    return simple.Settings.model_validate({"grants": list(entries)}, context={"accounts": ACCOUNTS})


def entry(role: object = "demo-role", **changes: object) -> dict[str, object]:
    return {"account": "main", "role": role} | changes


async def role_for(made: simple.Provider, address: str) -> str:
    (grant,) = await made.grants_for(NamedCaller(address))
    return grant.role


async def test_a_caller_gets_the_role_of_its_network() -> None:
    """The entry whose networks have the address gives account and role; the reason says which."""
    made = simple.Provider(
        settings(
            entry("a", callers=["10.1.0.0/16"]),
            entry("b", callers=["10.2.0.0/16", "fd00:2::/32"], account="other"),
        )
    )
    (grant,) = await made.grants_for(NamedCaller("fd00:2::7"))
    assert (grant.account, grant.role) == ("other", "b")
    assert grant.reason == "fd00:2::7 is in fd00:2::/32, grants[1] gives b"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "fd00::5", "::1"])
async def test_without_callers_everybody_matches(address: str) -> None:
    """An entry without `callers` is for all that the listener lets in, IPv4 and IPv6."""
    assert await role_for(simple.Provider(settings(entry())), address) == "demo-role"


@pytest.mark.parametrize("callers", [[], ["10.0.0.0/8"], ["::/0"]])
async def test_no_entry_matches(callers: list[str]) -> None:
    """A caller outside all networks is refused; an empty list has nobody in it."""
    made = simple.Provider(settings(entry(callers=callers)))
    with pytest.raises(Refusal, match=r"no entry of grants matches 192\.0\.2\.1"):
        await role_for(made, "192.0.2.1")


@pytest.mark.parametrize("second", ["demo-role", "other-role"])
async def test_two_entries_match(second: str) -> None:
    """Two entries for one caller are a refusal that names both, the same role or not."""
    made = simple.Provider(settings(entry(callers=["10.0.0.0/8"]), entry(second, callers=["10.0.0.5"])))
    with pytest.raises(Refusal) as refusal:
        await role_for(made, "10.0.0.5")
    assert "grants[0] (10.0.0.0/8), grants[1] (10.0.0.5/32)" in str(refusal.value)
    assert await role_for(made, "10.0.0.6") == "demo-role"


async def test_overlapping_networks_in_one_entry() -> None:
    """Networks of the same entry may overlap: it is one entry."""
    made = simple.Provider(settings(entry(callers=["10.0.0.0/8", "10.0.0.0/16"])))
    assert await role_for(made, "10.0.0.5") == "demo-role"


async def test_a_mapped_peer_is_an_ipv4_caller() -> None:
    """`::ffff:10.0.0.5` is 10.0.0.5: in its network, and not in an IPv6 one."""
    made = simple.Provider(settings(entry("four", callers=["10.0.0.0/8"]), entry("six", callers=["::/0"])))
    assert await role_for(made, "::ffff:10.0.0.5") == "four"


async def test_no_look_up() -> None:
    """The address is enough: DNS is never asked, so its trouble does not matter."""
    caller = NamedCaller("10.0.0.5", trouble=ResolutionError("SERVFAIL"))
    assert await simple.Provider(settings(entry())).grants_for(caller)
    assert caller.look_ups == []


@given(st.ip_addresses(), st.lists(st.ip_addresses(network="10.0.0.0/28"), max_size=4))
async def test_any_caller_gets_one_grant_or_a_refusal(address: object, callers: list[object]) -> None:
    """Only the two configured roles are ever given, one at a time."""
    made = simple.Provider(
        settings(
            entry("listed", callers=[str(caller) for caller in callers]),
            entry("net", callers=["10.0.0.8/29", "::/1"]),
        )
    )
    caller = NamedCaller(str(address))
    listed = caller.address in callers
    in_net = str(caller.address) in {f"10.0.0.{last}" for last in range(8, 16)} or (
        caller.address.version == 6 and int(caller.address) < 1 << 127
    )
    if listed == in_net:
        with pytest.raises(Refusal):
            await made.grants_for(caller)
    else:
        (grant,) = await made.grants_for(caller)
        assert grant.role == ("listed" if listed else "net")


@pytest.mark.parametrize(
    ("changes", "where", "text"),
    [
        ({"callers": ["10.0.0.0/8", "10.0.0.1/8"]}, ("callers", 1), "has host bits set"),
        ({"callers": ["tuvfoo42"]}, ("callers", 0), "does not appear to be an IPv4 or IPv6 network"),
        ({"callers": [""]}, ("callers", 0), "does not appear to be"),
        ({"callers": [7]}, ("callers", 0), "not a network"),
        ({"callers": ["::ffff:10.0.0.0/104"]}, ("callers", 0), "counts as IPv4"),
        ({"callers": "10.0.0.0/8"}, ("callers",), "valid list"),
        ({"callers": ""}, ("callers",), "valid list"),
        ({"callers": None}, ("callers",), "valid list"),
        ({"account": "nowhere"}, ("account",), "no account 'nowhere'"),
        ({"role": "path/role"}, ("role",), "is no role name"),
        ({"role": ""}, ("role",), "is no role name"),
        ({"role": "x" * 65}, ("role",), "is no role name"),
        ({"network": "10.0.0.0/8"}, ("network",), "not permitted"),
    ],
)
def test_faults(changes: dict[str, object], where: tuple[str | int, ...], text: str) -> None:
    """A fault is found once, at its key: `callers` with nothing is not everybody."""
    with pytest.raises(ValidationError) as error:
        settings(entry(), entry(**changes))
    (fault,) = error.value.errors()
    assert fault["loc"] == ("grants", 1, *where)
    assert text in fault["msg"]


def test_no_grants() -> None:
    """An empty list of grants is a fault: it would be a provider for nobody."""
    with pytest.raises(ValidationError, match="nobody would get anything"):
        settings()


def test_settings_can_be_shown_and_read_again() -> None:
    """`imds-proxy config` prints a form that gives the same settings, the default of callers included."""
    first = settings(entry(), entry(callers=["10.0.0.5", "fd00::/8"]))
    assert simple.Settings.model_validate(first.model_dump(mode="json")) == first
    assert simple.Settings.model_validate(first.model_dump()) == first


@pytest.mark.parametrize("sample", samples("simple"), ids=str)
async def test_the_samples_of_the_page(sample: Sample) -> None:
    """The settings in docs/providers/simple.md are valid and give what the page says."""
    (shown,) = sample.providers()
    assert shown["type"] == "simple"
    made = simple.Provider(
        simple.Settings.model_validate({"grants": shown["grants"]}, context={"accounts": sample.accounts()})
    )
    assert sample.promises
    for address, role in sample.promises:
        try:
            given_role = await role_for(made, address)
        except Refusal:
            given_role = REFUSED
        assert given_role == role, address


async def test_tags_go_with_the_grant() -> None:
    """As they stand, in an order of their own; none without the setting."""
    made = simple.Provider(settings(entry(tags={"b": "{name}", "a": ""}, callers=["10.0.0.0/8"])))
    (grant,) = await made.grants_for(NamedCaller("10.0.0.1"))
    assert grant.tags == (("a", ""), ("b", "{name}"))
    (grant,) = await simple.Provider(settings(entry())).grants_for(NamedCaller("10.0.0.1"))
    assert grant.tags == ()


@pytest.mark.parametrize("tags", [{"a b": "x"}, {"..": "x"}, {"5=x": "y"}, {"a": "x\ny"}, {"a": "x" * 257}])
def test_tags_that_could_not_be_served(tags: dict[str, str]) -> None:
    """A fault, not a gap in the tree."""
    with pytest.raises(ValidationError, match="tag's"):
        settings(entry(tags=tags))


# --- one role session for a network ------------------------------------------------------------------


async def network_for(made: simple.Provider, address: str) -> str | None:
    (grant,) = await made.grants_for(NamedCaller(address))
    return None if grant.network is None else str(grant.network)


async def test_callers_of_a_network_share_a_session() -> None:
    """All of one /64 that match the entry; IPv4 callers and entries without the setting have their own."""
    made = simple.Provider(
        settings(
            entry("a", callers=["2001:db8::/48", "10.1.0.0/16"], session="network"),
            entry("b", callers=["2001:db8:1::/48"], session="address"),
            entry("c", callers=["2001:db8:2::/48"]),
        )
    )
    assert await network_for(made, "2001:db8::5") == "2001:db8::/64"
    assert await network_for(made, "2001:db8::ffff:0:0:1") == "2001:db8::/64"
    assert await network_for(made, "2001:db8:0:1::5") == "2001:db8:0:1::/64"
    for address in ("10.1.0.5", "2001:db8:1::5", "2001:db8:2::5"):
        assert await network_for(made, address) is None


@pytest.mark.parametrize("value", ["Network", "shared", "", None, True, 64])
def test_what_is_no_session(value: object) -> None:
    """A fault that names the key and both values."""
    with pytest.raises(ValidationError, match="'address' or 'network'") as caught:
        settings(entry(session=value))
    assert caught.value.errors()[0]["loc"] == ("grants", 0, "session")


def test_workloads_do_not_share_a_session() -> None:
    """Each has proved who it is, so their sessions stay apart."""
    with pytest.raises(ValidationError, match="can't be combined with workloads"):
        settings(entry(session="network", workloads=["build"]))
