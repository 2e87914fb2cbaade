"""What a listener asks of the service behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.errors import RefusalKind
    from imds_proxy.web.answer import Page, Reply
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.budgets import Bounds
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard


class Service(Protocol):
    """What answers the requests of a listener."""

    bounds: Bounds
    """What a request may have, at most."""

    @property
    def guard(self) -> Guard:
        """Who may talk to the listener at all."""

    def closed(self) -> Service:
        """Return the same service with nobody let in: its address is no longer configured."""

    def admits(self, connection: Connection) -> bool:
        """Tell whether the peer of a connection may talk to the listener at all."""

    def turn_away(self, kind: RefusalKind) -> Page:
        """Return the page for a peer that is turned away before it is read, and count it."""

    def page_for_garbage(self, status: int, error: BaseException | None) -> Page:
        """Return the page for what can't be answered otherwise, to which aiohttp would give `status`."""

    def answer_at_once(self, ask: Ask, connection: Connection) -> Reply | None:
        """Return the answer to a request; None: something has to be awaited, and nothing was changed."""

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
