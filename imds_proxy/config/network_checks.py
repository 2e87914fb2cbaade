"""What no single setting of the host's network shows: packets can be led to a listener of ours only.

As in `checks`, all work on the tree as it was written. Each fault sits at the key that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.config import values
from imds_proxy.config.written import parse_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source

TAKE_OVER = ("network", "take_over")


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
