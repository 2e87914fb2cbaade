"""A caller's connection: bound to the caller's address, one request at a time, a time limit on each."""

from __future__ import annotations

import asyncio
from typing import cast

from bench.wire import Answer, parse_answer


class Connection(asyncio.Protocol):
    """An open connection to a server on 127.0.0.1."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return its answer. Raises OSError when the connection ends before it."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server has closed the connection")
        self._buffer = b""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect an answer and wake who waits for it."""
        self._buffer += data
        answer = parse_answer(self._buffer)
        if answer is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits for an answer."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed before the answer"))


async def connect(port: int, source: str = "127.0.0.1") -> Connection:
    """Return a connection to 127.0.0.1:port that comes from `source`. Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, "127.0.0.1", port, local_addr=(source, 0)
    )
    return connection
