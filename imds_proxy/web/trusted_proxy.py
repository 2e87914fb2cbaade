"""Who is asking, as a proxy in front of us says it: only one that is trusted and has proved itself."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from imds_proxy.web.identity import LoginFailure, NotIdentified, check_user
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web
    from multidict import CIMultiDictProxy

    from imds_proxy.clock import Clock
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.login_throttle import LoginThrottle
    from imds_proxy.web.peer import Peer


class TrustedProxy:
    """Takes the user from a header of whoever may say it.

    Over TCP that is a trusted address that also shows the secret or a client certificate: an address alone
    can be shared, or be taken by another process of the same host. Over a unix socket it is a trusted uid.
    """

    def __init__(
        self,
        header: str,
        *,
        trusted: Iterable[IPv4Network | IPv6Network | int],
        secret: str | None,
        secret_header: str,
        clock: Clock,
        throttle: LoginThrottle | None = None,
    ) -> None:
        """`throttle` holds back the answers to wrong secrets."""
        known = tuple(trusted)
        self._header = header
        self._networks = tuple(one for one in known if not isinstance(one, int))
        self._uids = frozenset(one for one in known if isinstance(one, int))
        self._secret = _bytes_of(secret) if secret else None
        self._secret_header = secret_header
        self._clock = clock
        self._throttle = throttle
        self._pauses: set[asyncio.Task[None]] = set()

    async def user_of(self, request: web.BaseRequest, connection: Connection) -> str:
        """Return the user that the proxy names. Raises NotIdentified, after a pause for a wrong secret."""
        peer = peer_of(request.transport, connection.peer)
        # A connection may be older than the end of its certificate.
        has_certificate = peer.has_certificate and connection.check_certificate(self._clock.wall())
        peer = replace(peer, has_certificate=has_certificate)
        try:
            return self.read(request.headers, peer)
        except NotIdentified as unknown:
            if unknown.failure is LoginFailure.WRONG_PROOF and self._throttle is not None:
                # A task of its own: hanging up does not shorten it.
                pause = asyncio.create_task(_pause(self._throttle, peer))
                self._pauses.add(pause)
                pause.add_done_callback(self._pauses.discard)
                await asyncio.shield(pause)
            raise

    def read(self, headers: CIMultiDictProxy[str], peer: Peer) -> str:
        """Return the user that `peer` names in the headers of a request. Raises NotIdentified."""
        values = headers.getall(self._header, ())
        if not self._trusts(headers, peer):
            if self._is_trusted_address(peer) and self._secret_header in headers:
                reason = f"{peer.caller} shows a wrong secret"
                raise NotIdentified(reason, failure=LoginFailure.WRONG_PROOF)
            reason = f"{peer.caller} is no trusted proxy, or has not proved it"
            raise NotIdentified(reason, is_attempt=bool(values))
        if len(values) != 1:
            raise NotIdentified(f"{self._header} came {len(values)} times, not once")
        if "," in values[0]:
            # RFC 9110 section 5.3: whoever passes a repeated header on may join the values like this.
            raise NotIdentified(f"{self._header} has several values")
        return check_user(values[0].strip(" \t"))

    def _trusts(self, headers: CIMultiDictProxy[str], peer: Peer) -> bool:
        if peer.is_local:
            return peer.uid in self._uids
        if not self._is_trusted_address(peer):
            return False
        return peer.has_certificate or self._shows_secret(headers)

    def _is_trusted_address(self, peer: Peer) -> bool:
        return peer.address is not None and any(peer.address in network for network in self._networks)

    def _shows_secret(self, headers: CIMultiDictProxy[str]) -> bool:
        shown = headers.getall(self._secret_header, ())
        if self._secret is None or len(shown) != 1:
            return False
        return hmac.compare_digest(_bytes_of(shown[0]), self._secret)


async def _pause(throttle: LoginThrottle, peer: Peer) -> None:
    with await throttle.begin(peer, "", None) as one_try:
        await one_try.fail()


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
