"""The least a server can do: fixed bytes for each step. What the load reaches here is its own ceiling."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import cast

from bench.bare_server import DOCUMENT
from bench.loops import known_loops, run_on
from bench.wire import LIST_PATH

_ROLE = b"bench-r000"


def _ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


_TOKEN_ANSWER = _ok(b"T" * 56)
_LIST_ANSWER = _ok(_ROLE)
_ROLE_ANSWER = _ok(json.dumps(DOCUMENT, indent=2).encode())
_LIST_LINE = f"GET {LIST_PATH} HTTP/1.1\r\n".encode()


class _Canned(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"PUT"):
            self._transport.write(_TOKEN_ANSWER)
        elif data.startswith(_LIST_LINE):
            self._transport.write(_LIST_ANSWER)
        else:
            self._transport.write(_ROLE_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Canned, "127.0.0.1", 0, backlog=4096)
    sys.stderr.write(f"listening 127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM, on the fastest loop there is."""
    run_on(known_loops()[-1], _serve())


if __name__ == "__main__":
    main()
