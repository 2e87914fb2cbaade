"""This host's addresses: those that are listened on, and the route that clients need to get there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from imds_proxy.doctor.carriers import ADDRESS_UNIT, RENDER
from imds_proxy.doctor.findings import Finding, fault, ok, skipped, warning
from imds_proxy.doctor.programs import UnavailableError, read_output

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from imds_proxy.model import IPAddress

_METADATA_NETWORKS = (IPv4Network("169.254.0.0/16"), IPv6Network("fd00:ec2::/32"))
_RENDER = f"{RENDER} && systemctl enable {ADDRESS_UNIT} && systemctl restart {ADDRESS_UNIT}"
_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of this host and the interface that has it."""

    interface: str
    address: IPAddress
    is_usable: bool = True
    """False while, and for ever when, duplicate address detection keeps the kernel from using it."""

    @property
    def is_for_neighbours(self) -> bool:
        """Whether machines on the same network can reach it, so that it can be a gateway's."""
        return not (self.address.is_loopback or self.address.is_link_local or is_metadata(self.address))


def is_metadata(address: IPAddress) -> bool:
    """Tell whether it is an address that clients need a route for: the LAN's own don't."""
    return any(address in network for network in _METADATA_NETWORKS if network.version == address.version)


async def read_addresses() -> tuple[HostAddress, ...]:
    """Return the addresses of this host. Raises UnavailableError."""
    return parse_addresses(await read_output("ip", "-j", "address"))


def parse_addresses(text: str) -> tuple[HostAddress, ...]:
    """Return the addresses in what `ip -j address` prints. Raises UnavailableError."""
    try:
        return tuple(
            HostAddress(
                link["ifname"],
                ip_address(info["local"]),
                is_usable=not (info.get("tentative") or info.get("dadfailed")),
            )
            for link in json.loads(text)
            for info in link.get("addr_info", ())
            if "local" in info
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableError("ip prints addresses in a way that can't be read") from error


def judge_address(
    address: IPAddress, present: Sequence[HostAddress], *, is_taken_over: bool = False
) -> Finding:
    """Return whether an address that is listened on is this host's, and can be reached there.

    With `is_taken_over` the firewall takes its packets over on their way, and it is to be nobody's here.
    """
    title = f"address {address}"
    holders = [one for one in present if one.address == address]
    if is_taken_over:
        if holders:
            text = f"is on {holders[0].interface}, and network.take_over takes packets over that pass through"
            return warning(title, text, f"ip address del {address} dev {holders[0].interface}")
        return ok(title, "is nobody's here: packets to it are taken over")
    if address.is_unspecified or address.is_loopback:
        return ok(title, "is every host's")
    if not holders:
        text = "is not on this host; systemd listens on it all the same (FreeBind), and nobody gets there"
        length = 32 if address.version == 4 else 128
        return fault(
            title, text, f"{_RENDER}; or until the next boot: ip address add {address}/{length} dev IFACE"
        )
    if not any(one.is_usable for one in holders):
        text = f"is on {holders[0].interface} and not in use: duplicate address detection waits, or failed"
        return fault(
            title,
            text,
            "nodad, as imds-proxy render network has it; for networkd: DuplicateAddressDetection=none",
        )
    places = ", ".join(one.interface for one in holders)
    if address.version == 6 and all(one.interface == _LOOPBACK for one in holders):
        text = "is on lo only, which answers no neighbour discovery: clients need a route via a gateway"
        return warning(title, text, "set network.interfaces, then " + _RENDER)
    return ok(title, f"is on {places}")


def lan_address(
    version: int,
    present: Iterable[HostAddress],
    interfaces: Collection[str],
    networks: Collection[IPv4Network | IPv6Network],
) -> HostAddress | None:
    """Return the address by which clients reach this host: in their network, and on an interface they use."""
    usable = [
        one for one in present if one.is_usable and one.is_for_neighbours and one.address.version == version
    ]
    named = [one for one in usable if one.interface in interfaces]
    for candidates in (named, usable):
        for one in candidates:
            if any(one.address in network for network in networks if network.version == version):
                return one
    return named[0] if named else None


def judge_route(address: IPAddress, lan: HostAddress | None) -> Finding:
    """Return what clients have to type to reach a metadata address."""
    title = f"route to {address}"
    command, length = ("ip route", 32) if address.version == 4 else ("ip -6 route", 128)
    line = f"{command} replace {address}/{length} via"
    if lan is None:
        text = "none of this host's addresses is in listen.callers: clients may have no way here"
        return warning(
            title, text, f"on each client, with this host's address there: {line} GATEWAY_LAN_ADDRESS"
        )
    return ok(title, f"clients need: {line} {lan.address}")


def own_addresses(present: Iterable[HostAddress]) -> frozenset[IPv4Address | IPv6Address]:
    """Return the addresses of this host."""
    return frozenset(one.address for one in present)


def unreadable(error: UnavailableError) -> Finding:
    """Return that nothing of all this could be looked at."""
    return skipped("addresses", str(error))
