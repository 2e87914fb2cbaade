"""Where AWS may send people when their console session ends: only what the settings name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imds_proxy.web.origins import split_origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_proxy.web.origins import Origin

LONGEST_CALLBACK_URL = 2048

# RFC 3986's characters: no backslash, which browsers read as a slash, no space, no control, nothing to quote.
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
_MOST_DECODINGS = 4


class CallbackUrls:
    """The list: each entry is an origin and the beginning of a path, at whole segments."""

    def __init__(self, urls: Iterable[str]) -> None:
        """Raises ValueError for a URL that nothing can be compared with."""
        self._allowed = tuple(map(_parse_entry, urls))

    def allow(self, url: str) -> bool:
        """Tell whether `url` is in the list. What two readers of a URL could read differently is not."""
        if len(url) > LONGEST_CALLBACK_URL or not _CHARACTERS.fullmatch(url):
            return False
        found = split_origin(url)
        if found is None:
            return False
        origin, rest = found
        if rest and not rest.startswith("/"):
            return False
        path = re.split(r"[?#]", rest, maxsplit=1)[0]
        if _is_ambiguous(path):
            return False
        return any(origin == its and (path + "/").startswith(prefix) for its, prefix in self._allowed)


def _parse_entry(url: str) -> tuple[Origin, str]:
    found = split_origin(url)
    if found is None or re.search(r"[?#]", found[1]):
        raise ValueError(f"{url} is no origin with the beginning of a path")
    origin, path = found
    return origin, path.rstrip("/") + "/"


def _is_ambiguous(path: str) -> bool:
    """Tell whether a server might take the path for another one than it looks like."""
    if "//" in path:
        return True
    decoded = path
    for _ in range(_MOST_DECODINGS):
        before, decoded = decoded, unquote(decoded, errors="replace")
        if decoded == before:
            break
    else:
        return True
    if decoded.count("/") != path.count("/") or "\\" in decoded or not decoded.isprintable():
        return True
    # `..;` is `..` for servers that know parameters of segments.
    return any(segment.partition(";")[0] in (".", "..") for segment in decoded.split("/"))
