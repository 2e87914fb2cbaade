"""systemd's journal by its native protocol: entries of fields, which `journalctl FIELD=...` finds again.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: an entry is a datagram, or a sealed memfd where that would be
too large.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")

_BUFFER_BYTES = 8 << 20
_LENGTH = struct.Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def render_entry(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return an entry's bytes. Names are ours; of a value nothing can become another field.

    A value with a newline goes with its length in front. What is no Unicode is written with backslashes.
    """
    parts = []
    for name, text in fields:
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(name.encode("ascii") + b"\n" + _LENGTH.pack(len(value)) + value + b"\n")
        else:
            parts.append(name.encode("ascii") + b"=" + value + b"\n")
    return b"".join(parts)


def is_journal(stream: int, environ: Mapping[str, str]) -> bool:
    """Tell whether what is written to a file descriptor goes to the journal line by line.

    `$JOURNAL_STREAM` has device and inode of the stream that systemd made (systemd.exec(5)).
    """
    try:
        found = os.fstat(stream)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Journal:
    """A connection to the journal, made by the first entry and made anew after a failure."""

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def send(self, entry: bytes, patience: float) -> None:
        """Hand an entry over. Raises OSError, also when the journal takes none for `patience` seconds."""
        try:
            if self._socket is None:
                self._socket = _connect(self._path)
            _send(self._socket, entry, patience)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def _send(sock: socket.socket, entry: bytes, patience: float) -> None:
    try:
        _send_when_there_is_room(sock, [entry], [], patience)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        descriptor = _sealed_file(entry)
        try:
            _send_when_there_is_room(sock, [], [descriptor], patience)
        finally:
            os.close(descriptor)


def _send_when_there_is_room(
    sock: socket.socket, parts: list[bytes], descriptors: list[int], patience: float
) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    attached = [rights] if descriptors else []
    try:
        sock.sendmsg(parts, attached)
    except BlockingIOError:
        waiting = select.poll()
        waiting.register(sock, select.POLLOUT)
        if not waiting.poll(patience * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "takes no entries") from None
        sock.sendmsg(parts, attached)


def _sealed_file(content: bytes) -> int:
    """Return the descriptor of a file in memory that nobody can change any more."""
    descriptor = os.memfd_create("imds-proxy-audit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
