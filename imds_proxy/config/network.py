"""The settings of the host's own network: where callers come in, who has the metadata addresses.

The daemon itself needs none of it but the addresses that packets were sent to, for their `Host`; `render` and
`doctor` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from imds_proxy.config import fields
from imds_proxy.config.section import Section
from imds_proxy.config.values import SocketAddress


class NetworkSettings(Section):
    """What units, firewall rules and addresses are made for."""

    interfaces: tuple[fields.InterfaceName, ...] = Field(
        default=(), description="The interfaces by which callers come in; IPv6 addresses go on the first."
    )
    device: Literal["lo", "dummy"] = Field(
        default="lo", description="What carries IPv4 metadata addresses: lo, or a dummy interface imds0."
    )
    take_over: Mapping[fields.ListenAddress, fields.ListenAddress] = Field(
        default={},
        description="Metadata address -> the listener that gets its packets, where this host only routes.",
    )

    syn_rate: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="New connections per second of one source address; the firewall drops those beyond.",
    )

    def taken_over_by(self, listener: SocketAddress) -> tuple[SocketAddress, ...]:
        """Return the addresses whose packets end at `listener`."""
        return tuple(address for address, target in self.take_over.items() if target == listener)
