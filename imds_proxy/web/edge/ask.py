"""What a request asks, as far as it matters for machines: the same whichever way it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multidict import istr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

HOST = istr("Host")
TOKEN_HEADER = istr("X-aws-ec2-metadata-token")
LIFE_HEADER = istr("X-aws-ec2-metadata-token-ttl-seconds")
AUTHORIZATION = istr("Authorization")
FORWARDING_HEADERS = (istr("X-Forwarded-For"), istr("Forwarded"), istr("Via"))
"""A request with one of these was passed on: its peer is a proxy and says nothing about the caller."""


@dataclass(slots=True)
class Ask:
    """One request. Of header fields all values are here, in their order."""

    method: str
    path: str
    """As it was sent, that of an absolute target included."""
    hosts: Sequence[str]
    authority: str | None = None
    """Of an absolute target (RFC 9112 section 3.2.2)."""
    is_forwarded: bool = False
    tokens: Sequence[str] = ()
    lives: Sequence[str] = ()
    authorizations: Sequence[str] = ()
    is_last: bool = False
    """Whether the client wants the connection to end after the answer."""


def ask_of(request: web.BaseRequest) -> Ask:
    """Return what a request asks that aiohttp has read."""
    headers, target = request.headers, request.raw_path
    path, authority = target, None
    if not target.startswith("/"):
        authority, _, rest = target.partition("://")[2].partition("/")
        path = "/" + rest
    return Ask(
        request.method,
        path,
        headers.getall(HOST, ()),
        authority,
        any(name in headers for name in FORWARDING_HEADERS),
        headers.getall(TOKEN_HEADER, ()),
        headers.getall(LIFE_HEADER, ()),
        headers.getall(AUTHORIZATION, ()),
        not request.keep_alive,
    )
