"""The open listeners, for machines and for people: what answers on them, how they close without loss."""

from __future__ import annotations

import asyncio
import logging
import select
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.config import ListenSettings
from imds_proxy.sockets import (
    ACCEPTS_PER_ROUND,
    BACKLOG,
    ListenError,
    bound_address,
    open_listener,
    open_unix_listener,
)
from imds_proxy.tls import HANDSHAKE_SECONDS, load_certificate, server_context
from imds_proxy.web.listener import Listener

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.config import PeopleListenSettings, Settings, SocketAddress, TLSSettings
    from imds_proxy.site import Site
    from imds_proxy.web.limits import CallerLimits

DRAIN_SECONDS = 0.5
"""For what was accepted before the signal but not read yet."""

FINISH_SECONDS = 1.5
"""For answers that are still being waited for, and once more for those that then have to be cut off."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket that nobody serves yet."""

    listen: ListenSettings | PeopleListenSettings
    sock: socket.socket
    tls: ssl.SSLContext | None


@dataclass(slots=True)
class _Open:
    listen: ListenSettings | PeopleListenSettings
    listener: Listener
    server: asyncio.Server
    tls: ssl.SSLContext | None


def bind(settings: Settings) -> list[Bound]:
    """Return the sockets of all listeners, listening. Raises ListenError for the first that can't be had."""
    return [_bind(listen) for listen in _all_of(settings)]


class Listeners:
    """All that callers connect to."""

    def __init__(self, limits: CallerLimits) -> None:
        self._limits = limits
        self._open: list[_Open] = []

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(one.listener.open_connections for one in self._open)

    async def start(self, sockets: list[Bound], site: Site) -> None:
        """Let the site answer on the sockets, and say so on stderr for each."""
        loop = asyncio.get_running_loop()
        for bound in sockets:
            listener = Listener(site.service_for(bound.listen), self._limits)
            server = await loop.create_server(
                listener,
                sock=bound.sock,
                backlog=ACCEPTS_PER_ROUND,
                ssl=bound.tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if bound.tls else None,
            )
            bound.sock.listen(BACKLOG)  # create_server takes its argument for the kernel's line too
            self._open.append(_Open(bound.listen, listener, server, bound.tls))
            announce(f"listening {bound_address(bound.sock)}")

    def hand_over(self, site: Site, settings: Settings) -> None:
        """Put another site behind the open sockets. One whose address is gone keeps its own settings."""
        left = list(_all_of(settings))
        for one in self._open:
            # Several may have the same address with port 0: then it goes by their order.
            listen = next((each for each in left if _place_of(each) == _place_of(one.listen)), None)
            if listen is None:
                listen = one.listen
                _log.warning("%s is no longer configured: needs a restart", _name_of(listen))
            else:
                left.remove(listen)
                _renew_certificate(one, listen)
            one.listen = listen
            try:
                one.listener.service = site.service_for(listen)
            except KeyError:
                one.listener.service = one.listener.service.closed()
        for listen in left:
            _log.warning("%s is not open yet: needs a restart", _name_of(listen))

    async def stop_accepting(self) -> None:
        """Take in what waits in the kernel's line, and nothing more. Every answer ends its connection now."""
        await self._accept_the_waiting()
        for one in self._open:
            one.server.close()
            one.listener.is_draining = True
        await asyncio.sleep(0)  # in which the last ones accepted become connections
        if self.connections:
            await asyncio.sleep(DRAIN_SECONDS)
        for one in self._open:
            one.listener.pre_shutdown()  # ends idle connections, which `shutdown` would wait for

    async def close(self) -> None:
        """Finish the answers under way, within some seconds."""
        await asyncio.gather(*(one.listener.shutdown(FINISH_SECONDS) for one in self._open))

    async def _accept_the_waiting(self) -> None:
        """Empty the line: asyncio accepts all of it at once, uvloop one a round."""
        line = select.poll()
        for one in self._open:
            for sock in one.server.sockets:
                line.register(sock, select.POLLIN)
        for _ in range(BACKLOG):
            if not line.poll(0):
                return
            await asyncio.sleep(0)


def announce(line: str) -> None:
    """Say on stderr what a supervisor or a test waits for."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _all_of(settings: Settings) -> Iterator[ListenSettings | PeopleListenSettings]:
    yield from settings.listen
    if settings.people is not None:
        yield from settings.people.listen


def _bind(listen: ListenSettings | PeopleListenSettings) -> Bound:
    if isinstance(listen, ListenSettings):
        return Bound(listen, open_listener(listen.address), None)
    if listen.unix is not None:
        return Bound(listen, open_unix_listener(listen.unix, mode=listen.mode, group=listen.group), None)
    assert listen.address is not None
    tls = _context(listen.tls, listen.address) if listen.tls is not None else None
    return Bound(listen, open_listener(listen.address), tls)


def _context(settings: TLSSettings, address: SocketAddress) -> ssl.SSLContext:
    try:
        return server_context(settings)
    except (OSError, ValueError) as error:
        raise ListenError(f"cannot listen on {address}: {settings.certificate}: {error}") from error


def _place_of(listen: ListenSettings | PeopleListenSettings) -> tuple[bool, SocketAddress | Path | None]:
    """Return what an open socket can't change: whom it is for (True: machines), and what it is bound to."""
    if isinstance(listen, ListenSettings):
        return True, listen.address
    return False, listen.address or listen.unix


def _name_of(listen: ListenSettings | PeopleListenSettings) -> str:
    is_for_machines, place = _place_of(listen)
    return f"{'listen' if is_for_machines else 'people.listen'}: {place}"


def _renew_certificate(one: _Open, listen: ListenSettings | PeopleListenSettings) -> None:
    """Take over a certificate that was renewed in its files; what else TLS needs is fixed at the start."""
    if isinstance(listen, ListenSettings) or isinstance(one.listen, ListenSettings):
        return
    if (one.tls is None) != (listen.tls is None) or (
        listen.tls and one.listen.tls and listen.tls.client_ca != one.listen.tls.client_ca
    ):
        _log.warning("%s: tls has changed: needs a restart", _name_of(listen))
    elif one.tls is not None and listen.tls is not None:
        try:
            load_certificate(one.tls, listen.tls)
        except (OSError, ValueError) as error:
            _log.warning("%s: the old certificate is kept: %s", _name_of(listen), error)
