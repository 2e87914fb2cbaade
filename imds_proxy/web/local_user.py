"""Who is asking over a unix socket: the user who opened it, as the kernel says and NSS names them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imds_proxy import nss
from imds_proxy.errors import Trouble
from imds_proxy.web.identity import NotIdentified, check_user
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from aiohttp import web

    from imds_proxy.daemon_threads import DaemonThreads
    from imds_proxy.web.edge.connection import Connection

NAME_PATIENCE = 5.0
"""Seconds that NSS has for the name of a uid."""

_OVERFLOW_UID = 65534
"""Stands for every user that the kernel can't name here: those of other user namespaces."""


class LocalUser:
    """Takes the user from the socket itself."""

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads

    async def user_of(self, request: web.BaseRequest, connection: Connection) -> str:
        """Return the login name of whoever opened the socket. Raises NotIdentified or Trouble."""
        peer = peer_of(request.transport, connection.peer)
        if peer.uid is None:
            raise NotIdentified("the request came over no unix socket")
        return await self.name_of(peer.uid)

    async def name_of(self, uid: int) -> str:
        """Return the login name of a uid. Raises NotIdentified or Trouble."""
        if uid == _OVERFLOW_UID:
            raise NotIdentified(f"the uid {uid} stands for users that the kernel can't name")
        try:
            async with asyncio.timeout(NAME_PATIENCE):
                name = await self._threads.run(lambda: nss.find_user_name(uid))
        except TimeoutError:
            raise Trouble(f"no name of the uid {uid} in {NAME_PATIENCE:.0f} s") from None
        except OSError as error:
            raise Trouble(f"NSS can't say the name of the uid {uid}: {error.strerror}") from error
        if name is None:
            raise NotIdentified(f"the uid {uid} has no name")
        return check_user(name)
