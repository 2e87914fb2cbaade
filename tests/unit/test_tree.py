"""The paths of the metadata service, without a socket."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web import tree
from imds_proxy.web.tree import Facts, Kind, Target, find, metadata_tree, parse_target, split_base_path

ROLES = "/latest/meta-data/iam/security-credentials"
BASE = split_base_path("/afp-api/latest")
FACTS = Facts(
    region="eu-central-1",
    zone="eu-central-1a",
    address="10.0.0.5",
    is_ipv4=True,
    instance_id="i-0123456789abcdef0",
    hostname="tuvfoo42.valid.example",
    identity_document=b"{}",
    profile=b"{ }",
    role="roleprefix-tuvfoo",
)

segment = st.sampled_from(
    [
        "latest",
        "1.0",
        "2021-03-23",
        "meta-data",
        "iam",
        "security-credentials",
        "info",
        "api",
        "token",
        "dynamic",
        "placement",
        "region",
        "roleprefix-tuvfoo",
        "..",
        ".",
        "%2F",
        "%00",
        "%ff",
        "%",
        "ä",
        "x",
    ]
)
paths = st.lists(segment, max_size=7).map(lambda parts: "/" + "/".join(parts))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/latest/api/token", Kind.TOKEN),
        ("/2021-03-23/api/token", Kind.DATED_TOKEN),
        (ROLES, Kind.ROLE_LIST),
        (ROLES + "/", Kind.ROLE_LIST),
        (ROLES + "/x", Kind.ROLE),
        ("/latest/meta-data/iam", Kind.IAM),
        ("/latest/meta-data/iam/info", Kind.IAM),
        ("/", Kind.METADATA),
        ("/latest", Kind.METADATA),
        ("/1.0/meta-data/placement/region", Kind.METADATA),
        ("/latest/user-data", Kind.UNKNOWN),
        ("/latest/meta-data/iam/other", Kind.UNKNOWN),
        ("/meta-data/placement/region", Kind.UNKNOWN),
        ("/2022-01-01/meta-data", Kind.UNKNOWN),
        ("latest/meta-data", Kind.UNKNOWN),
        ("*", Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
    ],
)
def test_kinds(path: str, kind: Kind) -> None:
    """A path is one of seven things; the counters are labelled with them."""
    assert parse_target(path).kind is kind


@pytest.mark.parametrize(
    "path", [ROLES, ROLES + "/x", ROLES + "/x/y", "/latest/meta-data/iam", "/1.0//meta-data/iam/z"]
)
def test_what_is_below_iam(path: str) -> None:
    """Errors of these paths have no body, those of unknown ones below `iam/` included."""
    assert parse_target(path).is_iam


@pytest.mark.parametrize(
    "path", ["/", "/latest/meta-data", "/latest/meta-data/iamx", "/latest/dynamic/iam", "/iam"]
)
def test_what_is_not_below_iam(path: str) -> None:
    """Other paths are not taken for `iam/`."""
    assert not parse_target(path).is_iam


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/x", "x"),
        ("//x/", "x"),
        ("/x?y", "x"),
        ("/x#y", "x"),
        ("/a%2Fb", "a/b"),
        ("/%78", "x"),
        ("/%2578", "%78"),
        ("/x%0A", "x\n"),
        ("/%ff", "\udcff"),
    ],
)
def test_the_role_that_is_asked_for(path: str, role: str) -> None:
    """The last segment, percent-decoded once after the path was split."""
    assert parse_target(ROLES + path) == Target(Kind.ROLE, role=role, is_iam=True)


@pytest.mark.parametrize("below", ["", "/", "//", "/x", "//x/", "/a%2Fb", "/x?y", "/x/y", "/%ff"])
def test_below_a_base_path_as_below_latest(below: str) -> None:
    """LIST and ROLE are the same targets at both places, however they are written."""
    for base in ("/afp-api/latest", "//afp-api//latest/", "/afp%2Dapi/lates%74"):
        path = f"{base}/meta-data/iam/security-credentials{below}"
        assert parse_target(path, BASE) == parse_target(ROLES + below, BASE) == parse_target(ROLES + below)
        assert parse_target(path) == Target(Kind.UNKNOWN)


@pytest.mark.parametrize(
    "below",
    [
        "",
        "/api/token",
        "/latest/api/token",
        "/latest/meta-data/iam/security-credentials/",
        "/2021-03-23/meta-data/iam/security-credentials/",
        "/iam/security-credentials/",
        "/meta-data",
        "/meta-data/instance-id",
        "/meta-data/placement/region",
        "/dynamic/instance-identity/document",
        "/status",
        "/account",
        "/..",
        "/../latest/meta-data/iam/security-credentials/",
    ],
)
def test_nothing_else_is_below_a_base_path(below: str) -> None:
    """No token, no version, no metadata."""
    assert parse_target("/afp-api/latest" + below, BASE) == Target(Kind.UNKNOWN)


@pytest.mark.parametrize("below", ["", "/", "/info", "/security-credentials/x/y", "/nothing"])
def test_errors_below_a_base_path(below: str) -> None:
    """At and below `iam/` they have no body there either."""
    assert parse_target("/afp-api/latest/meta-data/iam" + below, BASE) == Target(Kind.UNKNOWN, is_iam=True)


@pytest.mark.parametrize(
    "path",
    [
        "/afp-api",
        "/afp-api/meta-data/iam/security-credentials/",
        "/afp-api/latestx/meta-data/iam/security-credentials/",
        "/afp-api%2Flatest/meta-data/iam/security-credentials/",
        "/x/afp-api/latest/meta-data/iam/security-credentials/",
        "/AFP-API/latest/meta-data/iam/security-credentials/",
    ],
)
def test_what_is_not_below_the_base_path(path: str) -> None:
    """Segments are compared, not strings."""
    assert parse_target(path, BASE) == Target(Kind.UNKNOWN)


@given(paths)
def test_a_base_path_takes_nothing_away(path: str) -> None:
    """Whatever there is without one is the same with one."""
    assert parse_target(path, BASE) == parse_target(path)


@given(paths)
def test_slashes_change_nothing(path: str) -> None:
    """Repeated and trailing slashes never make another target."""
    assert parse_target(path.replace("/", "//")) == parse_target(path + "/") == parse_target(path)


@given(st.text(max_size=300))
def test_any_text_is_some_target(text: str) -> None:
    """Nothing raises, and what is not known has no segments to keep."""
    target = parse_target(text)
    assert target.segments == () or target.kind in (Kind.METADATA, Kind.IAM)


def test_long_paths_are_not_remembered() -> None:
    """Thousands of long paths leave nothing behind: anybody may send them, before any guard."""
    parse_target("/")
    remembered = tree._parse_remembered.cache_info().currsize
    for number in range(100):
        assert parse_target(f"/{number}" + "/x" * 4000) == Target(Kind.UNKNOWN)
    assert tree._parse_remembered.cache_info().currsize == remembered


def test_what_is_remembered_is_small() -> None:
    """No target of a path that is remembered has more than a role's name and five segments."""
    for path in ("/" + "x/" * 127, ROLES + "/" + "%78" * 60, "/latest/meta-data/iam/" + "y/" * 100):
        target = parse_target(path)
        assert len(target.segments) <= 5
        assert sys.getsizeof(target.role) < 300


