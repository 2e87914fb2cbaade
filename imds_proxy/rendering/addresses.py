"""Which addresses of the settings are metadata addresses: no machine's own, carried for the daemon's sake."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.config import Settings
    from imds_proxy.model import IPAddress

METADATA_NETWORKS = (IPv4Network("169.254.0.0/16"), IPv6Network("fd00:ec2::/32"))
"""Where SDKs look for metadata and container credentials: 169.254.169.254, 169.254.170.2, fd00:ec2::254."""


def carried_addresses(settings: Settings) -> tuple[IPAddress, ...]:
    """Return the metadata addresses that are listened on, in order: this host has to have them."""
    addresses = (listen.address.ip for listen in settings.listen)
    return tuple(dict.fromkeys(address for address in addresses if is_metadata_address(address)))


def is_metadata_address(address: IPAddress) -> bool:
    """Tell whether an address is one that SDKs have built in."""
    return any(address.version == network.version and address in network for network in METADATA_NETWORKS)
