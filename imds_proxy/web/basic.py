"""Who is asking by HTTP Basic (RFC 7617): a login name and a password that a directory confirms."""

from __future__ import annotations

import asyncio
import os
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from cachetools import TTLCache

from imds_proxy.directory.verify import AccountLocked
from imds_proxy.errors import Trouble
from imds_proxy.web.controls import has_controls
from imds_proxy.web.identity import LoginFailure, NotIdentified, check_user
from imds_proxy.web.login_throttle import DEFAULT_LOCKOUT, LoginThrottled
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from imds_proxy.clock import Clock
    from imds_proxy.daemon_threads import DaemonThreads
    from imds_proxy.web.edge.connection import Connection
    from imds_proxy.web.login_throttle import Bound, LoginThrottle, Try
    from imds_proxy.web.peer import Peer

SUCCESS_MEMORY = 60.0
"""Seconds for which a right password need not be confirmed again."""

MOST_SUCCESSES = 4096

_CHALLENGE = 'Basic realm="imds-proxy", charset="UTF-8"'


@dataclass(frozen=True, slots=True)
class Login:
    """What somebody claims."""

    user: str
    password: str = field(repr=False)


class BasicSignOn:
    """Asks a directory whether a password is somebody's, not more often than needed."""

    def __init__(
        self,
        verify: Callable[[str, str], str | None],
        *,
        patience: float,
        threads: DaemonThreads,
        throttle: LoginThrottle,
        lockout: Bound = DEFAULT_LOCKOUT,
        clock: Clock,
    ) -> None:
        """`verify` blocks; it returns the login name as the directory spells it, None for a no.

        It has `patience` seconds, and raises AccountLocked. `lockout` bounds the failures of one user.
        """
        self._verify = verify
        self._patience = patience
        self._threads = threads
        self._throttle = throttle
        self._lockout = lockout
        self._checks: set[asyncio.Task[str]] = set()
        self._key = os.urandom(32)
        self._successes: TTLCache[bytes, str] = TTLCache(MOST_SUCCESSES, SUCCESS_MEMORY, clock.monotonic)

    @property
    def size(self) -> int:
        """How many logins are remembered."""
        return len(self._successes)

    async def user_of(self, request: web.BaseRequest, connection: Connection) -> str:
        """Return who has logged in. Raises NotIdentified, or Trouble when the directory does not answer."""
        peer = peer_of(request.transport, connection.peer)
        try:
            login = parse_authorization(request.headers.getall("Authorization", ()))
            return await self.log_in(login, peer)
        except LoginThrottled:
            raise
        except NotIdentified as unknown:
            unknown.challenge = _CHALLENGE
            raise

    async def log_in(self, login: Login, peer: Peer) -> str:
        """Return the name of who has logged in from `peer`. Raises NotIdentified or Trouble."""
        fingerprint = self._fingerprint(login)
        known = self._successes.get(fingerprint)
        if known is not None:
            self._throttle.note_success(peer, login.user)
            return known
        one_try = await self._throttle.begin(peer, login.user, self._lockout)
        # A task of its own: the directory counts the failures of callers who hang up as well.
        check = asyncio.create_task(self._check(login, fingerprint, one_try))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)
        return await asyncio.shield(check)

    async def _check(self, login: Login, fingerprint: bytes, one_try: Try) -> str:
        with one_try:
            name = self._successes.get(fingerprint)
            if name is None:
                name = check_user(await self._confirm(login, one_try))
                self._successes[fingerprint] = name
            one_try.succeed()
            return name

    async def _confirm(self, login: Login, one_try: Try) -> str:
        """Return the name of who has logged in. Raises NotIdentified, when it may be told, or Trouble."""
        try:
            name = await self._ask(login)
        except AccountLocked as locked:
            await one_try.fail()
            raise NotIdentified(str(locked), user=login.user, failure=LoginFailure.LOCKED) from None
        if name is None:
            await one_try.fail()
            reason = "no such user, or a wrong password"
            raise NotIdentified(reason, user=login.user, failure=LoginFailure.WRONG_PASSWORD)
        return name

    async def _ask(self, login: Login) -> str | None:
        try:
            async with asyncio.timeout(self._patience):
                return await self._threads.run(lambda: self._verify(login.user, login.password))
        except TimeoutError:
            raise Trouble(f"the directory has not answered in {self._patience:g} s") from None

    def _fingerprint(self, login: Login) -> bytes:
        user = login.user.encode("utf-8")
        claim = len(user).to_bytes(4, "big") + user + login.password.encode("utf-8")
        return blake2b(claim, key=self._key, digest_size=32).digest()


def parse_authorization(values: list[str] | tuple[str, ...]) -> Login:
    """Return what an Authorization header, all its values, claims. Raises NotIdentified.

    An empty name or password claims nothing: a directory takes an empty password for a bind as nobody, which
    succeeds.
    """
    if not values:
        raise NotIdentified("no Authorization header", is_attempt=False)
    scheme, _, encoded = values[0].partition(" ")
    if len(values) != 1 or scheme.lower() != "basic":
        raise NotIdentified("the Authorization header is no HTTP Basic")
    user, colon, password = _decode(encoded.strip(" ")).partition(":")
    if not colon or has_controls(password):
        raise NotIdentified("the Authorization header has no name and password")
    if not password:
        raise NotIdentified("the password is empty")
    return Login(check_user(user), password)


def _decode(encoded: str) -> str:
    try:
        raw = b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeError, Base64Error):
        raise NotIdentified("the Authorization header is no base64") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # What `requests`, and with it `afp`, sends whatever the challenge says.
        return raw.decode("latin-1")
