"""A credential cache with a counted STS, in virtual time."""

from __future__ import annotations

import asyncio
import zlib
from ipaddress import IPv4Address
from itertools import pairwise
from typing import TYPE_CHECKING

from imds_proxy.cache import CredentialCache
from tests.standins.sts import ROLE_SESSION, CountedSts
from tests.standins.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.cache import Entry
    from imds_proxy.model import Credentials, RoleSession
    from imds_proxy.turn_queue import Caller


def caller_of(session: RoleSession) -> Caller:
    """Return the caller who has a session: one in a network of its own."""
    return IPv4Address(zlib.crc32(session.session_name.encode()) & 0xFFFFFFF0)


class Vault:
    """Asks as callers do. `refused` has the renewals that were reported as refused."""

    def __init__(self, *, spread: float | Callable[[], float] = 0.0, most_entries: int = 100) -> None:
        self.clock = VirtualClock()
        self.sts = CountedSts(self.clock)
        self.refused: list[RoleSession] = []
        self.cache = CredentialCache(
            self.clock.clock(),
            on_renewal_refused=lambda session, _: self.refused.append(session),
            spread=spread if callable(spread) else lambda: spread,
            most_entries=most_entries,
        )

    def entry(self, session: RoleSession = ROLE_SESSION, caller: Caller | None = None) -> Entry:
        """Return the entry of a role session, asked for now."""
        return self.cache.entry(session, self.sts, caller or caller_of(session))

    async def fetch(
        self, session: RoleSession = ROLE_SESSION, caller: Caller | None = None
    ) -> Credentials | None:
        """Ask STS if that is allowed now, and return what is usable then."""
        entry = self.entry(session, caller)
        flight = self.cache.begin_flight(entry, entry.caller)
        if flight is not None:
            await asyncio.wait((flight,))
        return self.cache.usable(entry)

    def hand_out(self) -> str | None:
        """Ask as a ROLE does: return the access key held; starts a renewal if one is due, waits for none."""
        entry = self.entry()
        self.cache.renew_if_due(entry)
        credentials = self.cache.usable(entry)
        return credentials.access_key if credentials else None

    def seconds_between_calls(self) -> list[float]:
        """Return the pauses between the calls of STS."""
        return [round(later - earlier, 3) for earlier, later in pairwise(self.sts.called_at)]
