"""POST /token on the admin socket: a token for a workload, for `imds-proxy token`."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from imds_proxy.config.values import parse_network
from imds_proxy.names import parse_workload
from imds_proxy.web.peer import peer_of
from imds_proxy.workload_tokens import LONGEST_LIFE, MOST_NETWORKS, SHORTEST_LIFE, Claims, id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.clock import Clock
    from imds_proxy.workload_tokens import WorkloadTokens

_log = logging.getLogger(__name__)


class Signing(Protocol):
    """What a site says of tokens."""

    @property
    def workload_tokens(self) -> WorkloadTokens:
        """The keys of workloads' tokens."""

    @property
    def takes_workload_tokens(self) -> bool:
        """Whether any listener takes them."""


class TokenDesk:
    """Mints tokens under the keys of whatever site is in force."""

    def __init__(self, site: Callable[[], Signing], is_key_kept: Callable[[], bool], clock: Clock) -> None:
        """`is_key_kept` tells whether the key that signs outlives this process."""
        self._site = site
        self._is_key_kept = is_key_kept
        self._clock = clock

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Return the token, its id, its end and what is odd about it; 400 for what is no order for one."""
        try:
            claims = parse_order(await request.text(), self._clock.wall())
            site = self._site()
            token = site.workload_tokens.issue(claims)
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        token_id = id_of(token)
        end = datetime.fromtimestamp(claims.end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        origin = ", ".join(map(str, claims.networks)) or "anywhere"
        asker = peer_of(request.transport, None).caller
        _log.info(
            "minted the token %s for %s, from %s, until %s, asked by %s",
            token_id,
            claims.workload,
            origin,
            end,
            asker,
        )
        warnings = []
        if not site.takes_workload_tokens:
            warnings.append("no listener of this daemon takes it: none has container with a token")
        if not self._is_key_kept():
            warnings.append("it ends with the daemon's process: tokens.workload_key_file is not set")
        return web.json_response(
            {"token": token, "id": token_id, "expiration": end, "warnings": warnings},
            headers={"Cache-Control": "no-store"},
        )


def parse_order(text: str, now: float) -> Claims:
    """Return what a token is wanted for. Raises ValueError saying what to write instead."""
    try:
        order = json.loads(text)
        workload, networks, seconds = order["workload"], order["networks"], order["seconds"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("not a JSON object with workload, networks and seconds") from None
    name = parse_workload(workload) if isinstance(workload, str) else None
    if name is None:
        raise ValueError("workload: reads like a host name, such as web.pods.example")
    if not isinstance(networks, list) or not all(isinstance(network, str) for network in networks):
        raise ValueError("networks: not a list of texts")
    if len(networks) > MOST_NETWORKS:
        raise ValueError(f"networks: {MOST_NETWORKS} at most")
    if type(seconds) is not int or not SHORTEST_LIFE <= seconds <= LONGEST_LIFE:
        raise ValueError(f"seconds: {SHORTEST_LIFE} to {LONGEST_LIFE}")
    return Claims(name, tuple(parse_network(network) for network in networks), int(now) + seconds)
