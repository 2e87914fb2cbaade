"""Who listens on the configured addresses: the daemon or systemd, or somebody else."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.doctor.findings import Finding, fault, ok, skipped
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from imds_proxy.config import SocketAddress
    from imds_proxy.model import IPAddress

_LISTENS = "0A"
"""TCP_LISTEN in the kernel's include/net/tcp_states.h."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A TCP socket that listens."""

    address: IPAddress
    port: int
    inode: int


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds a socket."""

    pid: int
    name: str
    is_ours: bool = False
    """Whether it is systemd or this program, as far as its command line says."""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def read_listening(proc: Path = Path("/proc")) -> tuple[Listening, ...]:
    """Return the TCP sockets that listen in this network namespace; empty where the kernel tells nothing."""
    found: list[Listening] = []
    for name in ("tcp", "tcp6"):
        try:
            found += parse_listening((proc / "net" / name).read_text("ascii"))
        except OSError:
            continue
    return tuple(found)


def parse_listening(text: str) -> list[Listening]:
    """Return what `/proc/net/tcp` or `tcp6` says of sockets that listen (proc(5))."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENS:
            host, _, port = fields[1].partition(":")
            found.append(Listening(_parse_address(host), int(port, 16), int(fields[9])))
    return found


def _parse_address(digits: str) -> IPAddress:
    # Words of 32 bits, each in the host's order.
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[index : index + 4][::-1] for index in range(0, len(raw), 4))
    return canonical_address(str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)))


def read_holders(inodes: Collection[int], proc: Path = Path("/proc")) -> dict[int, list[Process]]:
    """Return who holds each socket. Only root sees other users' processes."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: dict[int, list[Process]] = {}
    for folder in proc.glob("[0-9]*"):
        found = set()
        try:
            for descriptor in (folder / "fd").iterdir():
                inode = wanted.get(_target(descriptor))
                if inode is not None:
                    found.add(inode)
        except OSError:  # ended, or not ours to see
            continue
        for inode in found:
            holders.setdefault(inode, []).append(_read_process(folder))
    return holders


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)  # noqa: PTH115  a Path would be made of it a thousand times
    except OSError:
        return ""


def _read_process(folder: Path) -> Process:
    pid = int(folder.name)
    try:
        name = (folder / "comm").read_text("utf-8", "replace").strip()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return Process(pid, "a process that has ended")
    is_ours = pid == 1 or b"imds-proxy" in command or b"imds_proxy" in command
    return Process(pid, name, is_ours=is_ours)


def judge_listener(
    address: SocketAddress,
    listening: Sequence[Listening],
    holders: Mapping[int, Iterable[Process]],
    daemon_pid: int | None,
) -> Finding:
    """Return whether the daemon, or systemd for it, is who listens on a configured address."""
    title = f"port {address}"
    exact = [one for one in listening if (one.address, one.port) == (address.ip, address.port)]
    # Whoever listens on all addresses gets what nobody else listens for.
    others = [one for one in listening if one.port == address.port and one.address.is_unspecified]
    sockets = exact or others
    if not sockets:
        return fault(title, "nobody listens", "systemctl start imds-proxy.socket imds-proxy.service")
    processes = [process for one in sockets for process in holders.get(one.inode, ())]
    ours = [one for one in processes if one.is_ours or one.pid == daemon_pid]
    if ours:
        return ok(title, f"held by {', '.join(sorted({str(one) for one in ours}))}")
    if processes:
        names = ", ".join(sorted({str(one) for one in processes}))
        find = f"ss -ltnp 'sport = :{address.port}'"
        return fault(title, f"held by {names}", f"stop it or give it another address: {find}")
    if os.geteuid() != 0:
        return skipped(title, "somebody listens; only root sees who", "sudo imds-proxy doctor")
    return skipped(title, "somebody listens whose process is not to be seen from here")
