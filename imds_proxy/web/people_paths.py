"""The paths of the people's listener: no I/O, only a request target's text and what it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from imds_proxy.web.controls import has_controls

if TYPE_CHECKING:
    from collections.abc import Mapping

_READS = ("GET", "HEAD")
_POSTS = ("POST",)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class PeopleKind(StrEnum):
    """What a path asks for; also the label `path` of the request counter."""

    STATUS = "status"
    ACCOUNTS = "accounts"
    ROLE = "role"
    """Credentials and a console URL."""
    CREDENTIALS = "credentials"
    CONSOLE_URL = "consoleurl"
    PAGE = "page"
    BARE_PAGE = "bare_page"
    """The page without the slash that its links need."""
    ASSET = "asset"
    PAGE_CREDENTIALS = "page_credentials"
    PAGE_CONSOLE = "page_console"
    UNKNOWN = "unknown"

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it takes, in the order of Allow."""
        return _POSTS if self in (PeopleKind.PAGE_CREDENTIALS, PeopleKind.PAGE_CONSOLE) else _READS


@dataclass(frozen=True, slots=True)
class PeopleTarget:
    """A request target, taken apart."""

    kind: PeopleKind
    query: str = ""
    """As it was sent, without the question mark."""
    account: str = ""
    role: str = ""
    asset: str = ""


_FIXED: Mapping[tuple[str, ...], PeopleKind] = {
    ("",): PeopleKind.PAGE,
    ("status",): PeopleKind.STATUS,
    ("account",): PeopleKind.ACCOUNTS,
    ("account", ""): PeopleKind.ACCOUNTS,
    ("credentials",): PeopleKind.PAGE_CREDENTIALS,
    ("console",): PeopleKind.PAGE_CONSOLE,
}
_OF_A_ROLE: Mapping[tuple[str, ...], PeopleKind] = {
    (): PeopleKind.ROLE,
    ("credentials",): PeopleKind.CREDENTIALS,
    ("consoleurl",): PeopleKind.CONSOLE_URL,
}


def parse_people_target(raw: str, base: tuple[str, ...] = ()) -> PeopleTarget:
    """Return what the target of a request line asks for, below the segments of `base_path`.

    Each segment is percent-decoded once, after the path was split, so `%2F` is part of a name. A segment that
    is no name (`is_name`), a percent sign that escapes nothing, bytes that are no UTF-8: unknown. So are
    repeated slashes, and a last one but for `account/`: a path has one spelling.
    """
    path, _, query = _origin_form(raw).partition("?")
    segments = _segments_of(path)
    if segments is None or segments[: len(base)] != base:
        return PeopleTarget(PeopleKind.UNKNOWN)
    below = segments[len(base) :]
    if not below:
        return PeopleTarget(PeopleKind.BARE_PAGE, query)
    kind = _FIXED.get(below)
    if kind is not None:
        return PeopleTarget(kind, query)
    if not all(map(is_name, below)):
        return PeopleTarget(PeopleKind.UNKNOWN)
    if below[0] == "account" and len(below) > 2 and below[3:] in _OF_A_ROLE:
        return PeopleTarget(_OF_A_ROLE[below[3:]], query, account=below[1], role=below[2])
    if below[0] == "static" and len(below) == 2:
        return PeopleTarget(PeopleKind.ASSET, query, asset=below[1])
    return PeopleTarget(PeopleKind.UNKNOWN)


def is_name(text: str) -> bool:
    """Tell whether an account or a role could be called that: not empty, no dots alone, no controls."""
    return text not in ("", ".", "..") and not has_controls(text)


def authority_of(raw: str) -> str | None:
    """Return the host and port of a request target in absolute form (RFC 9112 section 3.2.2), else None."""
    if raw.startswith("/") or "://" not in raw:
        return None
    return re.split(r"[/?#]", raw.partition("://")[2], maxsplit=1)[0]


def _origin_form(raw: str) -> str:
    authority = authority_of(raw)
    if authority is None:
        return raw
    rest = raw.partition("://")[2][len(authority) :]
    return rest if rest.startswith("/") else "/" + rest


def _segments_of(path: str) -> tuple[str, ...] | None:
    if not path.startswith("/") or _BAD_ESCAPE.search(path):
        return None
    try:
        # aiohttp hands on bytes that are no UTF-8 as surrogates.
        return tuple(
            unquote_to_bytes(part.encode("utf-8", "surrogateescape")).decode("utf-8")
            for part in path[1:].split("/")
        )
    except UnicodeError:
        return None
