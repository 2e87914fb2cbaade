"""Network namespaces under names of their own, and the switch that joins them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standins.processes import bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000  # <sched.h>
_LIBC = ctypes.CDLL(None, use_errno=True)
# No program finds settings of whoever runs the tests: boto3 looks below HOME.
ENVIRONMENT = bare_environment({"HOME": "/nonexistent"})


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace. Programs in it see its interfaces and routes, and the machine's files."""

    name: str

    @classmethod
    def make(cls, label: str) -> Namespace:
        """Return a new namespace with its loopback up. Raises CommandError where it can't be had."""
        namespace = cls(f"imds-{os.getpid()}-{label}")
        _run(["ip", "netns", "add", namespace.name])
        namespace.configure("link set lo up")
        return namespace

    def remove(self) -> None:
        """Remove the namespace with its interfaces; one that is gone is fine."""
        # The kernel keeps a namespace for as long as a program or a socket lives in it: the link goes first.
        subprocess.run(["ip", "-n", self.name, "link", "delete", "eth0"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def configure(self, *lines: str) -> None:
        """Run lines of `ip` (`address add ...`) in the namespace, all in one go."""
        _run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines))

    def filter(self, rules: str) -> None:
        """Load nft rules (the text of an nft file) into the namespace."""
        self.run("nft", "-f", "-", stdin=rules)

    def read_counter(self, table: str, name: str) -> int:
        """Return how many packets a named counter of an inet table has seen."""
        listed = json.loads(self.run("nft", "-j", "list", "counter", "inet", table, name).stdout)
        (counter,) = (entry["counter"] for entry in listed["nftables"] if "counter" in entry)
        packets: int = counter["packets"]
        return packets

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` in the namespace."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace to its end, 30 s at most. Raises CommandError if it fails."""
        return _run(self.command(*words), stdin=stdin, check=check)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the sockets that this thread opens within the block belong to the namespace."""
        with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", self.name).open() as away:
            _enter(away.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


class CommandError(Exception):
    """A program failed; the text has its command line and what it wrote to stderr."""


class Switch:
    """A bridge in a namespace of its own; whatever is plugged into it shares one LAN."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._ports = 0
        # With nobody who asks for memberships, snooping may keep neighbour discovery from a port.
        namespace.configure("link add lan type bridge mcast_snooping 0", "link set lan up")

    def plug(self, namespace: Namespace, address: str, *more: str) -> None:
        """Give the namespace an `eth0` on the LAN with its addresses, IPv4 first, prefix lengths included.

        The hardware address follows from the IPv4 address: a machine that takes over another's address
        is found at once, no neighbour cache holds anything stale.
        """
        self._ports += 1
        port = f"port{self._ports}"
        hardware_address = "02:00:" + IPv4Address(address.partition("/")[0]).packed.hex(":")
        self._namespace.configure(
            f"link add {port} type veth peer name eth0 address {hardware_address} netns {namespace.name}",
            f"link set {port} master lan up",
        )
        namespace.configure(
            f"address add {address} dev eth0",
            *(f"address add {text} dev eth0 nodad" for text in more),
            "link set eth0 up",
        )


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _run(command: list[str], *, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, input=stdin, check=False, capture_output=True, text=True, timeout=30, env=ENVIRONMENT
    )
    if check and done.returncode:
        raise CommandError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr.strip()}")
    return done
