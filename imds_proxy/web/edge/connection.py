"""A connection: both its ends, whose it is, and how long it may stay."""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from imds_proxy.model import canonical_address
from imds_proxy.web.edge import timeouts
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.model import IPAddress
    from imds_proxy.standing import Standing
    from imds_proxy.web.edge.limits import Allowance
    from imds_proxy.web.edge.listener import Listener
    from imds_proxy.web.edge.service import Service


class Connection(asyncio.BufferedProtocol, ABC):
    """One connection of a listener, as services know it. `Conversation` adds what is said on it."""

    __slots__ = (
        "_hops",
        "_local_host",
        "allowance",
        "hang_up",
        "has_asked",
        "has_ended",
        "is_distrusted",
        "is_dropped",
        "is_encrypted",
        "is_holding",
        "is_unread",
        "listener",
        "open",
        "peer",
        "queue",
        "service",
        "standing",
        "transport",
        "turned_away",
        "verified_token",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.open = listener.open
        self.transport: asyncio.Transport | None = None
        """None before its TLS handshake is over."""
        self.peer: IPAddress | None = None
        """None of a connection over a unix socket, and of one that is gone already."""
        self.hang_up: Callable[[], object] = _do_nothing
        """Ends the connection at once, without a word."""
        self.allowance: Allowance | None = None
        """What its caller has left; None: it does not count as a caller's."""
        self.turned_away: str | None = None
        """Why it only stays to hear 403 or 503: `stranger` or `excess`."""
        self.queue: dict[Connection, float] | None = None
        """Of the timeouts: the queue that it stands in."""
        self.service: Service | None = None
        """The service that has judged the peer; another one (after a reload) judges again."""
        self.standing: Standing | None = None
        self.verified_token: tuple[str, int] | None = None
        """The last IMDS token that was issued or found good here, and its end in seconds UTC."""
        self.has_asked = False
        self.has_ended = False
        self.is_dropped = False
        """Whether it was ended by us, perhaps before it was made."""
        self.is_distrusted = False
        """Whether a client certificate that was shown counts no more. Every answer is the last then."""
        self.is_encrypted = False
        """Whether it counts as a connection with TLS."""
        self.is_holding = False
        """Whether its head counts in the budget of heads."""
        self.is_unread = False
        """Whether the peer has not taken all of an answer yet."""
        self._local_host: str | None = None
        self._hops = 0

    @property
    def is_local(self) -> bool:
        """Whether it came over a unix socket."""
        return self.listener.is_local

    @property
    def local_host(self) -> str | None:
        """The address that was connected to, as Host would name it."""
        if self._local_host is None and self.transport is not None:
            address = _address_of(self.transport.get_extra_info("sockname"))
            self._local_host = str(address) if address is not None else None
        return self._local_host

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether no answer is being made or sent."""

    @abstractmethod
    def hold_up(self, seconds: float) -> None:
        """Do nothing with what arrives for so many seconds."""

    # --- its beginning -----------------------------------------------------------------------------

    def expect(self, peer: object, hang_up: Callable[[], object]) -> float | None:
        """Admit a connection that is not encrypted yet; return after how many seconds it may begin.

        None: it must be closed. `hang_up` ends what goes on until `connection_made`.
        """
        self.hang_up = hang_up
        self.peer = _address_of(peer)
        return self._admit(is_encrypted=True) if self.open.admit_encrypted(self) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit a new connection, unless that was done before its TLS handshake."""
        is_expected = self.queue is not None
        self.transport = cast("asyncio.Transport", transport)
        self.hang_up = self.transport.abort
        # Whatever the kernel does not take at once counts as unread: see `pause_writing`. With 0, asyncio's
        # TLS would take an empty buffer for a full one.
        self.transport.set_write_buffer_limits(high=1, low=0)
        if self.is_dropped:
            self.transport.abort()
            return
        if is_expected:
            return
        if not self.is_local:
            self.peer = _address_of(transport.get_extra_info("peername"))
        delay = self._admit(is_encrypted=False)
        if delay is None:
            self.transport.abort()
        elif delay:
            self.hold_up(delay)

    def _admit(self, *, is_encrypted: bool) -> float | None:
        """Find out whose the connection is, and count it with its caller's."""
        self.service = self.listener.service
        self.listener.connections.add(self)
        allowance = self._find_allowance()
        limits = self.open.limits
        reason = None
        if not self.service.admits(self):
            reason, allowance = "stranger", limits.strangers
        elif allowance is not None and not self.open.admit(self, allowance):
            reason = "excess"
        if reason is not None and not self.open.admit_turned_away(self, reason):
            return None
        delay = 0.0
        if allowance is not None:
            patience = timeouts.MAX_DELAY_SECONDS
            if reason is not None:
                patience = timeouts.MAX_HANDSHAKE_DELAY_SECONDS if is_encrypted else 0.0
            found = limits.delay_connection(allowance, is_encrypted=is_encrypted, patience=patience)
            if found is None:
                self.open.dropped["rate"] += 1
                return None
            delay = found
        stays = timeouts.TURNED_AWAY_SECONDS if reason else timeouts.FIRST_REQUEST_SECONDS
        self.open.timeouts.start(self, stays)
        return delay

    def _find_allowance(self) -> Allowance | None:
        limits = self.open.limits
        if self.peer is not None:
            return limits.allowance_of(self.peer)
        try:
            uid = peer_of(self.transport, None).uid
        except ConnectionResetError:
            return None
        return None if uid is None else limits.allowance_of_user(uid)

    def judge_again(self, service: Service) -> None:
        """Judge the peer as a service does that a reload has put in the place of another."""
        self.service = service
        self.standing = self.verified_token = None
        is_stranger = self.turned_away is None and not service.admits(self)
        if is_stranger and not self.open.admit_turned_away(self, "stranger"):
            self.hang_up()

    # --- its end -----------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back that the connection had."""
        self.has_ended = True
        self.listener.connections.discard(self)
        if isinstance(exc, TimeoutError):
            self.open.dropped["unread"] += 1
        self.open.note_end(self)
        # Both hold the connection where there is TLS: a cycle, which only a look for garbage would free.
        self.hang_up = _do_nothing
        self.transport = None

    def forget_unless_made(self) -> None:
        """Give back a connection whose TLS handshake has come to nothing."""
        if self.transport is None and not self.has_ended:
            self.connection_lost(None)

    def time_out(self) -> None:
        """End the connection: its time is over."""
        if not self.has_asked:
            self.open.dropped[self.turned_away or "silent"] += 1
        self.hang_up()

    def close_if_idle(self) -> None:
        """End the connection unless an answer is being made or sent."""
        if self.transport is None:
            self.hang_up()
        elif self.is_idle:
            self.transport.close()

    def distrust_certificate(self) -> None:
        """Let a client certificate count no more, and end the connection after the answer under way.

        A handshake that is under way ends at once: it may be half over.
        """
        if self.transport is None or self.transport.get_extra_info("peercert"):
            self.is_distrusted = True
            self.close_if_idle()

    # --- what services make of it ------------------------------------------------------------------

    def lower_hop_limit(self, hops: int) -> None:
        """Let what this connection sends from now on travel no further than `hops`.

        It is never raised again: TCP stamps the limit when it transmits, so the retransmission of a lost
        packet would leave with the raised one and carry the token out.
        """
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if sock is None or self._hops == hops:
            return
        self._hops = hops
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)

    def check_certificate(self, now: float) -> bool:
        """Tell whether the client certificate that was shown counts at `now` (seconds UTC since 1970).

        The answer is the last of the connection if it does not count any more.
        """
        shown = None if self.transport is None else self.transport.get_extra_info("peercert")
        if not shown or self.is_distrusted:
            return False
        crl_end = self.listener.crl_end
        end = ssl.cert_time_to_seconds(shown["notAfter"])
        self.is_distrusted = now >= (end if crl_end is None else min(end, crl_end))
        return not self.is_distrusted

    def note_granted(self) -> None:
        """Note that the caller was granted a role."""
        if self.allowance is not None and not self.allowance.is_known:
            self.open.limits.note_granted(self.allowance)


def _do_nothing() -> None:
    """End nothing: there is nothing yet."""


def _address_of(name: object) -> IPAddress | None:
    """Return the address in a socket name; None for a unix socket or a connection that is gone already."""
    if isinstance(name, tuple) and name:
        try:
            return canonical_address(str(name[0]))
        except ValueError:
            return None
    return None
