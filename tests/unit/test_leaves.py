"""The tree of one caller: what is listed is there, and nothing else is, whatever the settings are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.metadata.levels import Level, Levels, Subject
from imds_proxy.metadata.templates import literal, parse_template
from imds_proxy.model import canonical_address
from imds_proxy.web import leaves
from imds_proxy.web.leaves import Facts, metadata_tree, shows_identity
from imds_proxy.web.tree import Kind, Node, find, parse_target

NAME = "tuvfoo42.valid.example"
MAC = "0e:49:61:0f:c3:11"
TEXTS = {
    "region": "eu-central-1",
    "ami_id": "ami-0",
    "ami_launch_index": "0",
    "availability_zone": "{region}a",
    "hostname": "{name}",
    "instance_life_cycle": "on-demand",
    "instance_type": "bare.metal",
    "profile": "default-hvm",
}
DEFAULTS = Level({key: parse_template(text) for key, text in TEXTS.items()}, (literal("default"),))
LEVELS = Levels(DEFAULTS, {}, {})
SUBJECT = Subject(canonical_address("10.0.0.5"), NAME, "role", "main", "000123456789", (("site", "hh"),))


def facts(subject: Subject = SUBJECT, levels: Levels = LEVELS, profile: bytes | None = b"{ }") -> Facts:
    return Facts(subject, levels.values_of(subject), "aws", 0.0, profile=profile)


VALUES = st.sampled_from(["x", "{name}", "{role}", "{host}", "{account_id}", "{address}"])
KEY = "ssh-ed25519 AAAA"
LEVEL = st.builds(
    lambda texts, groups, keys, tags: Level(
        {key: parse_template(text) for key, text in texts.items()},
        tuple(map(parse_template, groups)) if groups else None,
        dict.fromkeys(keys, KEY),
        {key: parse_template(text) for key, text in tags.items()},
    ),
    st.dictionaries(
        st.sampled_from(
            [*TEXTS, "availability_zone_id", "group_name", "instance_id", "reservation_id", "mac"]
        ).filter(lambda key: key != "region"),
        VALUES,
    ),
    st.lists(VALUES, max_size=3),
    st.sets(st.sampled_from(["me", "you", "a@b", "1"])),
    st.dictionaries(st.sampled_from(["Name", "a=b", "@", "security-credentials", "instance"]), VALUES),
)
FACTS = st.builds(
    lambda level, host, name, address, role, tags, profile, is_complete: replace(
        facts(
            Subject(
                canonical_address(address),
                name,
                role,
                "main" if role else None,
                "000123456789" if role else None,
                tuple(tags.items()),
            ),
            Levels(
                replace(
                    level, texts={**DEFAULTS.texts, **level.texts}, security_groups=(literal("default"),)
                ),
                {"valid.example": level},
                {NAME: host},
            ),
            b"{ }" if profile and role else None,
        ),
        is_complete=is_complete,
    ),
    LEVEL,
    LEVEL,
    st.sampled_from([None, NAME, "tuvfoo42", "b.valid.example"]),
    st.sampled_from(["10.0.0.5", "fd00::5"]),
    st.sampled_from([None, "role", "a=b@c"]),
    st.dictionaries(st.sampled_from(["x", "5=x", "..", "a/b"]), st.sampled_from(["", "x", "{name}"])),
    st.booleans(),
    st.booleans(),
)


def crawl(tree: Mapping[str, Node], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all that is listed below a directory, as cloud-init reads listings."""
    listed = find(tree, at)
    assert listed is not None
    for line in listed.decode().split("\n") if listed else ():
        entry = line.removesuffix("/")
        number, equals, _ = entry.partition("=")
        if equals and number.isdigit() and not line.endswith("/"):
            yield (*at, number, "openssh-key")
        elif line.endswith("/"):
            yield (*at, entry)
            yield from crawl(tree, (*at, entry))
        else:
            yield (*at, entry)


