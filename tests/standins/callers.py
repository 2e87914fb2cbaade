"""A caller whose names are given, for tests of providers: no socket, no DNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal
from imds_proxy.model import canonical_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_proxy.model import IPAddress
    from imds_proxy.names import AllowedDomains


class NamedCaller:
    """Fulfils `provider.Caller`: confirms the given names that lie in the domains asked for.

    `trouble` is raised instead of an answer. `look_ups` has the domains of every question.
    """

    def __init__(
        self,
        address: str,
        names: Iterable[str] = (),
        *,
        workload: str | None = None,
        trouble: Exception | None = None,
    ) -> None:
        self._address = canonical_address(address)
        self._names = tuple(names)
        self.workload = workload
        self._trouble = trouble
        self.look_ups: list[AllowedDomains] = []

    @property
    def address(self) -> IPAddress:
        """The address, IPv4-mapped IPv6 as IPv4."""
        return self._address

    @property
    def user(self) -> None:
        """No login name: this is a machine."""
        return None

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Return the given names in `domains`, sorted. Raises `trouble`, or Refusal where none is left."""
        self.look_ups.append(domains)
        if self._trouble is not None:
            raise self._trouble
        names = tuple(sorted(name for name in self._names if domains.allow(name)))
        if not names:
            raise Refusal(f"{self.address} has no confirmed name")
        return names
