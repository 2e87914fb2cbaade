"""The paths of the metadata service, without a socket."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web import tree
from imds_proxy.web.tree import KeyListing, Kind, Node, Target, find, parse_target, split_base_path

ROLES = "/latest/meta-data/iam/security-credentials"
MACS = "/latest/meta-data/network/interfaces/macs/" + "x" * 180 + "/local-hostname"
BASE = split_base_path("/afp-api/latest")
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
        ("/latest/user-data", Kind.METADATA),
        ("/latest/user-data/x", Kind.UNKNOWN),
        ("/latest/meta-data/tags/instance/", Kind.METADATA),
        ("/latest/meta-data/tags/instance/Name", Kind.METADATA),
        ("/latest/meta-data/tags/other", Kind.UNKNOWN),
        ("/latest/meta-data/public-keys/0=me/openssh-key/", Kind.METADATA),
        ("/latest/meta-data/public-keys/0/x", Kind.UNKNOWN),
        ("/latest/meta-data/network/interfaces/macs/0e%3A49/owner-id", Kind.METADATA),
        ("/latest/meta-data/network/interfaces/macs/0e:49/vpc-id", Kind.UNKNOWN),
        ("/latest/meta-data/events", Kind.UNKNOWN),
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


def test_the_extended_document_is_asked_for_like_the_other() -> None:
    """LIST and ROLE, marked; not below a base path, whose clients know nothing of it."""
    path = "/meta-data/iam/security-credentials-extended"
    for base in ("/latest", "/1.0"):
        assert parse_target(base + path) == Target(Kind.ROLE_LIST, is_iam=True, is_extended=True)
        assert parse_target(f"{base}{path}//x/") == Target(Kind.ROLE, role="x", is_iam=True, is_extended=True)
    for below in ("", "/x"):
        assert parse_target(f"/afp-api/latest{path}{below}", BASE) == Target(Kind.UNKNOWN, is_iam=True)


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
    """No target of a path that is remembered has more than a role's name and seven segments."""
    for path in ("/" + "x/" * 127, ROLES + "/" + "%78" * 60, "/latest/meta-data/iam/" + "y/" * 100, MACS):
        target = parse_target(path)
        assert len(target.segments) <= 7
        assert sys.getsizeof(target.role) < 300


def test_listings_are_sorted_and_marked() -> None:
    """Entries in order, directories with a slash, no newline at the end."""
    directory: dict[str, Node] = {"b": b"x", "a": {"c": b""}, "keys": KeyListing.of({"me": "k"})}
    assert find(directory, ()) == b"a/\nb\nkeys/"
    assert find(directory, ("a",)) == b"c"
    assert find(directory, ("a", "c")) == b""
    assert find(directory, ("b", "x")) is None


def test_public_keys_are_listed_as_numbers_and_names() -> None:
    """`0=NAME` in the order of names; below it and below the number alone is the key."""
    directory: dict[str, Node] = {"public-keys": KeyListing.of({"you": "ssh-rsa B", "me": "ssh-rsa A"})}
    assert find(directory, ("public-keys",)) == b"0=me\n1=you"
    for entry, key in (
        ("0", b"ssh-rsa A"),
        ("0=me", b"ssh-rsa A"),
        ("1", b"ssh-rsa B"),
        ("1=you", b"ssh-rsa B"),
    ):
        assert find(directory, ("public-keys", entry)) == b"openssh-key"
        assert find(directory, ("public-keys", entry, "openssh-key")) == key
    for entry in ("me", "0=you", "1=me", "2", "00", "0="):
        assert find(directory, ("public-keys", entry)) is None


def test_a_version_lists_user_data_only_where_there_is_some() -> None:
    """Without slashes, as EC2 shows these entries."""
    assert tree.top_listing(has_user_data=False) == b"dynamic\nmeta-data"
    assert tree.top_listing(has_user_data=True) == b"dynamic\nmeta-data\nuser-data"
