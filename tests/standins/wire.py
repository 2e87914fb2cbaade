"""HTTP byte by byte: requests exactly as a test writes them, answers exactly as they came."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE = 20.0
"""Seconds after which an answer that does not come is a failure of the test."""

TOKEN_PATH = "/latest/api/token"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
LIFE_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"

Header = tuple[str, str]


@dataclass(frozen=True)
class WireAnswer:
    """An answer as it was sent."""

    status: int
    reason: str
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the header `name` in any case, None without it.

        Raises AssertionError when it is there more than once.
        """
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(values) <= 1, self.headers
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class WireConnection:
    """One connection; what was sent and received on it is nobody's but the test's."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send these bytes and nothing else."""
        self.socket.sendall(data)

    def read_answer(self, *, has_body: bool = True) -> WireAnswer:
        """Return the next answer; `has_body=False` for the answer to a HEAD.

        Raises AssertionError when it is malformed, EOFError when the connection ends before it.
        """
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1", status_line
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        answer = WireAnswer(int(status), reason, headers, b"")
        if answer.status == 100:
            return answer
        assert answer.header("Transfer-Encoding") is None, headers
        length = answer.header("Content-Length")
        assert length is not None or not has_body, headers
        wanted = int(length or 0) if has_body else 0
        while len(self._received) < wanted:
            self._receive()
        body, self._received = self._received[:wanted], self._received[wanted:]
        return WireAnswer(answer.status, reason, headers, body)

    def read_to_end(self) -> bytes:
        """Return all bytes until the other side closes the connection; a reset is an end too."""
        try:
            while True:
                self._receive()
        except (EOFError, ConnectionResetError):
            rest, self._received = self._received, b""
            return rest

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the connection ended after {self._received!r}")
        self._received += data


@dataclass(frozen=True)
class WireCaller:
    """A caller at an address of its own; every request goes over a new connection."""

    server: tuple[str, int]
    source: str = "127.0.0.1"

    @property
    def host(self) -> str:
        """The server as Host names it."""
        name, port = self.server
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    @contextmanager
    def connected(self) -> Iterator[WireConnection]:
        """Hold a connection open for the length of the block."""
        with socket.create_connection(self.server, PATIENCE, (self.source, 0)) as sock:
            yield WireConnection(sock)

    def render(
        self, method: str, target: str, *headers: Header, host: str | None = "", version: str = "1.1"
    ) -> bytes:
        """Return a request as bytes. `host` in place of the server's own; None: no Host at all."""
        lines = [f"{method} {target} HTTP/{version}"]
        if host is not None:
            lines.append(f"Host: {host or self.host}")
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def ask(
        self, method: str, target: str, *headers: Header, token: str | None = None, host: str | None = ""
    ) -> WireAnswer:
        """Return the answer to a request without a body."""
        given = [*headers, (TOKEN_HEADER, token)] if token is not None else headers
        return self.exchange(self.render(method, target, *given, host=host), has_body=method != "HEAD")

    def exchange(self, request: bytes, *, has_body: bool = True) -> WireAnswer:
        """Return the answer to these bytes."""
        with self.connected() as connection:
            connection.send(request)
            return connection.read_answer(has_body=has_body)

    def get(self, target: str, token: str | None = None, *headers: Header) -> WireAnswer:
        """Return the answer to a GET."""
        return self.ask("GET", target, *headers, token=token)

    def put_token(self, *lives: str) -> WireAnswer:
        """Return the answer to TOKEN with a TTL header for each of `lives`."""
        return self.ask("PUT", TOKEN_PATH, *((LIFE_HEADER, life) for life in lives))

    def fetch_token(self, life: int = 21600) -> str:
        """Return an IMDS token. Raises AssertionError for any other answer than 200."""
        answer = self.put_token(str(life))
        assert answer.status == 200, answer
        return answer.text

    def fetch_role(self, token: str | None = None) -> str:
        """Return the role's name once LIST says it: on a busy machine the first may be a 503."""
        answer = self.settle(ROLES_PATH, token or self.fetch_token())
        assert answer.status == 200, answer
        return answer.text

    def settle(self, target: str, token: str | None) -> WireAnswer:
        """Return the first answer to a GET that is not 503. Raises AssertionError when there is none."""
        deadline = time.monotonic() + PATIENCE
        while (answer := self.get(target, token)).status == 503:
            assert time.monotonic() < deadline, "nothing but 503"
            time.sleep(0.05)
        return answer


def pairs(headers: Sequence[Header]) -> dict[str, str]:
    """Return headers by their name in lower case. Raises AssertionError when one is there twice."""
    found = {name.lower(): value for name, value in headers}
    assert len(found) == len(headers), headers
    return found
