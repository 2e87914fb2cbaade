"""Containers on one network, each with the role of its name: the daemon of examples/compose.

There is no Docker engine here. Its networks are made as it makes them: a bridge on the host, a network
namespace for each container, the daemon on that network at 169.254.169.254 and with another interface for
its way to STS. Its DNS is stood in for by tests/standins/container_dns.py, at 127.0.0.11 as in a container.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.standins.container_dns import write_networks
from tests.standins.manual import ROOT
from tests.standins.processes import Child
from tests.system.lab.gateway import Gateway, make_settings
from tests.system.lab.machine import Machine
from tests.system.lab.namespaces import ENVIRONMENT, Namespace
from tests.system.verdicts import assert_refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

NETWORK = "valid.example"
COMPOSE_NETWORK = "proj_default"
SAMPLE = ROOT / "examples" / "compose" / "imds-proxy.yaml"


class Host:
    """A host with a container network `valid.example`, and the daemon on it."""

    def __init__(self, namespace: Namespace, daemon: Gateway, containers: Path) -> None:
        self.namespace = namespace
        self.daemon = daemon
        self._file = containers
        self._numbers = count(1)
        self._running: dict[str, tuple[Namespace, str]] = {}
        self.network = NETWORK
        namespace.configure(
            "link add valid type bridge",
            "address add 169.254.169.1/24 dev valid",
            "link set valid up",
            f"link add daemon type veth peer name eth1 netns {daemon.namespace.name}",
            "link set daemon master valid up",
        )
        daemon.namespace.configure("address add 169.254.169.254/24 dev eth1", "link set eth1 up")

    def start(self, name: str, address: str) -> Machine:
        """Start a container with that name and address."""
        number = next(self._numbers)
        namespace = Namespace.make(f"c{number}")
        self._running[name] = namespace, address
        # As Docker does it, the hardware address follows from the address: no neighbour cache is stale.
        hardware_address = "02:42:" + bytes(map(int, address.split("."))).hex(":")
        self.namespace.configure(
            f"link add port{number} type veth peer name eth0 address {hardware_address} "
            f"netns {namespace.name}",
            f"link set port{number} master valid up",
        )
        namespace.configure(f"address add {address}/24 dev eth0", "link set eth0 up")
        self._tell_dns()
        return Machine(namespace, address, "::")

    def stop(self, *names: str) -> None:
        """Stop containers."""
        for name in names:
            self._running.pop(name)[0].remove()
        self._tell_dns()

    def stop_all(self) -> None:
        """Stop the containers that run."""
        self.stop(*list(self._running))

    def _tell_dns(self) -> None:
        addresses = {name: address for name, (_, address) in self._running.items()}
        write_networks(self._file, {"other": {}, self.network: addresses})


@pytest.fixture(scope="module")
def whole_host(lab: Laboratory) -> Iterator[Host]:
    """The host of the Compose sample, whose AWS is the laboratory's."""
    with lab.in_aws():
        lab.aws.add_roles("app-tuvfoo", "app-web", "app-db")
    sample = yaml.safe_load(SAMPLE.read_text("utf-8"))
    # Compose's own network is tried as well.
    sample["providers"]["containers"]["allowed_domains"].append(COMPOSE_NETWORK)
    settings = make_settings(lab.aws, **{key: sample[key] for key in ("listen", "providers", "dns")})
    with lab.gateway_namespace() as (namespace, addresses, folder):
        containers = folder / "containers.json"
        write_networks(containers, {})
        program = [sys.executable, "-m", "tests.standins.container_dns", str(containers)]
        names = Child("dns", namespace.command(*program), folder=folder, environment=ENVIRONMENT)
        # The daemon's address comes with the network: it must be there before the daemon binds it.
        namespace.configure("address add 169.254.169.254/32 dev lo")
        host_namespace = Namespace.make("docker")
        try:
            names.await_lines("(answering)", on="stdout", timeout=30)
            daemon = Gateway(namespace, addresses, folder, settings)
            host = Host(host_namespace, daemon, containers)
            try:
                daemon.wait_until_ready()
                yield host
                assert daemon.stop() == 0, daemon.log
                assert "Traceback" not in daemon.log, daemon.log
            finally:
                daemon.kill()
                host.stop_all()
        finally:
            names.kill()
            host_namespace.remove()


@pytest.fixture
def host(whole_host: Host) -> Iterator[Host]:
    """The host, whose containers end with the test."""
    yield whole_host
    whole_host.stop_all()
    whole_host.network = NETWORK