def test_listings_are_sorted_and_marked() -> None:
    """Entries in order, directories with a slash, no newline at the end."""
    found = find(metadata_tree(FACTS), ("meta-data",))
    assert found == b"iam/\ninstance-id\nlocal-hostname\nlocal-ipv4\nplacement/"


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        (replace(FACTS, profile=None), ("meta-data", "iam")),
        (replace(FACTS, role=None), ("meta-data", "iam")),
        (replace(FACTS, hostname=None), ("meta-data", "local-hostname")),
        (replace(FACTS, is_ipv4=False), ("meta-data", "local-ipv4")),
    ],
)
def test_what_is_not_known_is_not_there(facts: Facts, missing: tuple[str, ...]) -> None:
    """A part that this caller has not is neither listed nor served."""
    assert find(metadata_tree(FACTS), missing) is not None
    assert find(metadata_tree(facts), missing) is None
    listing = find(metadata_tree(facts), missing[:-1])
    assert listing is not None
    assert missing[-1].encode() not in listing.replace(b"/", b"").split(b"\n")


@pytest.mark.parametrize(
    ("segments", "shows"),
    [
        (("latest", "meta-data"), True),
        (("latest", "meta-data", "instance-id"), True),
        (("latest", "dynamic", "instance-identity", "document"), True),
        (("latest", "meta-data", "placement"), False),
        (("latest", "meta-data", "placement", "region"), False),
        (("latest", "meta-data", "local-ipv4"), False),
        (("latest", "dynamic"), False),
    ],
)
def test_what_shows_who_the_caller_is(segments: tuple[str, ...], shows: bool) -> None:
    """The region must not wait for DNS or STS; a listing that may have `iam/` in it must."""
    assert tree.shows_identity(segments) == shows
