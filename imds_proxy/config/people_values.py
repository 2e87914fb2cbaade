"""Texts of the people's listener to values. Every function raises ValueError saying what to write instead."""

from __future__ import annotations

import grp
import pwd
import re
from urllib.parse import urlsplit

from imds_proxy.config import values
from imds_proxy.names import parse_host_name
from imds_proxy.yaml_source import quoted

HTTPS_PORT = 443

# RFC 9110 section 5.6.2, token
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
# What browsers, clients and proxies set by themselves (RFC 9110, RFC 7239, Fetch): it names no user.
_OTHERS_HEADERS = frozenset(
    [
        *("accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect"),
        *("forwarded", "host", "keep-alive", "origin", "proxy-authorization", "range", "referer", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-forwarded-for"),
        *("x-forwarded-host", "x-forwarded-proto"),
    ]
)
_BROWSERS_HEADERS = "sec-"
_SOCKET_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_ADDRESS_LIKE = re.compile(r".*[:/].*|[0-9][0-9.]*\.[0-9.]*", re.ASCII)
# RFC 3986 section 3.3 but for what has to be, or may be, encoded; no dot-segments
_URL_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?", re.ASCII)
_UID = re.compile(r"[0-9]{1,10}", re.ASCII)
_OVERFLOW_UID = 65534
_HIGHEST_UID = 2**32 - 2


def parse_people_address(text: str) -> values.SocketAddress:
    """Return what to listen on: `ADDRESS[:PORT]`, IPv6 in brackets; port 443 when left out, 0: any."""
    return values.parse_socket_address(text, HTTPS_PORT)


def parse_trusted(text: str) -> values.IPNetwork | int:
    """Return a network, or the uid of a user of this host: `10.0.0.2`, `10.0.0.0/28`, `33`, `www-data`."""
    if _ADDRESS_LIKE.fullmatch(text):  # no user's name has a colon or a slash
        return values.parse_network(text)
    if _UID.fullmatch(text):
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
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a header's name such as X-Remote-User")
    if text.lower() in _OTHERS_HEADERS or text.lower().startswith(_BROWSERS_HEADERS):
        raise ValueError(f"{text} has a meaning of its own; take a name such as X-Remote-User")
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
    """Return a URL of http or https without a user, a query and a last slash.

    What programs read in different ways (a backslash, `..`, an encoded slash) is not taken: such a URL
    would allow more, or less, than it seems to.
    """
    if not values.is_url(text):
        raise ValueError("not a URL such as https://afp.example/afp-api/latest")
    parts = urlsplit(values.parse_endpoint(text))
    host = parts.hostname or ""
    if not (_is_address(host) if ":" in host or host[-1:].isdigit() else parse_host_name(host)):
        raise ValueError("a URL whose host is neither a name nor an address; *.example is not taken either")
    if parts.path and not _URL_PATH.fullmatch(parts.path):
        raise ValueError("a URL with a path that could be read in two ways: write it without %, //, . and ..")
    return text.rstrip("/")


def _is_address(host: str) -> bool:
    try:
        values.parse_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether a URL's host is always this machine: a loopback address or localhost."""
    try:
        return values.parse_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host (lower case) and port of a URL. Raises ValueError where there is no such thing."""
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": HTTPS_PORT}.get(parts.scheme)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
        raise ValueError("no URL of http or https")
    return parts.scheme, parts.hostname.lower(), port
