"""What the kernel and TLS say of the far end of a connection: nothing that its requests could claim."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from imds_proxy.model import IPAddress

_CREDENTIALS = struct.Struct("iII")
"""pid, uid, gid: unix(7), SO_PEERCRED."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A connection's far end: an address, or a process of this host on a unix socket."""

    address: IPAddress | None
    is_local: bool = False
    """Whether it came over a unix socket."""
    uid: int | None = None
    """Of whoever opened the unix socket."""
    is_encrypted: bool = False
    has_certificate: bool = False
    """Whether it has shown a certificate of the listener's `client_ca`."""

    @property
    def caller(self) -> str:
        """The caller, as records name it: an address, or `uid:1000`."""
        return str(self.address) if self.address is not None else f"uid:{self.uid}"


def peer_of(transport: asyncio.BaseTransport | None, address: IPAddress | None) -> Peer:
    """Return the peer of a connection that came from `address`.

    Raises ConnectionResetError when the connection is gone.
    """
    sock = None if transport is None else transport.get_extra_info("socket")
    if transport is None or sock is None:
        raise ConnectionResetError("the connection is gone")
    if sock.family == socket.AF_UNIX:
        try:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError as error:
            raise ConnectionResetError("the connection is gone") from error
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        return Peer(None, is_local=True, uid=uid)
    return Peer(
        address,
        is_encrypted=transport.get_extra_info("sslcontext") is not None,
        # With no authority configured there is none here, whatever the peer has sent.
        has_certificate=bool(transport.get_extra_info("peercert")),
    )
