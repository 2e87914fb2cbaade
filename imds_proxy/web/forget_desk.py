"""POST /forget on the admin socket: what is known of a host is dropped, for `imds-proxy forget`."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from imds_proxy.model import canonical_address
from imds_proxy.names import parse_host_name
from imds_proxy.web.peer import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from imds_proxy.broker import Broker
    from imds_proxy.cache import CredentialCache
    from imds_proxy.caller import Identities
    from imds_proxy.model import IPAddress, RoleSession
    from imds_proxy.standing import Standing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Memory:
    """All that remembers something of callers."""

    identities: Identities
    brokers: Collection[Broker]
    cache: CredentialCache


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much of each kind was forgotten."""

    identities: int
    verdicts: int
    sessions: int
    kept: int
    """Role sessions that stay, because callers who are not forgotten have them too."""


class ForgetDesk:
    """Forgets hosts in whatever site is in force."""

    def __init__(self, memory: Callable[[], Memory]) -> None:
        self._memory = memory

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Return how much was forgotten; 400 for what names no host."""
        try:
            host = parse_host(await request.text())
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        forgotten = forget(self._memory(), host)
        asker = peer_of(request.transport, None).caller
        _log.info(
            "forgot %s: identities %d, verdicts %d, sessions %d, asked by %s",
            host,
            forgotten.identities,
            forgotten.verdicts,
            forgotten.sessions,
            asker,
        )
        return web.json_response(asdict(forgotten))


def parse_host(text: str) -> IPAddress | str:
    """Return the address or the host name that is to be forgotten. Raises ValueError."""
    try:
        given = str(json.loads(text)["host"])
    except (ValueError, KeyError, TypeError):
        raise ValueError("not a JSON object with host") from None
    try:
        return canonical_address(given)
    except ValueError:
        name = parse_host_name(given)
    if name is None:
        raise ValueError("host: neither an address nor a host name")
    return name


def forget(memory: Memory, host: IPAddress | str) -> Forgotten:
    """Drop names, verdicts and credentials of the callers at an address, or of all who have a name.

    Credentials that somebody else has in common with them (`aws.session: shared`, a host with a second
    address) are that one's too, and stay.
    """
    known = [(broker, standing) for broker in memory.brokers for standing in broker.known()]
    if isinstance(host, str):
        addresses = memory.identities.addresses_of(host)
        addresses |= {one.address for _, one in known if one.workload is None and _has_name(one, host)}
    else:
        addresses = {host}
    chosen: list[tuple[Broker, Standing]] = []
    others: list[tuple[Broker, Standing]] = []
    for broker, standing in known:
        by_address = standing.address in addresses and (standing.workload is None or standing.address == host)
        is_chosen = by_address or (standing.workload is not None and standing.workload == host)
        (chosen if is_chosen else others).append((broker, standing))
    sessions = _sessions_of(standing for _, standing in chosen)
    shared = sessions & _sessions_of(standing for _, standing in others)
    for broker, standing in chosen:
        broker.forget(standing)
    entries = [entry for session in sessions - shared if (entry := memory.cache.find(session)) is not None]
    for entry in entries:
        memory.cache.forget(entry)
    return Forgotten(
        identities=sum(memory.identities.forget(address) for address in addresses),
        verdicts=sum(standing.verdict is not None for _, standing in chosen),
        sessions=len(entries),
        kept=len(shared),
    )


def _has_name(standing: Standing, name: str) -> bool:
    return standing.verdict is not None and name in standing.verdict.names


def _sessions_of(standings: Iterable[Standing]) -> set[RoleSession]:
    """Return the sessions that callers have, or may still ask for because LIST has named them."""
    return {
        entry.session
        for standing in standings
        for entry in (standing.entry, standing.named_entry)
        if entry is not None
    }
