"""The callers: loopback addresses 16 apart, each with a host name that leads back and one of 500 roles."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

ROLE_COUNT = 500
DOMAIN = "valid.example"
ROLE_PREFIX = "bench-"
HOST_PATTERN = r"(?P<role>r\d{3})-\d+-\d+-\d+"
"""The whole host part of a caller's name; the group is the role's name behind the prefix."""

_FIRST = int(IPv4Address("127.0.0.17"))
_APART = 16  # look-ups are shared out per /28: every caller here has a share of its own
CALLER_COUNT = (int(IPv4Address("127.255.255.255")) - _FIRST) // _APART

_HOST = re.compile(r"r\d{3}-(\d+)-(\d+)-(\d+)", re.ASCII)


def caller_address(index: int) -> str:
    """Return the address of caller `index`, 0 <= index < CALLER_COUNT."""
    if not 0 <= index < CALLER_COUNT:
        raise ValueError(f"there are {CALLER_COUNT} callers, not {index}")
    return str(IPv4Address(_FIRST + index * _APART))


def host_part(address: IPv4Address) -> str:
    """Return the host part of the name of an address: `r042-1-2-3` for 127.1.2.3."""
    role = int(address) // _APART % ROLE_COUNT
    _, *octets = str(address).split(".")
    return f"r{role:03d}-{'-'.join(octets)}"


def address_of(host: str) -> IPv4Address | None:
    """Return the address that a host part as `host_part` makes it leads to, or None."""
    if not (found := _HOST.fullmatch(host)):
        return None
    return IPv4Address("127." + ".".join(found.groups()))
