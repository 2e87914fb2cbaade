"""What no single setting of the host's network shows: packets can be led to a listener of ours only.

As in `checks`, all work on the tree as it was written. Each fault sits at the key that is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.config import values
from imds_proxy.config.written import parse_at
from imds_proxy.errors import Fault
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network, IPv6Network

    from imds_proxy.model import IPAddress
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

TAKE_OVER = ("network", "take_over")
NAMESERVERS = ("dns", "nameservers")
SYSTEM_NAMESERVERS = Path("/etc/resolv.conf")


def check(source: Source) -> Iterator[Fault]:
    """Return the faults of the `network` section as its settings stand to each other and to `listen`."""
    listeners = _listeners(source)
    seen: dict[values.SocketAddress, KeyPath] = {}
    take_over = source.value(TAKE_OVER)
    for key in take_over if isinstance(take_over, dict) else ():
        path = (*TAKE_OVER, key)
        address = _parse_key(key)
        target = parse_at(source, path, values.parse_listen_address)
        if address is None:
            continue
        if address in seen:
            yield source.fault(path, f"{address} is at {source.where(seen[address])} too")
        seen.setdefault(address, path)
        if address in listeners:
            text = f"{address} is listened on ({source.where(listeners[address])}): nothing to take over"
            yield source.fault(path, text)
        elif target is not None and (problem := _find_problem(address, target, listeners)):
            yield source.fault(path, problem)
    yield from _warn_of_nameservers(source)


def warn_of_system_nameservers(source: Source, file: Path = SYSTEM_NAMESERVERS) -> Iterator[Fault]:
    """Return a warning for each of the system's name servers that is among callers, where those are asked."""
    if source.value(NAMESERVERS) is not None:
        return
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, words in enumerate((line.split() for line in lines), 1):
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            problem = _find_callers(source, canonical_address(words[1]))
        except ValueError:
            continue
        if problem is not None:
            text = f"not set, so {words[1]} is asked; it {problem}"
            yield Fault(f"{file}:{number}", ".".join(NAMESERVERS), text, is_warning=True)


def _warn_of_nameservers(source: Source) -> Iterator[Fault]:
    servers = source.value(NAMESERVERS)
    for index in range(len(servers) if isinstance(servers, list) else 0):
        path = (*NAMESERVERS, index)
        server = parse_at(source, path, values.parse_nameserver)
        problem = None if server is None else _find_callers(source, server.ip)
        if problem is not None:
            yield source.fault(path, problem, is_warning=True)


def _find_callers(source: Source, server: IPAddress) -> str | None:
    """Return what is wrong with a name server that is among a listener's callers.

    A caller could send DNS answers in its name, and the firewall can't tell them from its own: both come by
    the same interface. To loopback nobody sends from another host.
    """
    listen = source.value(("listen",))
    for index in range(0 if server.is_loopback or not isinstance(listen, list) else len(listen)):
        path = ("listen", index)
        if _is_in(server, source, (*path, "callers")) and not _is_in(
            server, source, (*path, "callers_except")
        ):
            callers = f"listen[{index}].callers"
            return f"is in {callers}: any of those could forge its answers; ask one on another network"
    return None


def _is_in(address: IPAddress, source: Source, path: KeyPath) -> bool:
    written = source.value(path)
    count = len(written) if isinstance(written, list) else 0
    networks: list[IPv4Network | IPv6Network | None] = [
        parse_at(source, (*path, index), values.parse_network) for index in range(count)
    ]
    return any(network is not None and address in network for network in networks)


def _listeners(source: Source) -> dict[values.SocketAddress, KeyPath]:
    listen = source.value(("listen",))
    found: dict[values.SocketAddress, KeyPath] = {}
    for index in range(len(listen) if isinstance(listen, list) else 0):
        path = ("listen", index, "address")
        address = parse_at(source, path, values.parse_listen_address)
        if address is not None:
            found.setdefault(address, path)
    return found


def _parse_key(key: str) -> values.SocketAddress | None:
    try:
        return values.parse_listen_address(key)
    except ValueError:
        return None


def _find_problem(
    address: values.SocketAddress,
    target: values.SocketAddress,
    listeners: dict[values.SocketAddress, KeyPath],
) -> str | None:
    if 0 in (address.port, target.port):
        return "port 0 stands for any port: packets can be led only to one that is known"
    if address.ip.is_unspecified:
        return f"{address.ip} is no address that packets are sent to"
    if target not in listeners:
        return f"{target} is no listener's address under listen"
    if address.ip.version != target.ip.version:
        return f"{address} and {target} are of different families: packets can't be led from one to the other"
    if target.ip.is_loopback or target.ip.is_unspecified:
        return f"the kernel leads no packet of another host to {target}: listen on an address of an interface"
    return None
