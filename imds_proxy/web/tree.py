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

_LONGEST_REMEMBERED = 256
"""Longer paths are parsed anew each time: anybody can send them, so what is remembered has to stay small."""

Leaf: TypeAlias = bytes
Node: TypeAlias = "Leaf | Mapping[str, Node]"


class Kind(StrEnum):
    """What a path asks for; also the label `path` of the request counter."""

    TOKEN = "token"
    DATED_TOKEN = "dated_token"
    ROLE_LIST = "role_list"
    ROLE = "role"
    IAM = "iam"
    METADATA = "metadata"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """A path, taken apart."""

    kind: Kind
    segments: tuple[str, ...] = ()
    """The version and what is below it, of IAM and METADATA."""
    role: str = ""
    """The role that a ROLE names."""
    is_iam: bool = False
    """Whether the path is `iam/` or below, where every error has an empty body."""


def split_base_path(path: str | None) -> tuple[str, ...]:
    """Return the segments of a listener's `base_path`, () without one."""
    return tuple(part for part in (path or "").split("/") if part)


def parse_target(raw: str, base: tuple[str, ...] = ()) -> Target:
    """Return what the path of a request line asks for; a query is ignored, as EC2 does.

    `base` are the segments below which LIST and ROLE are asked for as well, as they are below a version.
    Repeated slashes count as one and a last slash does not count: C++ and async-aws leave it out, others
    double it. Each segment is percent-decoded once, after the path was split, so `%2F` is no slash.
    """
    return _parse_remembered(raw, base) if len(raw) <= _LONGEST_REMEMBERED else _parse(raw, base)


def _parse(raw: str, base: tuple[str, ...]) -> Target:
    path = raw.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        return Target(Kind.UNKNOWN)
    segments = tuple(unquote(part, errors="surrogateescape") for part in path.split("/") if part)
    if not segments:
        return Target(Kind.METADATA)
    if base and segments[: len(base)] == base:
        return _classify_below_base(segments[len(base) :])
    version, *rest = segments
    if version not in VERSIONS:
        return Target(Kind.UNKNOWN)
    return _classify(version, tuple(rest))


_parse_remembered = lru_cache(maxsize=4096)(_parse)


def _classify(version: str, segments: tuple[str, ...]) -> Target:
    if segments == ("api", "token"):
        return Target(Kind.TOKEN if version == "latest" else Kind.DATED_TOKEN)
    if segments == ROLES_PATH:
        return Target(Kind.ROLE_LIST, is_iam=True)
    if segments[:-1] == ROLES_PATH:
        return Target(Kind.ROLE, role=segments[-1], is_iam=True)
    is_iam = segments[:2] == ROLES_PATH[:2]
    if find(_FULLEST_TREE, segments) is None:
        return Target(Kind.UNKNOWN, is_iam=is_iam)
    return Target(Kind.IAM if is_iam else Kind.METADATA, (version, *segments), is_iam=is_iam)


def _classify_below_base(segments: tuple[str, ...]) -> Target:
    """Return LIST and ROLE; there is nothing else, no token either: its clients know IMDSv1 only."""
    target = _classify("latest", segments)
    if target.kind in (Kind.ROLE_LIST, Kind.ROLE):
        return target
    return Target(Kind.UNKNOWN, is_iam=target.is_iam)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a caller, as far as the tree shows it. None: not shown."""

    region: str
    zone: str
    address: str
    is_ipv4: bool
    instance_id: str
    hostname: str | None
    identity_document: bytes
    profile: bytes | None
    """The document at `iam/info`; None where the caller has no role."""
    role: str | None


def metadata_tree(facts: Facts) -> Mapping[str, Node]:
    """Return the tree below a version. What is in it is listed and served, nothing else is."""
    metadata: dict[str, Node] = {}
    if facts.profile is not None and facts.role is not None:
        metadata["iam"] = {"info": facts.profile, "security-credentials": {facts.role: b""}}
    metadata["instance-id"] = facts.instance_id.encode()
    if facts.hostname is not None:
        metadata["local-hostname"] = facts.hostname.encode()
    if facts.is_ipv4:
        metadata["local-ipv4"] = facts.address.encode()
    metadata["placement"] = {
        "availability-zone": facts.zone.encode(),
        "region": facts.region.encode(),
    }
    return {
        "dynamic": {"instance-identity": {"document": facts.identity_document}},
        "meta-data": metadata,
    }


_FULLEST_TREE = metadata_tree(
    Facts("", "", "", is_ipv4=True, instance_id="", hostname="", identity_document=b"", profile=b"", role="")
)
"""With all that any caller may see. What is not in here is there for nobody, whatever DNS and STS say."""


def find(tree: Mapping[str, Node], segments: tuple[str, ...]) -> bytes | None:
    """Return a leaf's value, a directory's listing, or None where there is nothing."""
    node: Node = tree
    for segment in segments:
        if isinstance(node, bytes) or segment not in node:
            return None
        node = node[segment]
    return node if isinstance(node, bytes) else listing(node)


def listing(directory: Mapping[str, Node]) -> bytes:
    """Return a directory's entries: one a line, directories with a slash, no newline at the end."""
    lines = [name if isinstance(node, bytes) else name + "/" for name, node in sorted(directory.items())]
    return "\n".join(lines).encode()


_VERSION_LISTING = "\n".join(VERSIONS).encode()
_THE_SAME_FOR_ALL = (("meta-data", "local-ipv4"), ("dynamic",), ("dynamic", "instance-identity"))
_LATEST_LISTING = b"dynamic\nmeta-data"
"""Without slashes, as EC2 shows these entries."""


def fixed_listing(segments: tuple[str, ...]) -> bytes | None:
    """Return the listing of `/` or of a version, which are the same for all; None for what is below."""
    if not segments:
        return _VERSION_LISTING
    return _LATEST_LISTING if len(segments) == 1 else None


def shows_role(segments: tuple[str, ...]) -> bool:
    """Tell whether a path (its version first) shows what role the caller has: `meta-data/`, `iam/`, below."""
    below = segments[1:]
    return below == ("meta-data",) or below[:2] == ROLES_PATH[:2]


def shows_identity(segments: tuple[str, ...]) -> bool:
    """Tell whether a path (its version first) shows anything about who the caller is."""
    below = segments[1:]
    return below[:2] != ("meta-data", "placement") and below not in _THE_SAME_FOR_ALL
