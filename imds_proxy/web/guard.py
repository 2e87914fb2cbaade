"""Who may talk to a listener at all: by the peer's address, the Host header, and no proxies in between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from multidict import istr

from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imds_proxy.model import IPAddress

IPNetwork = IPv4Network | IPv6Network

METADATA_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254"})
"""The addresses that clients name in Host even when the packets end elsewhere."""

CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Those that container clients name, likewise, at a listener for them."""

FORWARDING_HEADERS = (istr("X-Forwarded-For"), istr("Forwarded"), istr("Via"))
"""A request with one of these was passed on: its peer is a proxy and says nothing about the caller."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The first look at a request. Everything it lets in still has to prove who it is."""

    callers: tuple[IPNetwork, ...]
    """Empty: nobody."""
    callers_except: tuple[IPNetwork, ...]
    hosts: frozenset[str]
    """Names and addresses allowed in Host, in lower case, besides the address that was connected to."""

    def admits_peer(self, address: IPAddress) -> bool:
        """Tell whether the peer is in `callers` and not in `callers_except`."""
        return _lies_in(address, self.callers) and not _lies_in(address, self.callers_except)

    def admits_host(self, values: Sequence[str], local: str | None) -> bool:
        """Tell whether the Host header (all its values) names this service, or the address connected to.

        A page that a browser loaded from `attacker.example`, whose name then leads to our address (DNS
        rebinding), still says `attacker.example` here. The port does not matter: some clients leave it out.
        """
        if len(values) != 1:
            return False
        host = host_of(values[0])
        if host is None:
            return False
        return host in self.hosts or host in METADATA_HOSTS or host == local


def _lies_in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=1024)
def host_of(header: str) -> str | None:
    """Return a Host header without its port, in lower case, addresses in their short form; None: malformed.

    Takes `name`, `name:80`, `10.0.0.1:80`, `[fd00:ec2::254]`, `[fd00:ec2::254]:80`, and `fd00:ec2::254` as
    awscrt sends it (RFC 9110 section 7.2 wants the brackets).
    """
    text = header.strip().lower()
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_port(rest):
            return None
        return _short_address(inner)
    if text.count(":") > 1:
        return _short_address(text)
    host, colon, port = text.partition(":")
    if not host or (colon and not _is_port(":" + port)):
        return None
    return _short_address(host) or host


def _is_port(text: str) -> bool:
    digits = text[1:]
    return text == "" or (text[0] == ":" and digits.isascii() and (digits == "" or digits.isdigit()))


def _short_address(text: str) -> str | None:
    try:
        ip_address(text)
        return str(canonical_address(text))
    except ValueError:
        return None
