"""Who may talk to a listener at all: by the peer's address, the Host header, and no proxies in between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Protocol

from imds_proxy.model import canonical_address, is_link_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from imds_proxy.model import IPAddress

IPNetwork = IPv4Network | IPv6Network

METADATA_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254"})
"""The addresses that clients name in Host even when the packets end elsewhere."""

CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Those that container clients name, likewise, at a listener for them."""


_MAX_HOST = 300
"""Characters of Host, blanks and port included: a name has 253 at most (RFC 1035 section 2.3.4)."""


class Connected(Protocol):
    """A connection, as far as Host is judged by it."""

    @property
    def local_host(self) -> str | None:
        """The address that was connected to."""


@dataclass(frozen=True)
class Guard:
    """The first look at a request. Everything it lets in still has to prove who it is."""

    callers: tuple[IPNetwork, ...]
    """Empty: nobody."""
    callers_except: tuple[IPNetwork, ...]
    hosts: frozenset[str]
    """Names and addresses allowed in Host, in lower case, besides the address that was connected to."""

    @cached_property
    def admits_peer(self) -> Callable[[IPAddress], bool]:
        """Tell whether a peer is in `callers` and not in `callers_except`; what was said last is kept.

        A link-local address is in none: it would make two machines on two links one caller.
        """
        # Not a method of its own: it would keep the guard of an earlier configuration alive, by a cycle.
        return lru_cache(maxsize=4096)(partial(_admits, self.callers, self.callers_except))

    def admits_host(self, values: Sequence[str], connection: Connected) -> bool:
        """Tell whether the Host header (all its values) names this service, or the address connected to.

        A page that a browser loaded from `attacker.example`, whose name then leads to our address (DNS
        rebinding), still says `attacker.example` here. The port does not matter: some clients leave it out.
        """
        if len(values) != 1 or len(values[0]) > _MAX_HOST:
            return False
        host = host_of(values[0])
        if host is None:
            return False
        return host in self.hosts or host in METADATA_HOSTS or host == connection.local_host


def _admits(callers: Iterable[IPNetwork], callers_except: Iterable[IPNetwork], address: IPAddress) -> bool:
    if is_link_local(address):
        return False
    return _lies_in(address, callers) and not _lies_in(address, callers_except)


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
