"""Listening sockets that systemd opened and passed to us, each found by the address it is bound to.

sd_listen_fds(3): `$LISTEN_FDS` descriptors from 3 on, if `$LISTEN_PID` is this process.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.config import SocketAddress
from imds_proxy.errors import FederationError
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

ADVICE = (
    "imds-proxy render systemd --dir /etc/systemd/system && systemctl daemon-reload"
    " && systemctl restart imds-proxy.socket imds-proxy"
)
"""What makes systemd's sockets those of the settings."""

_FIRST_DESCRIPTOR = 3
_MOST_DESCRIPTORS = 1024
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class ActivationError(FederationError):
    """What systemd passed is not what the settings say; the text names the address and says what to do."""


class PassedSockets:
    """Sockets by what they are bound to, until each listener has taken its own."""

    def __init__(self, sockets: dict[SocketAddress | Path, socket.socket]) -> None:
        self._sockets = sockets

    def take(self, place: SocketAddress | Path) -> socket.socket:
        """Return the socket that is bound to an address or path. Raises ActivationError without one."""
        sock = self._sockets.pop(place, None)
        if sock is None:
            raise ActivationError(
                f"cannot listen on {place}: it is configured, but systemd did not pass it ({ADVICE})"
            )
        return sock

    def check_all_taken(self) -> None:
        """Raise ActivationError for a socket that nobody has taken: its callers would wait for ever."""
        for place in self._sockets:
            raise ActivationError(f"{place}: systemd passed it, but it is not configured ({ADVICE})")


def take_passed_sockets(environ: MutableMapping[str, str]) -> PassedSockets | None:
    """Return what systemd passed to this process, or None if it passed nothing.

    The variables are taken out of `environ`, and programs that we start do not inherit the sockets. Raises
    ActivationError for what is no listening TCP or unix stream socket, and for an address that comes twice.
    """
    taken = {name: environ.pop(name) for name in _VARIABLES if name in environ}
    if "LISTEN_FDS" not in taken or taken.get("LISTEN_PID") != str(os.getpid()):
        return None
    text = taken["LISTEN_FDS"]
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_DESCRIPTORS))
    if not (is_number and 0 < int(text) <= _MOST_DESCRIPTORS):
        raise ActivationError(f"LISTEN_FDS: not a number of sockets ({ADVICE})")
    return find_places(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(text)))


def find_places(descriptors: Iterable[int]) -> PassedSockets:
    """Return the sockets behind descriptors by what they are bound to. Raises ActivationError as above."""
    sockets: dict[SocketAddress | Path, socket.socket] = {}
    with ExitStack() as unwanted:
        for descriptor in descriptors:
            sock = unwanted.enter_context(_socket_of(descriptor))
            place = _place_of(sock)
            if place in sockets:
                raise ActivationError(f"{place}: systemd passed it twice ({ADVICE})")
            sockets[place] = sock
        unwanted.pop_all()
    return PassedSockets(sockets)


def _socket_of(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003  takes no keywords
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ActivationError(
            f"descriptor {descriptor} of systemd is no socket: {error.strerror} ({ADVICE})"
        ) from error
    sock.settimeout(0)
    return sock


def _place_of(sock: socket.socket) -> SocketAddress | Path:
    """Return what a socket is bound to. Raises ActivationError for one that callers can't connect to."""
    if not _is_listening_stream(sock):
        raise ActivationError(
            f"{_shown(sock)}: systemd passed it, but it is no listening TCP or unix stream socket ({ADVICE})"
        )
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Path(os.fsdecode(name))
    address = SocketAddress(canonical_address(name[0]), name[1])
    is_for_all = address.ip.version == 6 and address.ip.is_unspecified
    if is_for_all and sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise ActivationError(
            f"{address}: systemd keeps IPv4 out of it: BindIPv6Only=both is missing ({ADVICE})"
        )
    return address


def _is_listening_stream(sock: socket.socket) -> bool:
    protocols = {socket.AF_INET: socket.IPPROTO_TCP, socket.AF_INET6: socket.IPPROTO_TCP, socket.AF_UNIX: 0}
    return (
        sock.type == socket.SOCK_STREAM
        and protocols.get(sock.family) == sock.proto
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _shown(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return str(SocketAddress(canonical_address(name[0]), name[1]))
    return os.fsdecode(name).replace("\0", "@") if isinstance(name, (str, bytes)) and name else repr(name)