def leaves_of(node: Node, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all leaves that are there."""
    if isinstance(node, bytes):
        yield at
        return
    for name, below in node.items() if isinstance(node, Mapping) else node.entries.items():
        yield from leaves_of(below, (*at, name))


@given(FACTS)
def test_what_is_listed_is_served_and_nothing_else(caller: Facts) -> None:
    """Each listed entry is there, each leaf is listed (a key by its number), the path of each is known."""
    tree = metadata_tree(caller)
    listed = set(crawl(tree))
    for path in listed:
        assert find(tree, path) is not None, path
        target = parse_target("/latest/" + "/".join(path))
        assert target.kind in (Kind.METADATA, Kind.IAM, Kind.ROLE, Kind.ROLE_LIST), path
    there = {path for path in leaves_of(tree) if path[:2] != ("meta-data", "public-keys")}
    assert there <= listed


@given(FACTS)
def test_one_truth(caller: Facts) -> None:
    """The identity document says what the tree says; both names are one; no value is empty but a tag's."""
    tree = metadata_tree(caller)

    def at(path: str) -> str | None:
        value = find(tree, ("meta-data", *path.split("/")))
        return None if value is None else value.decode()

    document = json.loads(find(tree, ("dynamic", "instance-identity", "document")) or b"")
    assert document["imageId"] == at("ami-id")
    assert document["instanceId"] == at("instance-id")
    assert document["instanceType"] == at("instance-type")
    assert document["region"] == at("placement/region")
    assert document["availabilityZone"] == at("placement/availability-zone")
    assert document["privateIp"] == (at("local-ipv4") or at("ipv6"))
    assert at("hostname") == at("local-hostname")
    for path in leaves_of(tree):
        is_free = path[:2] == ("meta-data", "tags") or path[:3] == (
            "meta-data",
            "iam",
            "security-credentials",
        )
        assert find(tree, path) or is_free, path


def test_the_fullest_tree() -> None:
    """With a card, tags and public keys."""
    host = Level({"mac": literal(MAC)}, None, {"me": KEY, "you": KEY}, {"Name": parse_template("{host}")})
    tree = metadata_tree(facts(levels=replace(LEVELS, hosts={NAME: host})))

    def listing(path: str) -> str:
        return (find(tree, tuple(path.split("/"))) or b"").decode().replace("\n", " ")

    assert listing("meta-data") == (
        "ami-id ami-launch-index hostname iam/ instance-action instance-id instance-life-cycle instance-type"
        " local-hostname local-ipv4 mac network/ placement/ profile public-keys/ reservation-id"
        " security-groups services/ tags/"
    )
    card = f"meta-data/network/interfaces/macs/{MAC}"
    assert listing(card) == (
        "device-number interface-id local-hostname local-ipv4s mac owner-id security-groups"
    )
    assert listing("meta-data/network/interfaces/macs") == f"{MAC}/"
    assert listing("meta-data/public-keys") == "0=me 1=you"
    assert listing("meta-data/tags/instance") == "Name site"
    assert listing("meta-data/tags/instance/Name") == "tuvfoo42"
    assert listing(f"{card}/owner-id") == "000123456789"


def test_while_the_provider_gives_no_answer() -> None:
    """Tags are not listed: some of them may be the grant's."""
    tree = metadata_tree(replace(facts(), is_complete=False))
    assert find(tree, ("meta-data", "tags")) is None
    assert find(tree, ("meta-data", "hostname")) == NAME.encode()


@pytest.mark.parametrize(
    ("partition", "entries"),
    [("aws", b"domain\npartition"), ("aws-cn", b"domain\npartition"), ("aws-iso", b"partition")],
)
def test_services(partition: str, entries: bytes) -> None:
    """The domain is there where it is known."""
    tree = metadata_tree(replace(facts(), partition=partition))
    assert find(tree, ("meta-data", "services")) == entries


def test_where_a_host_has_a_card_it_waits() -> None:
    """Where nobody has one, what is not there is told at once."""
    levels = replace(LEVELS, hosts={NAME: Level({"mac": literal(MAC)})})
    for path in ("mac", "network", f"network/interfaces/macs/{MAC}"):
        assert shows_identity(("meta-data", *path.split("/")), levels)


def test_where_a_host_has_its_own_region_placement_waits() -> None:
    """There and nowhere else; what the address alone decides does not wait."""
    placement = ("meta-data", "placement")
    paths = [placement, (*placement, "region"), (*placement, "availability-zone"), (*placement, "group-name")]
    elsewhere = Level({"region": literal("us-east-1")})
    assert [shows_identity(path, LEVELS) for path in paths] == [False] * 4
    by_address = replace(LEVELS, hosts={SUBJECT.address: elsewhere})
    assert [shows_identity(path, by_address) for path in paths] == [False] * 4
    by_name = replace(LEVELS, hosts={NAME: elsewhere})
    assert [shows_identity(path, by_name) for path in paths] == [True, True, True, False]


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("meta-data", True),
        ("meta-data/instance-id", True),
        ("meta-data/hostname", True),
        ("meta-data/tags", True),
        ("meta-data/tags/instance/x", True),
        ("dynamic/instance-identity/document", True),
        ("meta-data/mac", False),
        ("meta-data/network", False),
        ("meta-data/network/interfaces/macs", False),
        ("meta-data/ami-id", False),
        ("meta-data/instance-type", False),
        ("meta-data/security-groups", False),
        ("meta-data/public-keys", False),
        ("meta-data/public-keys/0/openssh-key", False),
        ("meta-data/services/domain", False),
        ("meta-data/instance-action", False),
        ("meta-data/local-ipv4", False),
        ("meta-data/ipv6", False),
        ("dynamic", False),
        ("dynamic/instance-identity", False),
    ],
)
def test_what_shows_who_the_caller_is(path: str, shows: bool) -> None:
    """The rest must not wait for DNS or STS; a listing that may have `iam/` in it must."""
    assert shows_identity(tuple(path.split("/")), LEVELS) == shows


@given(FACTS, st.data())
def test_what_does_not_wait_does_not_depend_on_who_it_is(caller: Facts, data: st.DataObject) -> None:
    """A path that shows no identity has the same value for the caller and for a stranger at its address."""
    level, host = data.draw(LEVEL), data.draw(LEVEL)
    texts = {key: text for key, text in level.texts.items() if key != "mac"}
    defaults = replace(level, texts={**DEFAULTS.texts, **texts}, security_groups=(literal("default"),))
    levels = Levels(defaults, {}, {data.draw(st.sampled_from([NAME, caller.subject.address])): host})
    stranger = Subject(caller.subject.address)
    known, unknown = (metadata_tree(facts(each, levels, None)) for each in (caller.subject, stranger))
    for path in {*leaves_of(known), *leaves_of(unknown)}:
        if not leaves.shows_identity(path, levels):
            assert find(known, path) == find(unknown, path), path
