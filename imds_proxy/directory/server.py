"""An LDAP server's address, as a URI names it (RFC 4516, host and port only)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

_PORTS = {"ldap": 389, "ldaps": 636}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens."""

    uri: str
    scheme: str
    """`ldap`, `ldaps` or `ldapi`."""
    host: str
    """A host name or an address; empty for ldapi."""
    port: int
    path: str = ""
    """The unix socket of ldapi."""

    @classmethod
    def parse(cls, uri: str) -> Server:
        """Return the server that `uri` names. Raises ValueError saying what to write instead."""
        scheme, _, rest = uri.partition("://")
        scheme = scheme.lower()
        if scheme == "ldapi":
            path = unquote(rest)
            if path.startswith("/") and path.isprintable():
                return cls(uri, scheme, "", 0, path)
            raise ValueError("is not ldapi://PATH such as ldapi://%2Frun%2Fslapd%2Fldapi")
        try:
            url = urlsplit(uri)
            host, port = url.hostname or "", url.port
            is_bare = url.path in {"", "/"} and not (url.query or url.fragment or "@" in url.netloc)
        except ValueError:
            host, port, is_bare = "", None, False
        if scheme not in _PORTS or port == 0 or not is_bare or not _is_host(host):
            raise ValueError("is not ldaps://HOST[:PORT] or ldap://HOST[:PORT]")
        return cls(uri, scheme, host, port or _PORTS[scheme])

    @property
    def is_local(self) -> bool:
        """Whether what is sent there never leaves this machine."""
        if self.scheme == "ldapi" or self.host == "localhost":
            return True
        return _is_address(self.host) and ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return self.uri


def _is_host(text: str) -> bool:
    return _is_address(text) or _HOST.fullmatch(text) is not None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
