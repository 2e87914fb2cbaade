"""The open listeners, for machines and for people: what answers on them, how they close without loss."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from imds_proxy.activation import ADVICE
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.config import ListenSettings, PeopleListenSettings
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import OverloadError
from imds_proxy.sockets import (
    ACCEPTS_PER_ROUND,
    BACKLOG,
    ListenError,
    bound_address,
    open_listener,
    open_unix_listener,
    prepare_connections,
)
from imds_proxy.tls import Certificate, CertificateError, read_certificate
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.tls_server import TLSServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.activation import PassedSockets
    from imds_proxy.config import CertificateSettings, Settings, SocketAddress
    from imds_proxy.site import Site
    from imds_proxy.web.edge.open_connections import OpenConnections
    from imds_proxy.web.edge.service import Service

DRAIN_SECONDS = 0.5
"""For what was accepted before the signal but not read yet."""

_LOOKS_WHILE_DRAINING = 10
"""Whoever waits for a successor is not kept waiting when the last connection has ended."""

FINISH_SECONDS = 1.5
"""For answers that are still being waited for, and once more for those that then have to be cut off."""

CERTIFICATE_PAUSE = 2.0
"""Seconds between two looks at the files of certificates."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket that nobody serves yet."""

    listen: ListenSettings | PeopleListenSettings
    sock: socket.socket
    certificate: Certificate | None
    is_passed: bool = False
    """Whether systemd opened it, and keeps it open when we end."""


@dataclass(slots=True)
class _Open:
    listen: ListenSettings | PeopleListenSettings
    sock: socket.socket
    listener: Listener
    server: asyncio.Server | TLSServer
    certificate: Certificate | None
    is_passed: bool
    told: str | None = None
    """What was said last of a certificate that could not be taken."""
    told_crl_end: float | None = None
    """The end of a CRL that was said last to be over."""


def bind(settings: Settings, passed: PassedSockets | None = None) -> list[Bound]:
    """Return the sockets of all listeners, listening: those that systemd has passed, or our own.

    Raises ListenError for the first that can't be had, ActivationError when those passed are others.
    """
    sockets = [_bind(listen, passed) for listen in _all_of(settings)]
    if passed is not None:
        passed.check_all_taken()
    return sockets


class Listeners:
    """All that callers connect to."""

    def __init__(self, open_connections: OpenConnections) -> None:
        self._connections = open_connections
        self._open: list[_Open] = []

    def __len__(self) -> int:
        """Return how many listeners there are."""
        return len(self._open)

    @property
    def _is_activated(self) -> bool:
        return any(one.is_passed for one in self._open)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(len(one.listener.connections) for one in self._open)

    @property
    def crl_end(self) -> float | None:
        """When the first CRL ends, seconds UTC since 1970; None without one."""
        ends = [one.listener.crl_end for one in self._open if one.listener.crl_end is not None]
        return min(ends, default=None)

    async def start(self, sockets: list[Bound], site: Site) -> None:
        """Let the site answer on the sockets, and say so on stderr for each."""
        for bound in sockets:
            listener = listener_of(bound, site.service_for(bound.listen), self._connections)
            server = await open_server(listener, bound)
            self._open.append(
                _Open(bound.listen, bound.sock, listener, server, bound.certificate, bound.is_passed)
            )
            announce(f"listening {bound_address(bound.sock)}")

    def hand_over(self, site: Site, settings: Settings) -> None:
        """Put another site behind the open sockets. One whose address is gone lets nobody in from now on."""
        left = list(_all_of(settings))
        needs = f"needs another socket unit: {ADVICE}" if self._is_activated else "needs a restart"
        for one in self._open:
            # Several may have the same address with port 0: then it goes by their order.
            listen = next((each for each in left if _place_of(each) == _place_of(one.listen)), None)
            if listen is None:
                one.listener.shut_out()
                _log.warning(
                    "%s is no longer configured and lets nobody in: closing its socket %s",
                    _name_of(one.listen),
                    needs,
                )
                continue
            left.remove(listen)
            _take_settings_of_tls(one, listen)
            one.listen = listen
            one.listener.service = site.service_for(listen)
        for listen in left:
            _log.warning("%s is not open yet: %s", _name_of(listen), needs)

    async def watch_certificates(self) -> None:
        """Take over certificates that were renewed in their files, until cancelled.

        Files are read on a thread: one that hangs in a dead file system holds up nobody but this.
        """
        threads = DaemonThreads("certificates", most=1, longest_line=1)
        while True:
            await asyncio.sleep(CERTIFICATE_PAUSE)
            for one in self._open:
                certificate = one.certificate
                if certificate is None:
                    continue
                try:
                    found = await threads.run(partial(_read_if_changed, certificate))
                except (CertificateError, OverloadError) as error:
                    _keep_certificate(one, str(error))
                else:
                    if one.certificate is certificate:  # no reload was faster
                        _take_certificate(one, found)
                _warn_of_crl(one)

    async def stop_accepting(self) -> None:
        """Take in what waits in the kernel's line, and nothing more. Every answer ends its connection now.

        What waits at a socket that systemd passed stays there: whoever comes after us takes it.
        """
        await self._accept_the_waiting()
        for one in self._open:
            asyncio.get_running_loop().remove_reader(one.sock)
        await _let_the_accepted_in()  # asyncio drops those that its server has not seen before it closes
        for one in self._open:
            one.server.close()
            one.listener.is_draining = True
        await _let_the_accepted_in()
        for _ in range(_LOOKS_WHILE_DRAINING):
            if not self.connections:
                break
            await asyncio.sleep(DRAIN_SECONDS / _LOOKS_WHILE_DRAINING)
        for one in self._open:
            one.listener.end_idle()

    async def close(self) -> None:
        """Finish the answers under way, within some seconds."""
        await asyncio.gather(*(one.listener.shutdown(FINISH_SECONDS) for one in self._open))

    async def _accept_the_waiting(self) -> None:
        """Empty the line: asyncio accepts all of it at once, uvloop one a round."""
        line = select.poll()
        for one in self._open:
            if not one.is_passed:
                line.register(one.sock, select.POLLIN)
        for _ in range(BACKLOG):
            if not line.poll(0):
                return
            await asyncio.sleep(0)