def assert_role(lab: Laboratory, container: Machine, role: str) -> None:
    """The container is told this role, and its key is one that STS gave for it."""
    key = container.fetch_credentials(role)["AccessKeyId"]
    (call,) = [call for call in lab.calls() if call.access_key_id == key]
    assert call.role_arn == f"arn:aws:iam::000123456789:role/{role}"


@pytest.mark.parametrize(
    ("name", "role"), [("tuvfoo42", "app-tuvfoo"), ("proj-web-1", "app-web"), ("proj-web-27", "app-web")]
)
def test_a_container_gets_the_role_of_its_name(lab: Laboratory, host: Host, name: str, role: str) -> None:
    """Both kinds of names that the sample's rule knows lead to their role."""
    container = host.start(name, "169.254.169.2")
    assert_role(lab, container, role)


def test_a_network_with_an_underscore(lab: Laboratory, host: Host) -> None:
    """Compose calls its network `proj_default`: no host name on the Internet, but one here."""
    host.network = COMPOSE_NETWORK
    container = host.start("proj-web-1", "169.254.169.3")
    assert_role(lab, container, "app-web")
    assert host.daemon.explain("169.254.169.3").names == [
        {"name": "proj-web-1.proj_default", "confirmed": True, "allowed": True}
    ]


def test_containers_that_swap_addresses_swap_roles(lab: Laboratory, host: Host) -> None:
    """Between two TOKENs two containers exchange their addresses; each has its own role before and after."""
    tuvfoo = host.start("tuvfoo42", "169.254.169.4")
    web = host.start("proj-web-1", "169.254.169.5")
    assert_role(lab, tuvfoo, "app-tuvfoo")
    assert_role(lab, web, "app-web")
    host.stop("tuvfoo42", "proj-web-1")
    tuvfoo = host.start("tuvfoo42", "169.254.169.5")
    web = host.start("proj-web-1", "169.254.169.4")
    assert_role(lab, tuvfoo, "app-tuvfoo")
    assert_role(lab, web, "app-web")


def test_the_next_container_at_an_address(lab: Laboratory, host: Host) -> None:
    """An address goes to the next container at once: who follows gets its own role, or none."""
    assert_role(lab, host.start("tuvfoo42", "169.254.169.6"), "app-tuvfoo")
    host.stop("tuvfoo42")
    assert_role(lab, host.start("proj-db-1", "169.254.169.6"), "app-db")
    host.stop("proj-db-1")
    assert_refused(lab, host.start("cache", "169.254.169.6"))


@pytest.mark.parametrize("name", ["imds-proxy", "stray", "my_db-1"])
def test_a_name_that_the_rule_does_not_know(lab: Laboratory, host: Host, name: str) -> None:
    """Other names give nothing, and nobody asks STS."""
    container = host.start(name, "169.254.169.7")
    assert_refused(lab, container)
    assert host.daemon.explain("169.254.169.7").outcome == "refused"


def test_a_network_of_another_name(lab: Laboratory, host: Host) -> None:
    """The same container name on a network that is not allowed gives nothing."""
    host.network = "valid.example.evil"
    assert_refused(lab, host.start("tuvfoo42", "169.254.169.8"))


def test_a_container_on_the_host_s_network(lab: Laboratory, host: Host) -> None:
    """It asks as the host does, from the network's own gateway address: turned away, with the reason."""
    before = lab.calls()
    on_the_host = Machine(host.namespace, "169.254.169.1", "::")
    assert on_the_host.ask_token().status == 403
    explained = host.daemon.explain("169.254.169.1")
    assert explained.outcome == "refused"
    assert "169.254.169.1 is not in its callers, or in callers_except" in explained.steps[0]
    assert lab.calls() == before


def test_a_container_on_the_default_bridge(lab: Laboratory, host: Host) -> None:
    """Docker keeps its bridges apart. Where nothing did, the other network's address would be no caller's."""
    before = lab.calls()
    container = Namespace.make("bridged")
    try:
        host.namespace.configure(
            "link add docker0 type bridge",
            "address add 172.17.0.1/16 dev docker0",
            "link set docker0 up",
            f"link add bridged type veth peer name eth0 netns {container.name}",
            "link set bridged master docker0 up",
        )
        container.configure(
            "address add 172.17.0.2/16 dev eth0", "link set eth0 up", "route add default via 172.17.0.1"
        )
        host.namespace.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        host.daemon.namespace.configure("route add 172.17.0.0/16 via 169.254.169.1")
        assert Machine(container, "172.17.0.2", "::").ask_token().status == 403
    finally:
        container.remove()
        host.namespace.configure("link delete docker0")
    assert host.daemon.explain("172.17.0.2").outcome == "refused"
    assert lab.calls() == before
