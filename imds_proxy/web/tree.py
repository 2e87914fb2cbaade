"""The paths of the metadata service and what stands where: no I/O, no request, only paths and values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "latest",
)
"""As a real instance lists them at `/`."""

ROLES_PATH = ("meta-data", "iam", "security-credentials")
EXTENDED_ROLES_PATH = ("meta-data", "iam", "security-credentials-extended")
"""The same with AccountId. Not listed: cloud-init writes all that is listed to a disk; it leaves
`security-credentials` alone, but does not know this one."""

_LONGEST_REMEMBERED = 256
"""Longer paths are parsed anew each time: anybody can send them, so what is remembered has to stay small."""

Leaf: TypeAlias = bytes
Node: TypeAlias = "Leaf | KeyListing | Mapping[str, Node]"


@dataclass(frozen=True, slots=True)
class KeyListing:
    """`public-keys/`: lists `0=NAME`, answers below `0` and, for those who ask as listed, below `0=NAME`."""

    entries: Mapping[str, Mapping[str, Node]]
    lines: tuple[str, ...]

    @classmethod
    def of(cls, keys: Mapping[str, str]) -> KeyListing:
        """Return the directory of public keys by name, in the order of the names."""
        lines = tuple(f"{index}={name}" for index, name in enumerate(sorted(keys)))
        below: list[Mapping[str, Node]] = [{"openssh-key": keys[name].encode()} for name in sorted(keys)]
        entries = {str(index): directory for index, directory in enumerate(below)}
        return cls(entries | dict(zip(lines, below, strict=True)), lines)


class Kind(StrEnum):
    """What a path asks for; also the label `path` of the request counter."""

    TOKEN = "token"
    DATED_TOKEN = "dated_token"
    ROLE_LIST = "role_list"
    ROLE = "role"
    IAM = "iam"
    METADATA = "metadata"
    UNKNOWN = "unknown"

    # Enum's own is a function in Python, and every request is counted by this.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Target:
    """A path, taken apart."""

    kind: Kind
    segments: tuple[str, ...] = ()
    """The version and what is below it, of IAM and METADATA."""
    role: str = ""
    """The role that a ROLE names."""
    is_extended: bool = False
    """Whether a ROLE is asked for with its account's id."""
    is_iam: bool = False
    """Whether the path is `iam/` or below, where every error has an empty body."""


def split_base_path(path: str | None) -> tuple[str, ...]:
    """Return the segments of a listener's `base_path`, () without one."""
    return tuple(part for part in (path or "").split("/") if part)


def split_path(raw: str) -> tuple[str, ...] | None:
    """Return the segments of a request line's path, each percent-decoded once; None for what is no path."""
    path = raw.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        return None
    return tuple(unquote(part, errors="surrogateescape") for part in path.split("/") if part)


def parse_target(raw: str, base: tuple[str, ...] = ()) -> Target:
    """Return what the path of a request line asks for; a query is ignored, as EC2 does.

    `base` are the segments below which LIST and ROLE are asked for as well, as they are below a version.
    Repeated slashes count as one and a last slash does not count: C++ and async-aws leave it out, others
    double it. Each segment is percent-decoded once, after the path was split, so `%2F` is no slash.
    """
    return _parse_remembered(raw, base) if len(raw) <= _LONGEST_REMEMBERED else _parse(raw, base)


def _parse(raw: str, base: tuple[str, ...]) -> Target:
    segments = split_path(raw)
    if segments is None:
        return Target(Kind.UNKNOWN)
    if not segments:
        return Target(Kind.METADATA)
    if base and segments[: len(base)] == base:
        return _classify_below_base(segments[len(base) :])
    version, *rest = segments
    if version not in VERSIONS:
        return Target(Kind.UNKNOWN)
    return _classify(version, tuple(rest))


_parse_remembered = lru_cache(maxsize=4096)(_parse)


def count_remembered_paths() -> int:
    """Return how many paths need not be taken apart again."""
    return _parse_remembered.cache_info().currsize


