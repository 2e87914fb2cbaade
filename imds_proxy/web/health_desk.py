"""GET /own-key on the admin socket: whose key it is that signs for us, for `imds-proxy doctor`.

The key is in the unit alone, so nobody else can ask STS with it. The answer has no part of it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from imds_proxy.errors import OverloadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imds_proxy.model import OwnKey


class HealthDesk:
    """Asks STS with the key of whatever site is in force."""

    def __init__(self, own_key: Callable[[], Awaitable[OwnKey]]) -> None:
        self._own_key = own_key

    async def answer(self, _: web.BaseRequest) -> web.Response:
        """Return what STS says of our own key; 503 when too many wait for STS."""
        try:
            own_key = await self._own_key()
        except OverloadError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
        return web.json_response(asdict(own_key), headers={"Cache-Control": "no-store"})
