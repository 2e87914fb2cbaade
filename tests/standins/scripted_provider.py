"""A provider that answers what a test tells it to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imds_proxy.model import Grant
from imds_proxy.provider import Caller, Provider, ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

GRANT = Grant("main", "roleprefix-tuvfoo", "told to")


class ScriptedProvider(Provider[ProviderSettings]):
    """Gives `grants`, or raises `failure`, after `seconds`. It asks for no names."""

    settings_model = ProviderSettings

    def __init__(self, grants: Iterable[Grant] = (GRANT,)) -> None:
        super().__init__(ProviderSettings())
        self.grants = frozenset(grants)
        self.failure: BaseException | None = None
        self.seconds = 0.0
        self.callers: list[str] = []
        self.logins: dict[str, frozenset[str]] = {}
        """By user; the name itself where there is none."""
        self.logins_error: BaseException | None = None

    async def logins_of(self, caller: Caller) -> frozenset[str]:
        """Return what it was told to."""
        if self.logins_error is not None:
            raise self.logins_error
        return self.logins.get(caller.user or "") or await super().logins_of(caller)

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return what it was told to."""
        self.callers.append(str(caller.address))
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return self.grants
