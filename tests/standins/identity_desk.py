"""Identities over a table of names, in virtual time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from imds_proxy.caller import MOST_IDENTITIES, Identities
from imds_proxy.model import canonical_address
from imds_proxy.names import AllowedDomains
from tests.standins.name_servers import TableResolver
from tests.standins.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imds_proxy.caller import Identity

ADDRESS = "10.0.0.5"
NAME = "tuvfoo42.valid.example"
OTHER_NAME = "tuvbar42.valid.example"
VALID = AllowedDomains.parse(["valid.example"])
ANY_AGE = float("-inf")
STALE = 900.0
DEADLINE = 2.0


class Desk:
    """Asks about addresses as providers do. What DNS says is set in `dns`."""

    def __init__(
        self, *, hosts: Mapping[str, str] | None = None, stale: float = STALE, most: int = MOST_IDENTITIES
    ) -> None:
        self.dns = TableResolver()
        self.outcomes: Counter[str] = Counter()
        """How many look-ups ended how."""
        self.clock = VirtualClock()
        self.identities = Identities(
            self.dns,
            {canonical_address(address): name for address, name in (hosts or {}).items()},
            deadline=DEADLINE,
            stale=stale,
            clock=self.clock.clock(),
            most=most,
            observe=lambda outcome, _: self.outcomes.update([outcome]),
        )

    async def identify(self, address: str = ADDRESS, *, not_before: float = ANY_AGE) -> Identity:
        """Return what is known of an address."""
        return await self.identities.identify(canonical_address(address), VALID, not_before=not_before)

    async def look_again(self, address: str = ADDRESS) -> Identity:
        """Return what DNS says now."""
        return await self.identify(address, not_before=self.clock.monotonic())

    async def names(self, address: str = ADDRESS, *, not_before: float = ANY_AGE) -> tuple[str, ...]:
        """Return the names as a provider gets them. Raises Refusal or ResolutionError."""
        asking = self.identities.caller(canonical_address(address), not_before=not_before)
        return await asking.confirmed_names(VALID)
