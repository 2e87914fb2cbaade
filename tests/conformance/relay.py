"""A door out of a network namespace: a port of its 127.0.0.1 leads to the same port of loopback outside."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.namespaces import Namespace

_CHUNK = 65536
_PATIENCE = 60
"""Seconds without a byte after which a connection is given up."""


@contextmanager
def relayed(namespace: Namespace, *ports: int) -> Iterator[None]:
    """Let the ports lead out of the namespace for the length of the block."""
    doors: list[socket.socket] = []
    try:
        for port in ports:
            with namespace.entered():  # a socket belongs to where it was made; threads stay outside
                doors.append(socket.create_server(("127.0.0.1", port), backlog=128))
            threading.Thread(target=_accept, args=(doors[-1], port), daemon=True).start()
        yield
    finally:
        for door in doors:
            door.shutdown(socket.SHUT_RDWR)  # ends accept(), which a mere close leaves waiting
            door.close()


def _accept(door: socket.socket, port: int) -> None:
    while True:
        try:
            near, _ = door.accept()
        except OSError:
            return
        try:
            far = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        except OSError:
            near.close()
            continue
        near.settimeout(_PATIENCE)
        threading.Thread(target=_join, args=(near, far), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Gone or silent for too long: both ends are told, and the other direction ends by it.
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
