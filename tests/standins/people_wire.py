"""Callers of a listener for people: over TCP, TLS or a unix socket, byte by byte as `wire` does it."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.standins.wire import PATIENCE, Header, WireAnswer, WireCaller, WireConnection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class PeopleCaller(WireCaller):
    """Somebody who sends the same headers with every request."""

    headers: tuple[Header, ...] = ()
    socket_path: Path | None = None
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """What the caller asks for by Host."""
        return "localhost" if self.socket_path is not None else super().host

    @contextmanager
    def connected(self) -> Iterator[WireConnection]:
        """Hold a connection open for the length of the block."""
        with self._connect() as sock:
            yield WireConnection(sock)

    def _connect(self) -> socket.socket:
        if self.socket_path is not None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(str(self.socket_path))
            return sock
        sock = socket.create_connection(self.server, PATIENCE, (self.source, 0))
        return sock if self.tls is None else self.tls.wrap_socket(sock, server_hostname=self.server[0])

    def ask(
        self, method: str, target: str, *headers: Header, token: str | None = None, host: str | None = ""
    ) -> WireAnswer:
        """Return the answer to a request without a body; `headers` come after the caller's own."""
        return super().ask(method, target, *self.headers, *headers, token=token, host=host)

    def post(
        self,
        target: str,
        body: str | bytes,
        *headers: Header,
        kind: str | None = FORM,
        length: int | None = None,
    ) -> WireAnswer:
        """Return the answer to a POST with this body; `length`: another Content-Length than the body's."""
        data = body.encode() if isinstance(body, str) else body
        given = [*self.headers, *headers, ("Content-Length", str(len(data) if length is None else length))]
        if kind is not None:
            given.append(("Content-Type", kind))
        return self.exchange(self.render("POST", target, *given) + data)


def error_of(answer: WireAnswer) -> dict[str, Any]:
    """Return a JSON error, which has these three keys and whose status is the answer's."""
    error = json.loads(answer.body)
    assert set(error) == {"status", "error", "message"}, error
    assert error["status"] == answer.status
    assert error["error"] == f"{answer.status} {answer.reason}"
    assert isinstance(error["message"], str)
    assert error["message"]
    return dict(error)