async def _let_the_accepted_in() -> None:
    """Let what the event loop has accepted become connections; asyncio needs three rounds, uvloop two."""
    for _ in range(4):
        await asyncio.sleep(0)


def listener_of(bound: Bound, service: Service, open_connections: OpenConnections) -> Listener:
    """Return the listener of a socket that is bound, with the service behind it."""
    listener = Listener(service, open_connections, is_local=bound.sock.family == socket.AF_UNIX)
    if bound.certificate is not None:
        listener.crl_end = bound.certificate.crl_end
    return listener


async def open_server(listener: Listener, bound: Bound) -> asyncio.Server | TLSServer:
    """Let a listener answer on a socket."""
    if not listener.is_local:
        prepare_connections(bound.sock)
    if bound.certificate is not None:
        return TLSServer(listener, bound.sock, bound.certificate.context)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(listener, sock=bound.sock, backlog=ACCEPTS_PER_ROUND)
    bound.sock.listen(BACKLOG)  # create_server takes its argument for the kernel's line too
    return server


def announce(line: str) -> None:
    """Say on stderr what a supervisor or a test waits for."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _all_of(settings: Settings) -> Iterator[ListenSettings | PeopleListenSettings]:
    yield from settings.listen
    if settings.people is not None:
        yield from settings.people.listen


def _bind(listen: ListenSettings | PeopleListenSettings, passed: PassedSockets | None) -> Bound:
    certificate = None
    if listen.address is not None:
        certificate = _certificate(listen.tls, listen.address)
    if passed is not None:
        return Bound(listen, passed.take(_path_or_address_of(listen)), certificate, is_passed=True)
    if listen.address is not None:
        return Bound(listen, open_listener(listen.address), certificate)
    assert isinstance(listen, PeopleListenSettings)
    assert listen.unix is not None
    return Bound(listen, open_unix_listener(listen.unix, mode=listen.mode, group=listen.group), None)


def _path_or_address_of(listen: ListenSettings | PeopleListenSettings) -> SocketAddress | Path:
    place = listen.address if isinstance(listen, ListenSettings) else listen.address or listen.unix
    assert place is not None
    return place


def _certificate(settings: CertificateSettings | None, address: SocketAddress) -> Certificate | None:
    if settings is None:
        return None
    try:
        return read_certificate(settings)
    except CertificateError as error:
        raise ListenError(f"cannot listen on {address}: {error}") from error


def _place_of(listen: ListenSettings | PeopleListenSettings) -> tuple[bool, SocketAddress | Path]:
    """Return what an open socket can't change: whom it is for (True: machines), and what it is bound to."""
    return isinstance(listen, ListenSettings), _path_or_address_of(listen)


def _name_of(listen: ListenSettings | PeopleListenSettings) -> str:
    is_for_machines, place = _place_of(listen)
    return f"{'listen' if is_for_machines else 'people.listen'}: {place}"


def _take_settings_of_tls(one: _Open, listen: ListenSettings | PeopleListenSettings) -> None:
    """Take over other files, and at once what is in the files; a switch to or from TLS needs a restart."""
    if (one.certificate is None) != (listen.tls is None):
        _log.warning("%s: tls has come or gone: needs a restart", _name_of(listen))
    elif one.certificate is not None and listen.tls is not None:
        certificate = replace(one.certificate, settings=listen.tls)
        if listen.tls != one.certificate.settings:
            certificate = replace(certificate, state=())  # other files, none of which was read
        one.certificate = certificate
        try:
            _take_certificate(one, _read_if_changed(certificate))
        except CertificateError as error:
            _keep_certificate(one, str(error))


def _read_if_changed(certificate: Certificate) -> Certificate:
    return certificate if certificate.is_current() else read_certificate(certificate.settings)


def _take_certificate(one: _Open, certificate: Certificate) -> None:
    one.told = None
    if certificate is one.certificate:
        return
    assert isinstance(one.server, TLSServer)
    before, one.certificate = one.certificate, certificate
    one.server.context = certificate.context
    one.listener.crl_end = certificate.crl_end
    _log.info("%s: the certificate has changed", _name_of(one.listen))
    if before is not None and before.clients != certificate.clients:
        one.listener.distrust_certificates()
        text = "client_ca or crl has changed: connections with a client certificate end"
        _log.info("%s: %s", _name_of(one.listen), text)


def _warn_of_crl(one: _Open) -> None:
    end = one.listener.crl_end
    if end is not None and end <= SYSTEM_CLOCK.wall() and end != one.told_crl_end:
        one.told_crl_end = end
        _log.warning("%s: tls.crl has ended: no client certificate counts", _name_of(one.listen))


def _keep_certificate(one: _Open, why: str) -> None:
    if why != one.told:
        one.told = why
        _log.warning("%s: the old certificate is kept: %s", _name_of(one.listen), why)
