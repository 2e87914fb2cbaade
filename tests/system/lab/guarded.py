"""A gateway with a firewall, between the callers' LAN and another network; machines all around it.

far --- router --- LAN (eth0 of the gateway) --- gateway --- eth1 --- elsewhere
                    |- near, excepted, stranger
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy import registry
from imds_proxy.rendering import nftables
from tests.standins.daemon import write_settings
from tests.system.lab.machine import Machine
from tests.system.lab.namespaces import ENVIRONMENT, Namespace, Switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GATEWAY, GATEWAY_V6 = "10.77.0.1", "fd77::1"
METADATA_ADDRESS, METADATA_ADDRESS_V6 = "169.254.169.254", "fd00:ec2::254"
CALLERS = ["10.77.0.0/16", "10.88.0.0/24", METADATA_ADDRESS, "fd77::/32", "fd88::/64", METADATA_ADDRESS_V6]
"""The other network too: what keeps it out is its interface."""
EXCEPTED = ["10.77.70.1", "fd77::70:1"]
PATIENCE = 10.0

_STRANGER, _STRANGER_V6 = "10.99.0.1", "fd99::1"
_WITNESS = """
table inet witness
delete table inet witness
table inet witness {
    counter reached {}
    chain incoming {
        type filter hook input priority 100;
        iif != lo tcp dport { 80, 8002, 8080 } counter name reached
    }
}
"""


@dataclass(frozen=True, slots=True)
class World:
    """The gateway and everybody around it. The firewall is loaded by `guard`."""

    gateway: Namespace
    near: Machine
    """A caller on the LAN."""
    excepted: Machine
    stranger: Machine
    """On the LAN, with an address outside `callers`."""
    router: Namespace
    far: Machine
    """A caller by its address, behind the router."""
    elsewhere: Machine
    """On the other network; one of `callers`."""

    def guard(self, rules: str) -> None:
        """Load the firewall's rules, and from now on count what gets past them."""
        self.gateway.filter(_WITNESS)
        self.gateway.filter(rules)

    def count(self, name: str) -> int:
        """Return how many packets one of the firewall's own counters has seen since `guard`."""
        return self.gateway.read_counter("imds_proxy", name)

    @property
    def reached(self) -> int:
        """How many packets from other hosts have got to where a listener could see them, since `guard`."""
        return self.gateway.read_counter("witness", "reached")

    def carry(self, *, carries: bool) -> None:
        """Let the gateway have the metadata addresses, or not."""
        verb = "replace" if carries else "delete"
        self.gateway.configure(
            f"address {verb} {METADATA_ADDRESS}/32 dev lo",
            f"address {verb} {METADATA_ADDRESS_V6}/128 dev eth0" + (" nodad" if carries else ""),
        )


@contextmanager
def guarded_world() -> Iterator[World]:
    """Make the networks; they end with the block. The gateway carries the metadata addresses."""
    with ExitStack() as stack:

        def make(label: str) -> Namespace:
            namespace = Namespace.make(f"fw-{label}")
            stack.callback(namespace.remove)
            return namespace

        gateway, router, far, elsewhere = (make(label) for label in ("gw", "router", "far", "else"))
        lan = Switch(make("lan"))
        lan.plug(gateway, f"{GATEWAY}/17", f"{GATEWAY_V6}/64", f"{METADATA_ADDRESS_V6}/128")
        near, excepted, stranger = (
            _plug(lan, make(label), address, address_v6)
            for label, address, address_v6 in (
                ("near", "10.77.1.1", "fd77::1:1"),
                ("excepted", *EXCEPTED),
                ("stranger", _STRANGER, _STRANGER_V6),
            )
        )
        lan.plug(router, "10.77.0.2/17", "fd77::2/64")
        _join(
            router,
            "eth1",
            far,
            ("10.77.128.1/24", "10.77.128.2/24"),
            ("fd77:0:0:1::1/64", "fd77:0:0:1::2/64"),
        )
        _join(gateway, "eth1", elsewhere, ("10.88.0.1/24", "10.88.0.2/24"), ("fd88::1/64", "fd88::2/64"))
        for namespace in (router, gateway):
            _forward(namespace)
        router.configure(
            f"route add {METADATA_ADDRESS}/32 via {GATEWAY}",
            f"route add {METADATA_ADDRESS_V6}/128 via {GATEWAY_V6}",
            f"route add 10.88.0.0/24 via {GATEWAY}",
            f"route add fd88::/64 via {GATEWAY_V6}",
        )
        gateway.configure(
            f"address add {METADATA_ADDRESS}/32 dev lo",
            "route add 10.77.128.0/24 via 10.77.0.2",
            "route add fd77:0:0:1::/64 via fd77::2",
            f"route add {_STRANGER} dev eth0",
            f"route add {_STRANGER_V6}/128 dev eth0",
            "route add default via 10.88.0.2",
            "route add default via fd88::2",
        )
        far.configure("route add default via 10.77.128.1", "route add default via fd77:0:0:1::1")
        elsewhere.configure("route add default via 10.88.0.1", "route add default via fd88::1")
        yield World(
            gateway=gateway,
            near=near,
            excepted=excepted,
            stranger=stranger,
            router=router,
            far=Machine(far, "10.77.128.2", "fd77:0:0:1::2"),
            elsewhere=Machine(elsewhere, "10.88.0.2", "fd88::2"),
        )


