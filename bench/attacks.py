"""The manners of a noisy or hostile neighbour: what it does on each of its connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, cycle, repeat
from typing import TYPE_CHECKING, Literal, cast

from bench.bare_server import PATH
from bench.wire import get_request, token_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Stream = Literal[
    "one-byte chunks", "endless heads", "blank lines", "endless pipelines", "half-open", "never reading"
]
Manner = Stream | Literal["one by one", "pipelines", "new connections", "connect and abort", "TLS handshakes"]

_PIPELINE = 50
_BLOCK = 65_536
"""Bytes of an endless stream that are written at a time."""
_FIELDS = 119  # and Host: 120
_FIELD_LENGTH = 8_000
_FIELDS_PER_BLOCK = 7
_AGAIN = 0.05
_ANSWER = b"HTTP/1.1 "
_HANDSHAKE = b"\x16\x03"  # the type and the version of a TLS record, RFC 8446 section 5.1
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset


@dataclass(frozen=True, slots=True)
class Target:
    """Listener that is attacked."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def attack(target: Target, manner: Manner, source: str) -> None:
    """Attack over one connection from `source`, and over a new one when that ends, until cancelled."""
    if manner == "connect and abort":
        await _connect_and_abort(target, source)
        return
    make = _protocol_of(target, manner)
    loop = asyncio.get_running_loop()
    while True:
        ended = asyncio.Event()
        try:
            await loop.create_connection(
                partial(make, ended), target.host, target.port, local_addr=(source, 0)
            )
        except OSError:
            await asyncio.sleep(_AGAIN)
        else:
            await ended.wait()


def _protocol_of(target: Target, manner: Manner) -> Callable[[asyncio.Event], asyncio.Protocol]:
    if manner in _STREAMS:
        stream = _STREAMS[cast("Stream", manner)]
        return lambda ended: _Pourer(stream(target), ended, reads=manner != "never reading")
    if manner == "TLS handshakes":
        return partial(_Asker, _client_hello(), _HANDSHAKE, 1, hangs_up=True)
    request = get_request(target.port, PATH, b"T" * 56)
    batch = _PIPELINE if manner == "pipelines" else 1
    return partial(_Asker, request * batch, _ANSWER, batch, hangs_up=manner == "new connections")


class _Asker(asyncio.Protocol):
    """Connection that asks again, or hangs up, as soon as everything is answered."""

    def __init__(
        self, request: bytes, mark: bytes, batch: int, ended: asyncio.Event, *, hangs_up: bool
    ) -> None:
        self._request = request
        self._mark = mark
        self._batch = batch
        self._ended = ended
        self._hangs_up = hangs_up
        self._answers = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._answers += data.count(self._mark)
        if self._answers < self._batch:
            return
        self._answers = 0
        if self._hangs_up:
            self._transport.abort()
        else:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        self._ended.set()


class _Pourer(asyncio.Protocol):
    """Connection that sends a stream as fast as the server takes it; answers are dropped or not even read."""

    def __init__(self, blocks: Iterator[bytes], ended: asyncio.Event, *, reads: bool) -> None:
        self._blocks = blocks
        self._ended = ended
        self._reads = reads
        self._is_paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        if not self._reads:
            self._transport.pause_reading()
        self._pour()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._pour()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        self._transport = None
        self._ended.set()

    def _pour(self) -> None:
        if self._transport is None or self._is_paused or self._transport.is_closing():
            return
        block = next(self._blocks, b"")
        if not block:
            return
        self._transport.write(block)
        # One block in a turn of the loop: the other connections want to send as well.
        asyncio.get_running_loop().call_soon(self._pour)


async def _connect_and_abort(target: Target, source: str) -> None:
    """Connect, ask and reset the connection without reading, again and again."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    request = token_head(target.authority) + b"\r\n"
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            try:
                sock.bind((source, 0))
                await loop.sock_connect(sock, (target.host, target.port))
                sock.send(request)
            except OSError:
                await asyncio.sleep(_AGAIN)


def _one_byte_chunks(target: Target) -> Iterator[bytes]:
    chunk = b"1\r\na\r\n"
    head = token_head(target.authority) + b"Transfer-Encoding: chunked\r\n\r\n"
    return chain([head], repeat(chunk * (_BLOCK // len(chunk))))


def _endless_heads(target: Target) -> Iterator[bytes]:
    first = f"GET {PATH} HTTP/1.1\r\nHost: {target.authority}\r\n".encode()
    field = b"X-%03d: "
    fields = [field % number + b"h" * _FIELD_LENGTH + b"\r\n" for number in range(_FIELDS)]
    blocks = (
        b"".join(fields[start : start + _FIELDS_PER_BLOCK]) for start in range(0, _FIELDS, _FIELDS_PER_BLOCK)
    )
    return cycle([first, *blocks, b"\r\n"])


def _blank_lines(_target: Target) -> Iterator[bytes]:
    return repeat(b"\r\n" * (_BLOCK // 2))


def _endless_pipeline(target: Target) -> Iterator[bytes]:
    return repeat((token_head(target.authority) + b"Content-Length: 0\r\n\r\n") * _PIPELINE)


def _nothing(_target: Target) -> Iterator[bytes]:
    return iter(())


_STREAMS: Mapping[Stream, Callable[[Target], Iterator[bytes]]] = {
    "one-byte chunks": _one_byte_chunks,
    "endless heads": _endless_heads,
    "blank lines": _blank_lines,
    "endless pipelines": _endless_pipeline,
    "half-open": _nothing,
    "never reading": _endless_pipeline,
}


@cache
def _client_hello() -> bytes:
    """Return a ClientHello. The server must sign its answer; the sender computes nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake can't end without an answer")
