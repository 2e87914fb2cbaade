"""The first look at a machine's request: is it meant for us, was it passed on, is it one too many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from imds_proxy.errors import RefusalKind
from imds_proxy.web.answer import Answer, Reply, render_page
from imds_proxy.web.edge.ask import ask_of
from imds_proxy.web.edge.budgets import MACHINES

if TYPE_CHECKING:
    from enum import StrEnum
    from typing import Self

    from aiohttp import web

    from imds_proxy.metrics import Metrics
    from imds_proxy.web.answer import Page
    from imds_proxy.web.edge.ask import Ask
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.edge.guard import Guard
    from imds_proxy.web.edge.limits import CallerLimits

Target = TypeVar("Target")


class MachineService(ABC, Generic[Target]):
    """Service of a listener for machines: lets requests in and counts them. Subclasses have the answers."""

    bounds = MACHINES
    unknown: StrEnum
    """The label of the request counter for what was not read."""

    def __init__(self, guard: Guard, limits: CallerLimits, metrics: Metrics) -> None:
        self.guard = guard
        """Who may talk to the listener at all."""
        self._limits = limits
        self._metrics = metrics
        self._requests = metrics.requests.counts

    def closed(self) -> Self:
        """Return the same service with nobody let in: its address is no longer configured."""
        service = copy(self)
        service.guard = replace(self.guard, callers=())
        return service

    def admits(self, connection: Connection) -> bool:
        """Tell whether the peer of a connection may talk to the listener at all."""
        return connection.peer is not None and self.guard.admits_peer(connection.peer)

    def turn_away(self, kind: RefusalKind) -> Page:
        """Return the page for a peer that is turned away before it is read, and count it."""
        page = self._refuse(kind)
        self._requests[self.unknown, page.status] += 1
        return page

    def _objection(self, ask: Ask, connection: Connection) -> RefusalKind | None:
        """Return why a request is refused, before its caller's limit is looked at; None lets it in."""
        if not self.guard.admits_host(ask.hosts, connection):
            return RefusalKind.FOREIGN_HOST
        if ask.authority is not None and not self.guard.admits_host((ask.authority,), connection):
            return RefusalKind.FOREIGN_HOST
        return RefusalKind.FORWARDED if ask.is_forwarded else None

    def _refuse(self, kind: RefusalKind) -> Page:
        """Return the page for a request that is refused, and count why: 403 or 503, empty."""
        self._metrics.refusals.add(kind)
        return empty_page(503 if kind is RefusalKind.OVER_LIMIT else 403)

    def page_for_garbage(self, status: int, error: BaseException | None) -> Page:  # noqa: ARG002  any is alike
        """Return the page for what is not HTTP: aiohttp's status and nothing else."""
        return empty_page(status)

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        ask = ask_of(request)
        label, target = self._read_path(ask.path)
        kind = self._objection(ask, connection)
        is_over = kind is None and not self._limits.allow_request(connection.allowance)
        if is_over:
            kind = RefusalKind.OVER_LIMIT
        if kind is not None:
            response = Answer(Reply(self._refuse(kind)))
        else:
            response = Answer(await self._answer_admitted(request, ask, connection, target))
        if is_over:
            # Who asks too often has to connect again, which a caller may do so many times a second.
            response.force_close()
        self._requests[label, response.status] += 1
        return response

    @abstractmethod
    def _read_path(self, path: str) -> tuple[StrEnum, Target]:
        """Return the label of the request counter for a path, and what it asks for."""

    @abstractmethod
    async def _answer_admitted(
        self, request: web.BaseRequest, ask: Ask, connection: Connection, target: Target
    ) -> Reply:
        """Return the answer to a request that may ask."""


@cache
def empty_page(status: int, allow: str | None = None) -> Page:
    """Return a page without a body; `allow` names the methods that a 405 allows."""
    return render_page(status, Allow=allow) if allow else render_page(status)
