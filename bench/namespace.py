"""Network namespace of a process: its loopback has addresses of several IPv6 networks and goes with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.addresses import INSIDE_IPV6, IPV6_SERVER, OUTSIDE_IPV6, addresses_of

_WAYS = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])


def find_way() -> list[str] | None:
    """Return what runs a command in a namespace of its own when put before it, None where nothing does."""
    for way in _WAYS:
        try:
            subprocess.run([*way, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)  # noqa: S603 - ours
        except (OSError, subprocess.CalledProcessError):
            continue
        return way
    return None


def own_namespace() -> str:
    """Return the name of the network namespace of this process."""
    return str(Path("/proc/self/ns/net").readlink())


def furnish(outer: str, count: int) -> None:
    """Give loopback the server's address and `count` addresses of each network of attackers.

    Raises RuntimeError in `outer`, the namespace that must stay as it is.
    """
    if own_namespace() == outer:
        raise RuntimeError("this process is still in the machine's network namespace; start it by unshare")
    lines = ["link set lo up", f"addr add {IPV6_SERVER}/128 dev lo nodad"]
    for network in (INSIDE_IPV6, OUTSIDE_IPV6):
        lines += [f"addr add {address}/128 dev lo nodad" for address in addresses_of(network, count)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)  # noqa: S607 - from PATH
