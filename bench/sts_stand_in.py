"""The stand-in for STS: AssumeRole answers with a key of their own, after a delay, from raw asyncio."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DELAY = 0.040
"""Seconds between a call and its answer: what a regional STS takes."""

_XML = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser>
      <AssumedRoleId>AROABENCHBENCHBENCH00:{session_name}</AssumedRoleId>
      <Arn>{role_arn}/{session_name}</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIABENCH{number:011d}</AccessKeyId>
      <SecretAccessKey>{number:040d}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{expiration}</Expiration>
    </Credentials>
  </AssumeRoleResult>
  <ResponseMetadata>
    <RequestId>00000000-0000-4000-8000-{number:012d}</RequestId>
  </ResponseMetadata>
</AssumeRoleResponse>
"""
_TOKEN = "IQoJb3JpZ2luX2Vj" * 45  # a real session token has 700 characters and more


def an_hour_from_now() -> float:
    """Return the end of an ordinary session that begins now, seconds UTC."""
    return time.time() + 3600


class SecurityTokenService:
    """What the stand-in was asked, and until when what it gives is good."""

    def __init__(self) -> None:
        self.call_times: list[float] = []
        """When each AssumeRole arrived, on `time.monotonic`."""
        self.expiry_of: Callable[[], float] = an_hour_from_now
        """Returns the end of the next session, seconds UTC."""
        self.port = 0

    @property
    def call_count(self) -> int:
        """How many AssumeRoles have arrived."""
        return len(self.call_times)

    def assume_role(self, form: str) -> bytes:
        """Return the body that answers an AssumeRole request with this body."""
        self.call_times.append(time.monotonic())
        fields = parse_qs(form)
        expiration = datetime.fromtimestamp(self.expiry_of(), UTC)
        return _XML.format(
            role_arn=fields["RoleArn"][0],
            session_name=fields["RoleSessionName"][0],
            number=self.call_count,
            token=_TOKEN,
            expiration=expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ).encode()


class _Connection(asyncio.Protocol):
    """One kept-alive connection of the daemon's client; a request may come in pieces."""

    def __init__(self, service: SecurityTokenService) -> None:
        self._service = service
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank or len(body) < _content_length(head):
            return
        self._buffer = b""
        asyncio.get_running_loop().call_later(DELAY, self._send, self._service.assume_role(body.decode()))

    def _send(self, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def security_token_service() -> AsyncIterator[SecurityTokenService]:
    """Serve AssumeRole on a free port of 127.0.0.1 until the block ends."""
    service = SecurityTokenService()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(service), "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
