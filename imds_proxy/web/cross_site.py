"""Whether a request comes from a page of another site: by what the browser says of it, no cookies, no state.

Fetch Metadata (W3C) and Origin (RFC 6454). A program that is not a browser sends neither and is let through:
no other site's page can make it ask. Browsers send Fetch Metadata to https and to loopback alone: a browser
that sends none asks by http, or is an old one, and could be asking for any site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.web.origins import Origin, parse_origin

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_OWN_SITES = ("same-origin", "none")
"""From our own page, or from nobody's: typed, a bookmark."""


_BROWSERS = ("mozilla/", "opera/")
"""What User-Agent begins with in all browsers, and in programs that want to be taken for one."""

_OF_BROWSERS = ("Referer", "Upgrade-Insecure-Requests", "Sec-Fetch-User", "Sec-CH-UA")
"""Headers that browsers send by themselves, with or without a User-Agent."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """What a browser says of a request: all values of each header."""

    sites: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    is_browser: bool = False
    """Whether it looks like a browser's."""

    @classmethod
    def of(cls, headers: CIMultiDictProxy[str]) -> Fetch:
        """Return what the headers of a request say."""
        return cls(
            tuple(headers.getall("Sec-Fetch-Site", ())),
            tuple(headers.getall("Sec-Fetch-Mode", ())),
            tuple(headers.getall("Sec-Fetch-Dest", ())),
            tuple(headers.getall("Origin", ())),
            _looks_like_a_browser(headers),
        )

    def is_foreign(self, own: frozenset[Origin]) -> bool:
        """Tell whether anything says that another site is behind it. `own` are our origins."""
        if self.sites and not (len(self.sites) == 1 and self.sites[0] in _OWN_SITES):
            return True
        return bool(self.origins) and not self._names_one_of(own)

    def is_ours(self, own: frozenset[Origin]) -> bool:
        """Tell whether the browser says that our own page is behind it, and nothing says otherwise."""
        if self.is_foreign(own):
            return False
        return self.sites == ("same-origin",) or self._names_one_of(own)

    @property
    def is_untold(self) -> bool:
        """Tell whether a browser does not say which site is behind it."""
        return self.is_browser and not self.sites

    @property
    def is_visit(self) -> bool:
        """Tell whether somebody follows a link, from wherever, to see the page in a window of its own."""
        return self.modes == ("navigate",) and self.destinations == ("document",) and not self.origins

    def _names_one_of(self, own: frozenset[Origin]) -> bool:
        return len(self.origins) == 1 and parse_origin(self.origins[0]) in own


def _looks_like_a_browser(headers: CIMultiDictProxy[str]) -> bool:
    if any(agent.lstrip().lower().startswith(_BROWSERS) for agent in headers.getall("User-Agent", ())):
        return True
    if any("text/html" in accept.lower() for accept in headers.getall("Accept", ())):
        return True
    return any(name in headers for name in _OF_BROWSERS)


def own_origins(host: str, *, is_encrypted: bool, public: Origin | None) -> frozenset[Origin]:
    """Return the origins under which a browser may know us: by the Host it asked for, or `public_url`'s.

    Where the host is public_url's only public_url counts: a page that was loaded without TLS under that name
    may be anybody's.
    """
    connected = parse_origin(f"{'https' if is_encrypted else 'http'}://{host}")
    if public is None:
        return frozenset() if connected is None else frozenset({connected})
    if connected is None or connected.host == public.host:
        return frozenset({public})
    return frozenset({connected, public})
