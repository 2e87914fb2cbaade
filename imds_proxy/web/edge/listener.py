"""A listener: one service, which a reload replaces, and the connections that ask it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imds_proxy.web.edge.conversation import Conversation
from imds_proxy.web.edge.handover import Handlers

if TYPE_CHECKING:
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.handover import Lease
    from imds_proxy.web.edge.open_connections import OpenConnections
    from imds_proxy.web.edge.service import Service


class Listener:
    """The connections of one listening socket. Called, it returns the protocol of a new one."""

    def __init__(
        self, service: Service, open_connections: OpenConnections, *, is_local: bool = False
    ) -> None:
        """`is_local`: it listens on a unix socket."""
        self.service = service
        self.open = open_connections
        self.is_local = is_local
        self.is_draining = False
        """Whether every answer is the last of its connection."""
        self.crl_end: float | None = None
        """When client certificates cease to count, seconds UTC since 1970, because a CRL ends."""
        self.connections: set[Connection] = set()
        self._handlers = Handlers()

    def __call__(self) -> Conversation:
        """Return the protocol of a new connection."""
        return Conversation(self)

    def hand_over(self, connection: Conversation) -> Lease:
        """Return what aiohttp gets of a connection for one request."""
        assert connection.transport is not None
        return self._handlers.lend(connection, connection.transport)

    def shut_out(self) -> None:
        """Let nobody in any more, and end all connections at once, whatever is being answered on them."""
        self.service = self.service.closed()
        for connection in list(self.connections):
            connection.hang_up()

    def distrust_certificates(self) -> None:
        """End the connections with a client certificate: it was judged by what counts no more."""
        for connection in list(self.connections):
            connection.distrust_certificate()

    def end_idle(self) -> None:
        """End the connections on which nobody waits for an answer."""
        for connection in list(self.connections):
            connection.close_if_idle()

    async def shutdown(self, seconds: float) -> None:
        """Give the answers that are being made so many seconds, and as many when cut off; then end all."""
        await self._handlers.shutdown(seconds)
        for connection in list(self.connections):
            connection.hang_up()
        await asyncio.sleep(0)
