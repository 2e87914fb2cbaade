"""imds-proxy doctor on a gateway: its addresses, rules and zones as they are, and as they should not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy import registry
from imds_proxy.rendering.nftables import render
from tests.standins.daemon import write_settings
from tests.system.lab import bind
from tests.system.lab.gateway import make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

V4, V6 = "169.254.169.254", "fd00:ec2::254"
OPEN_CALLER = "10.88.0.1"
"""An address whose reverse zone everybody may write."""


@pytest.fixture(scope="module")
def site(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway whose settings name its interface, and the rules that follow from them."""
    settings = make_settings(lab.aws, network={"interfaces": ["eth0"]})
    file: Path = write_settings(settings, tmp_path_factory.mktemp("doctor") / "a.yaml")
    configuration = registry.load(file, {}).configuration
    assert configuration is not None
    rules = "\n".join(one.text for one in render(configuration.settings))
    with lab.running_gateway(settings) as gateway:
        yield gateway, rules


def serial_of(gateway: Gateway, zone: str) -> str:
    """Return the serial number of a zone."""
    answer = gateway.namespace.run("dig", f"@{bind.SERVER}", "+short", zone, "SOA").stdout
    return answer.split()[2]


def test_a_gateway_as_it_should_be(lab: Laboratory, site: tuple[Gateway, str]) -> None:
    """No fault: the rules are loaded, the addresses there, the zones closed, the caller's role assumed."""
    gateway, rules = site
    gateway.namespace.filter(rules)
    machine = lab.make_machine(gateway, "tuvfood1.valid.example")
    status, found = gateway.examine("--caller", machine.address)
    assert [one for one in found.values() if one["level"] == "fault"] == []
    assert status == 0
    # STS without TLS, and how many files a process may open where the tests run.
    assert {title for title, one in found.items() if one["level"] == "warning"} <= {
        "configuration",
        "connections",
    }
    assert "as the settings make it" in found["firewall"]["fact"]
    assert found[f"address {V4}"]["fact"] == "is on lo"
    assert found[f"address {V6}"]["fact"] == "is on eth0"
    assert f"ip route replace {V4}/32 via {gateway.address}" in found[f"route to {V4}"]["fact"]
    assert f"ip -6 route replace {V6}/128 via {gateway.address_v6}" in found[f"route to {V6}"]["fact"]
    for address in (V4, f"[{V6}]"):
        assert found[f"port {address}:80"]["level"] == "ok"
    assert "tuvfood1.valid.example" in found[f"names of {machine.address}"]["fact"]
    assert found[f"role of {machine.address}"]["level"] == "ok"
    for zone in ("77.10.in-addr.arpa", "7.7.d.f.ip6.arpa", "valid.example"):
        assert (found[f"zone {zone}"]["level"], "REFUSED" in found[f"zone {zone}"]["fact"]) == ("ok", True)


def test_rules_that_have_changed(site: tuple[Gateway, str]) -> None:
    """A rule more, a rule less or no table at all is a fault; what the rules count is none."""
    gateway, rules = site
    gateway.namespace.filter(rules)
    assert gateway.examine()[1]["firewall"]["level"] == "ok"
    chains = gateway.namespace.run("nft", "list", "chains", "inet").stdout
    chain = next(line.split()[1] for line in chains.splitlines() if line.strip().startswith("chain "))
    gateway.namespace.run("nft", "add", "rule", "inet", "imds_proxy", chain, "accept")
    assert f"has more in chain {chain}" in gateway.examine()[1]["firewall"]["fact"]
    gateway.namespace.run("nft", "flush", "chain", "inet", "imds_proxy", chain)
    assert f"lacks something in chain {chain}" in gateway.examine()[1]["firewall"]["fact"]
    gateway.namespace.run("nft", "delete", "table", "inet", "imds_proxy")
    status, found = gateway.examine()
    assert (status, "is not loaded" in found["firewall"]["fact"]) == (1, True)


def test_addresses_that_are_gone(site: tuple[Gateway, str]) -> None:
    """The daemon still listens on an address that has gone: nothing but the address itself is a fault."""
    gateway, _ = site
    gateway.namespace.configure(f"address del {V4}/32 dev lo", f"address del {V6}/128 dev eth0")
    gateway.namespace.configure(f"address add {V6}/128 dev lo nodad")
    try:
        status, found = gateway.examine()
    finally:
        gateway.namespace.configure(
            f"address del {V6}/128 dev lo",
            f"address add {V6}/128 dev eth0 nodad",
            f"address add {V4}/32 dev lo",
        )
    assert status == 1
    assert found[f"address {V4}"]["level"] == "fault"
    assert found[f"port {V4}:80"]["level"] == "ok"
    assert (found[f"address {V6}"]["level"], "lo only" in found[f"address {V6}"]["fact"]) == ("warning", True)


def test_a_zone_that_strangers_may_write(site: tuple[Gateway, str]) -> None:
    """An open zone is a fault that names it, the question changes nothing there; a closed one stays ok."""
    gateway, _ = site
    before = serial_of(gateway, bind.OPEN_ZONE)
    status, found = gateway.examine("--caller", OPEN_CALLER)
    assert status == 1
    zone = found[f"zone {bind.OPEN_ZONE}"]
    assert (zone["level"], f"{bind.SERVER}: NOERROR" in zone["fact"]) == ("fault", True)
    assert found["zone 77.10.in-addr.arpa"]["level"] == "ok"
    assert serial_of(gateway, bind.OPEN_ZONE) == before
    # Who may write it for real shows that the serial number would have told.
    update = f"update add 1.0.{bind.OPEN_ZONE}. 60 PTR a.example."
    gateway.namespace.run("nsupdate", stdin=f"server {bind.SERVER}\n{update}\nsend\n")
    assert serial_of(gateway, bind.OPEN_ZONE) != before


def test_name_servers_that_are_silent(lab: Laboratory) -> None:
    """A silent server is a fault after its time; whatever needs no DNS is looked at nevertheless."""
    settings = make_settings(lab.aws, dns={"nameservers": [bind.SILENT_SERVER]})
    with lab.running_gateway(settings) as gateway:
        status, found = gateway.examine()
    assert status == 1
    assert found[f"name server {bind.SILENT_SERVER}"]["level"] == "fault"
    assert found["domain valid.example"]["level"] == "fault"
    assert found["zone updates"]["level"] == "skipped"
    assert found["own key"]["level"] == "ok"
