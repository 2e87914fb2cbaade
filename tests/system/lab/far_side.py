"""A machine two hops away, and the router between: it counts answers on their way, and loses some."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.lab.machine import Machine

if TYPE_CHECKING:
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.namespaces import Namespace, Switch

NETWORK = "10.77.128.0/24"
NETWORK_V6 = "fd77:0:0:1::/64"
ROUTER = "10.77.0.2"
ROUTER_V6 = "fd77::2"
_FAR = "10.77.128.2"
_FAR_V6 = "fd77:0:0:1::2"
_PATIENCE = 10.0

# Longer than any SYN-ACK, ACK or FIN, shorter than any answer with a header: packets that carry data.
_DATA = "tcp sport {80, 8002} meta length > 120"
_COUNT_ARRIVALS = f"""
table inet watch
delete table inet watch
table inet watch {{
    counter arrived {{}}
    chain incoming {{ type filter hook prerouting priority -300; {_DATA} counter name arrived; }}
}}
"""


class FarSide:
    """The router and the machine behind it."""

    def __init__(self, lan: Switch, router: Namespace, far: Namespace) -> None:
        self._router = router
        self.machine = Machine(far, _FAR, _FAR_V6)
        lan.plug(router, f"{ROUTER}/17", f"{ROUTER_V6}/64")
        router.configure(
            f"link add eth1 type veth peer name eth0 netns {far.name}",
            "address add 10.77.128.1/24 dev eth1",
            "address add fd77:0:0:1::1/64 dev eth1 nodad",
            "link set eth1 up",
        )
        with router.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        far.configure(
            f"address add {_FAR}/24 dev eth0",
            f"address add {_FAR_V6}/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.77.128.1",
            "route add default via fd77:0:0:1::1",
        )

    def watch(self, gateway: Gateway, *, lose_first: bool) -> None:
        """Route to the gateway; count, from zero on, its answers' data packets here and at the far machine.

        With `lose_first` the router drops the first of them when it has been counted.
        """
        self._router.configure(
            f"route replace 169.254.169.254/32 via {gateway.address}",
            f"route replace fd00:ec2::254/128 via {gateway.address_v6}",
        )
        loss = f"{_DATA} numgen inc mod 1000000 0 drop;" if lose_first else ""
        self._router.filter(
            f"""
            table inet watch
            delete table inet watch
            table inet watch {{
                counter sent {{}}
                counter loose {{}}
                chain incoming {{
                    type filter hook prerouting priority -300;
                    {_DATA} counter name sent;
                    {_DATA} ip ttl > 1 counter name loose;
                    {_DATA} ip6 hoplimit > 1 counter name loose;
                    {loss}
                }}
            }}
            """
        )
        self.machine.namespace.filter(_COUNT_ARRIVALS)

    @property
    def sent(self) -> int:
        """How many data packets of answers reached the router."""
        return self._router.read_counter("watch", "sent")

    @property
    def loose(self) -> int:
        """How many of them the router could have passed on: their time to live was above 1."""
        return self._router.read_counter("watch", "loose")

    @property
    def arrived(self) -> int:
        """How many data packets of answers reached the far machine."""
        return self.machine.namespace.read_counter("watch", "arrived")

    def send_in_vain(self, host: str, requests: bytes, *, packets: int) -> bytes:
        """Send requests over one connection until the router has seen answers in that many packets.

        Returns what has arrived, at once if anything does. Raises AssertionError when no packets come.
        """
        with self.machine.namespace.entered(), socket.create_connection((host, 80), timeout=5) as connection:
            connection.sendall(requests)
            connection.setblocking(False)
            deadline = time.monotonic() + _PATIENCE
            while not (arrived := _read_now(connection)) and self.sent < packets:
                assert time.monotonic() < deadline, f"{self.sent} of {packets} packets at the router"
                time.sleep(0.05)
            return arrived


def _read_now(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except BlockingIOError:
        return b""
