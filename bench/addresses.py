"""The networks of item `neighbour`: inside and outside the listener's `callers`, IPv4 and IPv6."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from itertools import islice

INSIDE_IPV4 = IPv4Network("127.0.0.0/9")
OUTSIDE_IPV4 = IPv4Network("127.128.0.0/9")
INSIDE_IPV6 = IPv6Network("fd77:0:0:1::/64")
OUTSIDE_IPV6 = IPv6Network("fd77:0:0:2::/64")
IPV6_SERVER = "fd77:0:0:3::1"


def addresses_of(network: IPv4Network | IPv6Network, count: int) -> list[str]:
    """Return the first `count` addresses of hosts in a network, without 127.0.0.1 and its neighbours."""
    return [str(address) for address in islice(network.hosts(), 99, 99 + count)]
