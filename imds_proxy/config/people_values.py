"""Texts of the people's listener to values. Every function raises ValueError saying what to write instead."""

from __future__ import annotations

import grp
import pwd
import re
from urllib.parse import urlsplit

from imds_proxy.config import values
from imds_proxy.yaml_source import quoted

HTTPS_PORT = 443

# RFC 9110 section 5.6.2, token
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_OWN_HEADERS = frozenset({"authorization", "connection", "content-length", "cookie", "host", "origin", "te"})
_SOCKET_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_ADDRESS_LIKE = re.compile(r"[0-9A-Fa-f:.]*[.:/][0-9A-Fa-f:./]*", re.ASCII)
_OVERFLOW_UID = 65534
_HIGHEST_UID = 2**32 - 2


def parse_people_address(text: str) -> values.SocketAddress:
    """Return what to listen on: `ADDRESS[:PORT]`, IPv6 in brackets; port 443 when left out, 0: any."""
    return values.parse_socket_address(text, HTTPS_PORT)


def parse_trusted(text: str) -> values.IPNetwork | int:
    """Return a network, or the uid of a user of this host: `10.0.0.2`, `10.0.0.0/28`, `33`, `www-data`."""
    if _ADDRESS_LIKE.fullmatch(text):
        return values.parse_network(text)
    if text.isascii() and text.isdigit():
        uid = int(text)
    else:
        try:
            uid = pwd.getpwnam(values.parse_text(text)).pw_uid
        except KeyError:
            raise ValueError(f"{quoted(text)} is neither an address, nor a user of this host") from None
    if uid == _OVERFLOW_UID or uid > _HIGHEST_UID:
        raise ValueError(f"{quoted(text)}: the uid {uid} stands for all users that the kernel can't name")
    return uid


def parse_header_name(text: str) -> str:
    """Return the name of a header that a proxy may set: none that means something already."""
    if not _HEADER_NAME.fullmatch(text) or text.lower() in _OWN_HEADERS:
        raise ValueError(f"{quoted(text)} is not a header's name such as X-Remote-User")
    return text


def parse_socket_mode(text: str) -> int:
    """Return the permissions of a socket, written in octal digits: `0660`."""
    if not _SOCKET_MODE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a mode such as 0660")
    return int(text, 8)


def parse_group_name(text: str) -> str:
    """Return a group of this host."""
    try:
        grp.getgrnam(values.parse_text(text))
    except KeyError:
        raise ValueError(f"{quoted(text)} is not a group of this host") from None
    return text


def parse_public_url(text: str) -> str:
    """Return a URL of http or https without a user, a query and a last slash."""
    return values.parse_endpoint(text).rstrip("/")


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host (lower case) and port of a URL. Raises ValueError where there is no such thing."""
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": HTTPS_PORT}.get(parts.scheme)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
        raise ValueError("no URL of http or https")
    return parts.scheme, parts.hostname.lower(), port
