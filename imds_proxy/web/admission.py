"""The first look at a machine's request: may it talk to us, is it meant for us, is it one too many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from imds_proxy.errors import RefusalKind
from imds_proxy.web.answer import Answer, render_page
from imds_proxy.web.guard import FORWARDING_HEADERS

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.metrics import Tally
    from imds_proxy.web.answer import Page
    from imds_proxy.web.guard import Guard
    from imds_proxy.web.limits import CallerLimits
    from imds_proxy.web.listener import Connection, Service


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets past the door of a listener. What it lets in still has to prove who it is."""

    guard: Guard
    limits: CallerLimits
    refusals: Tally

    def closed(self) -> Admission:
        """Return the same with nobody let in."""
        return replace(self, guard=replace(self.guard, callers=()))

    def refuse(self, request: web.BaseRequest, connection: Connection, service: Service) -> Answer | None:
        """Return the answer to a request that is turned away: 403 or 503, empty; None lets it in.

        A connection's peer is judged once for each `service` that the connection meets.
        """
        if connection.service is not service:
            connection.service = service
            connection.standing = None
            connection.is_admitted = connection.peer is not None and self.guard.admits_peer(connection.peer)
        headers = request.headers
        if not connection.is_admitted:
            return self._forbid(RefusalKind.NOT_ADMITTED)
        if not self._is_for_us(request, connection):
            return self._forbid(RefusalKind.FOREIGN_HOST)
        for header in FORWARDING_HEADERS:
            if header in headers:
                return self._forbid(RefusalKind.FORWARDED)
        if not self.limits.admit(connection):
            self.refusals.add(RefusalKind.OVER_LIMIT)
            response = Answer(empty_page(503))
            response.force_close()
            return response
        return None

    def _forbid(self, kind: RefusalKind) -> Answer:
        self.refusals.add(kind)
        return Answer(empty_page(403))

    def _is_for_us(self, request: web.BaseRequest, connection: Connection) -> bool:
        hosts = request.headers.getall("Host", ())
        if not self.guard.admits_host(hosts, connection.local_host):
            return False
        # RFC 9112 section 3.2.2: with an absolute target, its authority counts and Host does not.
        target = request.raw_path
        return target.startswith("/") or self.guard.admits_host(
            (_authority_of(target),), connection.local_host
        )


@cache
def empty_page(status: int, allow: str | None = None) -> Page:
    """Return a page without a body; `allow` names the methods that a 405 allows."""
    return render_page(status, Allow=allow) if allow else render_page(status)


def path_of(request: web.BaseRequest) -> str:
    """Return the path as it was sent, that of an absolute target included."""
    target = request.raw_path
    if target.startswith("/"):
        return target
    _, _, rest = target.partition("://")
    return "/" + rest.partition("/")[2]


def _authority_of(target: str) -> str:
    return target.partition("://")[2].partition("/")[0]
