"""Host names as decisions need them: labels, compared as labels, and the domains that count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# RFC 1123 section 2.1 letters, digits and hyphen; the underscore is what container networks use
# (`proj-web-1.proj_default`). Everything else, a dot inside a label above all, is no host name.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_LONGEST_NAME = 253


def host_name(labels: Iterable[bytes]) -> str | None:
    """Return the labels of a DNS name (without the root) as text in lower case, or None for no host name.

    The text is safe to split at its dots: a label that has a dot, a NUL, a space or anything else that
    a host name can't have makes the whole name None. RFC 4343: case does not matter.
    """
    try:
        texts = [label.decode("ascii").lower() for label in labels]
    except UnicodeDecodeError:
        return None
    if not texts or not all(_LABEL.fullmatch(text) for text in texts):
        return None
    name = ".".join(texts)
    return name if len(name) <= _LONGEST_NAME else None


def parse_host_name(text: str) -> str | None:
    """Return a host name that somebody wrote (a last dot is allowed) in lower case, or None."""
    return host_name(label.encode("utf-8", "surrogatepass") for label in text.removesuffix(".").split("."))


def parse_workload(text: str) -> str | None:
    """Return the name of a workload, which reads like a host name, in lower case; None: it is none.

    What ends in a number is none (RFC 1123 section 2.1): it could be taken for an address.
    """
    name = parse_host_name(text)
    return None if name is None or name.rpartition(".")[2].isdigit() else name


def split_host(name: str) -> tuple[str, str]:
    """Return (host part, domain) of a host name: `tuvfoo42`, `valid.example`. The domain may be empty."""
    host, _, domain = name.partition(".")
    return host, domain


@dataclass(frozen=True, slots=True)
class AllowedDomains:
    """The domains whose names count. None listed: no name counts.

    `valid.example` is equal to all that follows the host part, so `a.b.valid.example` is not in it;
    `*.valid.example` takes any domain below `valid.example`, at any depth, but not itself.
    """

    exact: frozenset[str]
    below: frozenset[str]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> AllowedDomains:
        """Return the domains that `texts` name. Raises ValueError naming the text that is no domain."""
        exact: set[str] = set()
        below: set[str] = set()
        for text in texts:
            wanted, target = (text[2:], below) if text.startswith("*.") else (text, exact)
            domain = parse_host_name(wanted)
            if domain is None:
                raise ValueError(
                    f"{text!r} is not a domain (a name such as valid.example, or *.valid.example)"
                )
            target.add(domain)
        return cls(frozenset(exact), frozenset(below))

    def allow(self, name: str) -> bool:
        """Tell whether a host name (as `host_name` returns it) lies in one of the domains."""
        _, domain = split_host(name)
        if not domain:
            return False
        if domain in self.exact:
            return True
        labels = domain.split(".")
        return any(".".join(labels[start:]) in self.below for start in range(1, len(labels)))
