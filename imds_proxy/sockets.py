"""The listening sockets, opened before anything else, so that a start that can't succeed fails at once."""

from __future__ import annotations

import errno
import grp
import os
import resource
import socket
from typing import TYPE_CHECKING

from imds_proxy.errors import FederationError

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.config import SocketAddress

BACKLOG = 1024
"""Connections that wait to be accepted: no more than about a second's work. In a longer line, whoever
comes to its head has given up meanwhile, and all the work is for nobody."""
_RESERVED_DESCRIPTORS = 512
ACCEPTS_PER_ROUND = 64
"""asyncio accepts as many in one round of its loop, also when there is no file descriptor left for any."""


UNREAD_SECONDS = 15.0
"""How long an answer may wait for a peer that does not read (TCP_USER_TIMEOUT, tcp(7))."""

MAX_UNREAD_BYTES = 16_384
"""Bytes that the kernel keeps of one connection before the daemon has read them; it takes this twice."""


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as its hard limit does: each connection is one of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """Return how many connections of callers fit under the limit on open files.

    The rest is for look-ups, STS, files and the sockets that listen.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections_under(soft)


def connections_under(limit: int) -> int:
    """Return how many connections of callers fit under a limit on open files."""
    return max(limit - _RESERVED_DESCRIPTORS, limit // 2)


class ListenError(FederationError):
    """An address can't be listened on; the text names it and says what to do."""


def open_listener(address: SocketAddress) -> socket.socket:
    """Return a listening TCP socket. Port 0 takes any free one. Raises ListenError."""
    try:
        return _listen(address)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}{_advice(error)}") from error


def prepare_connections(sock: socket.socket) -> None:
    """Set on a listening TCP socket what its connections inherit (Linux): no call for each of them."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MAX_UNREAD_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))


def open_unix_listener(path: Path, *, mode: int = 0o600, group: str | None = None) -> socket.socket:
    """Return a listening unix socket, for our own user alone or for whom `mode` lets. Raises ListenError.

    The socket of a daemon that was killed is replaced, that of one that answers is not, and nothing else is.
    """
    try:
        if path.is_socket():
            if _is_answered(path):
                raise ListenError(f"cannot listen on {path}: another process does")
            path.unlink()
        return _listen_on_path(path, mode, group)
    except KeyError as error:
        raise ListenError(f"cannot listen on {path}: there is no group {group}") from error
    except OSError as error:
        # Of a path that is too long there is no strerror.
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error


def _listen(address: SocketAddress) -> socket.socket:
    family = socket.AF_INET if address.ip.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `[::]` takes IPv4 callers too; their addresses are made IPv4 again before anyone looks.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.ip.is_unspecified))
        sock.bind((str(address.ip), address.port))
        sock.listen(BACKLOG)
        sock.settimeout(0)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_on_path(path: Path, mode: int, group: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
        sock.listen(BACKLOG)
        sock.settimeout(0)
    except (OSError, KeyError):
        sock.close()
        raise
    return sock


def bound_address(sock: socket.socket) -> str:
    """Return `ADDRESS:PORT`, IPv6 in brackets, as the socket is bound; of a unix socket its path."""
    if sock.family == socket.AF_UNIX:
        return str(sock.getsockname())
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _advice(error: OSError) -> str:
    advice = {
        errno.EADDRINUSE: " (who has it: ss -ltnp)",
        errno.EADDRNOTAVAIL: " (this host does not have the address: ip address add ...)",
        errno.EACCES: " (ports below 1024 need CAP_NET_BIND_SERVICE)",
    }
    return advice.get(error.errno or 0, "")
