"""Connections that never ask: they end by themselves, and what they hold is given back. Loopback only."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import pytest

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.web import listener as listening
from imds_proxy.web.limits import CallerLimits
from imds_proxy.web.listener import Listener

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.web.imds import MetadataService
    from imds_proxy.web.listener import Connection


class _Never:
    """A service that nobody gets to ask."""

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        raise AssertionError((request, connection))


@pytest.mark.patient
async def test_a_connection_that_says_nothing_is_dropped() -> None:
    """A connection without a whole request ends, half a header or not, and no longer counts."""
    limits = CallerLimits(connections=1, requests_per_second=10, clock=SYSTEM_CLOCK, most_connections=10)
    listener = Listener(cast("MetadataService", _Never()), limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(listener, "127.0.0.1", 0)
    where = server.sockets[0].getsockname()
    clients = [socket.create_connection(where) for _ in range(3)]
    clients[1].sendall(b"GET /latest/")
    for client in clients:
        client.setblocking(False)
        async with asyncio.timeout(5 * listening.FIRST_REQUEST_SECONDS):
            with suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 1) == b""
        client.close()
    assert (limits.open_connections, listener.open_connections) == (0, 0)
    server.close()
    await listener.shutdown(1)