def _classify(version: str, segments: tuple[str, ...]) -> Target:
    if segments == ("api", "token"):
        return Target(Kind.TOKEN if version == "latest" else Kind.DATED_TOKEN)
    for roles_path, is_extended in ((ROLES_PATH, False), (EXTENDED_ROLES_PATH, True)):
        if segments == roles_path:
            return Target(Kind.ROLE_LIST, is_iam=True, is_extended=is_extended)
        if segments[:-1] == roles_path:
            return Target(Kind.ROLE, role=segments[-1], is_iam=True, is_extended=is_extended)
    is_iam = segments[:2] == ROLES_PATH[:2]
    if not _may_be(segments):
        return Target(Kind.UNKNOWN, is_iam=is_iam)
    return Target(Kind.IAM if is_iam else Kind.METADATA, (version, *segments), is_iam=is_iam)


def _classify_below_base(segments: tuple[str, ...]) -> Target:
    """Return LIST and ROLE; there is nothing else, no token either: its clients know IMDSv1 only."""
    target = _classify("latest", segments)
    if target.kind in (Kind.ROLE_LIST, Kind.ROLE) and not target.is_extended:
        return target
    return Target(Kind.UNKNOWN, is_iam=target.is_iam)


_ANY = "*"
_PLACES = tuple(
    tuple(place.split("/"))
    for place in """
dynamic/instance-identity/document
meta-data/ami-id
meta-data/ami-launch-index
meta-data/hostname
meta-data/iam/info
meta-data/instance-action
meta-data/instance-id
meta-data/instance-life-cycle
meta-data/instance-type
meta-data/ipv6
meta-data/local-hostname
meta-data/local-ipv4
meta-data/mac
meta-data/network/interfaces/macs/*/device-number
meta-data/network/interfaces/macs/*/interface-id
meta-data/network/interfaces/macs/*/ipv6s
meta-data/network/interfaces/macs/*/local-hostname
meta-data/network/interfaces/macs/*/local-ipv4s
meta-data/network/interfaces/macs/*/mac
meta-data/network/interfaces/macs/*/owner-id
meta-data/network/interfaces/macs/*/security-groups
meta-data/placement/availability-zone
meta-data/placement/availability-zone-id
meta-data/placement/group-name
meta-data/placement/region
meta-data/profile
meta-data/public-keys/*/openssh-key
meta-data/reservation-id
meta-data/security-groups
meta-data/services/domain
meta-data/services/partition
meta-data/tags/instance/*
user-data
""".strip().splitlines()
)
"""All leaves that any caller may see. What is not at or above one is there for nobody, whatever DNS says."""


def _may_be(segments: tuple[str, ...]) -> bool:
    """Tell whether a path below a version is a leaf, or a directory above one, of anybody's tree."""
    return any(
        len(segments) <= len(place)
        and all(wanted in (_ANY, segment) for wanted, segment in zip(place, segments, strict=False))
        for place in _PLACES
    )


def find(tree: Mapping[str, Node], segments: tuple[str, ...]) -> bytes | None:
    """Return a leaf's value, a directory's listing, or None where there is nothing."""
    node: Node = tree
    for segment in segments:
        if isinstance(node, bytes):
            return None
        below = node.entries if isinstance(node, KeyListing) else node
        if segment not in below:
            return None
        node = below[segment]
    return node if isinstance(node, bytes) else listing(node)


def listing(directory: KeyListing | Mapping[str, Node]) -> bytes:
    """Return a directory's entries: one a line, directories with a slash, no newline at the end."""
    if isinstance(directory, KeyListing):
        return "\n".join(directory.lines).encode()
    lines = [name if isinstance(node, bytes) else name + "/" for name, node in sorted(directory.items())]
    return "\n".join(lines).encode()


VERSION_LISTING = "\n".join(VERSIONS).encode()


def top_listing(*, has_user_data: bool) -> bytes:
    """Return what a version lists: without slashes, as EC2 shows these entries."""
    return b"dynamic\nmeta-data\nuser-data" if has_user_data else b"dynamic\nmeta-data"


def shows_role(segments: tuple[str, ...]) -> bool:
    """Tell whether a path (its version first) shows what role the caller has: `meta-data/`, `iam/`, below."""
    below = segments[1:]
    return below == ("meta-data",) or below[:2] == ROLES_PATH[:2]
