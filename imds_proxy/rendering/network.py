"""How this host comes by the metadata addresses: a unit that adds them, or files for systemd-networkd."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from imds_proxy.rendering.addresses import carried_addresses
from imds_proxy.rendering.files import RenderedFile, RenderingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imds_proxy.config import Settings
    from imds_proxy.model import IPAddress

Style = Literal["oneshot", "networkd"]

DUMMY = "imds0"

_HEAD = (
    "# Made from imds-proxy's configuration by `imds-proxy render network`: change that, and render again.\n"
)

_UNIT = """\
[Unit]
Description=The addresses where machines look for instance metadata
Documentation=https://github.com/imds-proxy/imds-proxy
Wants=network-online.target
After=network-online.target
Before=imds-proxy.service

[Service]
Type=oneshot
RemainAfterExit=yes
{start}
{stop}

[Install]
WantedBy=multi-user.target
"""

_NETDEV = f"""\
[NetDev]
Name={DUMMY}
Kind=dummy
"""

_NETWORK = """\
[Match]
Name={device}

[Network]
{addresses}
"""


_DROP_IN_ADDRESS = """\
[Address]
Address={address}/128
DuplicateAddressDetection=none
"""

_NETWORK_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*\.network", re.ASCII)


def render(
    settings: Settings, style: Style = "oneshot", network_file: str | None = None
) -> tuple[RenderedFile, ...]:
    """Return what gives this host the metadata addresses that are listened on; nothing if there are none.

    `oneshot`: a unit, whoever manages the interfaces, for /etc/systemd/system. `networkd`: files whose names
    are below /etc/systemd/network. The interface of the callers has a file of its own there, which one more
    that matches it would push aside: for IPv6 addresses there is a drop-in of that `network_file` (a name
    such as `10-lan0.network`).
    Raises RenderingError without an interface for an IPv6 address, without the name of that interface's file
    where networkd is to have it, and for a name that is not such a file's.
    """
    if network_file is not None and not _NETWORK_FILE.fullmatch(network_file):
        raise RenderingError(
            f"{network_file!r} is not the name of a file of systemd-networkd such as 10-lan0.network"
        )
    carried = carried_addresses(settings)
    on_device = [address for address in carried if address.version == 4]
    # On `lo`, the kernel answers nobody's neighbour discovery for it (RFC 4861 section 7.2.3).
    on_interface = [address for address in carried if address.version == 6]
    if on_interface and not settings.network.interfaces:
        raise RenderingError(
            f"network.interfaces: is required: callers find {on_interface[0]} only on an interface of theirs"
        )
    device = DUMMY if settings.network.device == "dummy" else "lo"
    if style == "oneshot":
        if not carried:
            return ()
        unit = _unit(device, on_device, settings.network.interfaces, on_interface)
        return (RenderedFile("imds-proxy-address.service", _HEAD + unit),)
    files = _files_of_device(device, on_device) if on_device else []
    if on_interface:
        if network_file is None:
            raise RenderingError(
                f"--network-file is required: networkd has to have {on_interface[0]} on "
                f"{settings.network.interfaces[0]}, in a drop-in of that interface's own file "
                f"(networkctl status {settings.network.interfaces[0]} names it, such as 10-lan0.network)"
            )
        files.append(_drop_in(network_file, on_interface))
    return tuple(files)


def _drop_in(network_file: str, addresses: Sequence[IPAddress]) -> RenderedFile:
    # Two gateways may have it at the same time: duplicate detection would keep it from the second.
    sections = "\n".join(_DROP_IN_ADDRESS.format(address=address) for address in addresses)
    return RenderedFile(f"{network_file}.d/imds-proxy.conf", _HEAD + sections)


def _files_of_device(device: str, addresses: Sequence[IPAddress]) -> list[RenderedFile]:
    lines = "\n".join(f"Address={address}/32" for address in addresses)
    files = [RenderedFile("50-imds-proxy.netdev", _HEAD + _NETDEV)] if device == DUMMY else []
    network = _NETWORK.format(device=device, addresses=lines)
    return [*files, RenderedFile("50-imds-proxy.network", _HEAD + network)]


def _unit(
    device: str, on_device: Sequence[IPAddress], interfaces: Sequence[str], on_interface: Sequence[IPAddress]
) -> str:
    start, stop = [], []
    if device == DUMMY and on_device:
        start += [
            f"ExecStart=-/sbin/ip link add {DUMMY} type dummy",
            f"ExecStart=/sbin/ip link set {DUMMY} up",
        ]
        stop.append(f"ExecStop=-/sbin/ip link delete {DUMMY}")
    places = [(f"{address}/32", device, "") for address in on_device]
    # Two gateways may have it at the same time: duplicate detection would keep it from the second.
    places += [(f"{address}/128", interfaces[0], " nodad") for address in on_interface]
    start += [
        f"ExecStart=/sbin/ip address replace {address} dev {name}{more}" for address, name, more in places
    ]
    stop += [f"ExecStop=-/sbin/ip address delete {address} dev {name}" for address, name, _ in places]
    return _UNIT.format(start="\n".join(start), stop="\n".join(stop))
