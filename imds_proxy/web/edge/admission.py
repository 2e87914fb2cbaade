"""The first look at a machine's request: is it meant for us, was it passed on, is it one too many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from imds_proxy.errors import RefusalKind
from imds_proxy.web.answer import render_page

if TYPE_CHECKING:
    from imds_proxy.metrics import Tally
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard
    from imds_proxy.web.edge.limits import CallerLimits


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets past the guards of a listener. What it lets in still must prove who it is."""

    guard: Guard
    limits: CallerLimits
    refusals: Tally

    def closed(self) -> Admission:
        """Return the same with nobody let in."""
        return replace(self, guard=replace(self.guard, callers=()))

    def admits(self, connection: Connection) -> bool:
        """Tell whether the peer of a connection may talk to the listener at all."""
        return connection.peer is not None and self.guard.admits_peer(connection.peer)

    def objection(self, ask: Ask, connection: Connection) -> RefusalKind | None:
        """Return why a request is refused, before its caller's limit is looked at; None lets it in."""
        if not self.guard.admits_host(ask.hosts, connection):
            return RefusalKind.FOREIGN_HOST
        if ask.authority is not None and not self.guard.admits_host((ask.authority,), connection):
            return RefusalKind.FOREIGN_HOST
        return RefusalKind.FORWARDED if ask.is_forwarded else None

    def turn_away(self, kind: RefusalKind) -> Page:
        """Return the page for a request that is refused, and count it: 403 or 503, empty."""
        self.refusals.add(kind)
        if kind is RefusalKind.OVER_LIMIT:
            return empty_page(503)
        return empty_page(403)


@cache
def empty_page(status: int, allow: str | None = None) -> Page:
    """Return a page without a body; `allow` names the methods that a 405 allows."""
    return render_page(status, Allow=allow) if allow else render_page(status)