def make_rules(settings: Mapping[str, object], folder: Path) -> str:
    """Return what `imds-proxy render nftables` makes of settings."""
    loaded = registry.load(write_settings(settings, folder / "rules.yaml"), ENVIRONMENT)
    assert loaded.configuration is not None, loaded.faults
    (file,) = nftables.render(loaded.configuration.settings)
    return file.text


@contextmanager
def knocking(
    machine: Machine, host: str, port: int, *, hops: int | None = None, source: str | None = None
) -> Iterator[socket.socket]:
    """Begin a TCP connection from a machine and wait for nothing.

    `hops` is its packets' time to live, `source` one of the machine's addresses.
    """
    family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    with machine.namespace.entered():
        sock = socket.socket(family, socket.SOCK_STREAM)
    with sock:
        if hops is not None and family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        elif hops is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        if source is not None:
            sock.bind((source, 0))
        sock.setblocking(False)
        assert sock.connect_ex((host, port)) == errno.EINPROGRESS
        yield sock


def is_connected(sock: socket.socket) -> bool:
    """Tell whether the other side of a connection that was begun has answered."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def await_count(world: World, counter: str, count: int = 1) -> None:
    """Return once a counter of the firewall is at `count`. Raises AssertionError with all of them."""
    deadline = time.monotonic() + PATIENCE
    while world.count(counter) < count:
        if time.monotonic() > deadline:
            listed = world.gateway.run("nft", "list", "counters", "table", "inet", "imds_proxy").stdout
            raise AssertionError(f"{counter} is below {count}\n{listed}")
        time.sleep(0.02)


def _plug(lan: Switch, namespace: Namespace, address: str, address_v6: str) -> Machine:
    lan.plug(namespace, f"{address}/17", f"{address_v6}/64")
    namespace.configure(
        # For the stranger's addresses, which are outside the LAN's networks.
        f"route replace {GATEWAY}/32 dev eth0",
        f"route replace {GATEWAY_V6}/128 dev eth0",
        f"route add default via {GATEWAY}",
        f"route add default via {GATEWAY_V6}",
    )
    return Machine(namespace, address, address_v6)


def _join(
    one: Namespace,
    interface: str,
    other: Namespace,
    addresses: tuple[str, str],
    addresses_v6: tuple[str, str],
) -> None:
    one.configure(
        f"link add {interface} type veth peer name eth0 netns {other.name}",
        f"address add {addresses[0]} dev {interface}",
        f"address add {addresses_v6[0]} dev {interface} nodad",
        f"link set {interface} up",
    )
    other.configure(
        f"address add {addresses[1]} dev eth0",
        f"address add {addresses_v6[1]} dev eth0 nodad",
        "link set eth0 up",
    )


def _forward(namespace: Namespace) -> None:
    with namespace.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
