"""Origins: a URL's scheme, host and port, compared as browsers do (RFC 6454)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}

_ORIGIN = re.compile(
    r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::([1-9][0-9]{0,4}))?",
    re.ASCII | re.IGNORECASE,
)


class Origin(NamedTuple):
    """Where a page comes from. The host is in lower case, IPv6 without brackets in its short form."""

    scheme: str
    host: str
    port: int


def split_origin(url: str) -> tuple[Origin, str] | None:
    """Return the origin at the beginning of a URL of http or https, and the rest; None where there is none.

    Stricter than RFC 3986: no user, no empty port, no host outside of ASCII. What two readers of a URL could
    read differently has no origin.
    """
    match = _ORIGIN.match(url)
    if match is None:
        return None
    rest = url[match.end() :]
    if rest and rest[0] not in "/?#":
        return None
    scheme, host = match[1].lower(), match[2].lower()
    if host.startswith("["):
        try:
            host = str(IPv6Address(host[1:-1]))
        except ValueError:
            return None
    port = int(match[3]) if match[3] else DEFAULT_PORTS[scheme]
    return (Origin(scheme, host, port), rest) if port <= 65535 else None


def parse_origin(text: str) -> Origin | None:
    """Return the origin that an Origin header names; None for `null` and whatever else is none."""
    found = split_origin(text)
    return found[0] if found is not None and not found[1] else None
