"""What is said of a caller: which level wins, and what waits for nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy import naming
from imds_proxy.metadata.levels import Level, Levels, Subject
from imds_proxy.metadata.templates import Template, literal, parse_template
from imds_proxy.model import IPAddress, canonical_address
from imds_proxy.names import AllowedDomains

ADDRESS = canonical_address("10.0.0.5")
FOO = Subject(
    ADDRESS,
    name="tuvfoo42.a.rz.example",
    role="role",
    account="main",
    account_id="000123456789",
    tags=(("site", "granted"), ("x y", "no key"), ("job", "{name}")),
)
NOBODY = Subject(ADDRESS)


def level(tags: dict[str, str] | None = None, groups: list[str] | None = None, **texts: str) -> Level:
    return Level(
        {key: parse_template(text) for key, text in texts.items()},
        tuple(map(parse_template, groups)) if groups else None,
        {},
        {key: parse_template(text) for key, text in (tags or {}).items()},
    )


DEFAULTS = level(region="eu-central-1", hostname="{name}", availability_zone="{region}a", groups=["default"])
LEVELS = Levels(DEFAULTS, {}, {})


def of_all(**texts: str) -> Levels:
    said = {key: parse_template(text) for key, text in texts.items()}
    return replace(LEVELS, defaults=replace(DEFAULTS, texts={**DEFAULTS.texts, **said}))


def test_what_is_said_without_settings() -> None:
    """Name, region and zone, and ids that are made of the name, or of the address."""
    values = LEVELS.values_of(FOO)
    assert values.texts == {
        "region": "eu-central-1",
        "hostname": FOO.name,
        "availability_zone": "eu-central-1a",
        "instance_id": naming.instance_id(FOO.name or ""),
        "reservation_id": naming.reservation_id(FOO.name or ""),
    }
    assert values.security_groups == ("default",)
    nobodys = LEVELS.values_of(NOBODY)
    assert nobodys.get("hostname") is None
    assert nobodys.get("instance_id") == naming.instance_id("10.0.0.5")


def test_later_levels_win() -> None:
    """All, wider and narrower domains, the grant's tags, the name, the address: key by key."""
    steps = ["all", "*.example", "*.rz.example", "a.rz.example"]
    tags = {step: level({"last": step, step.replace("*", "_"): "yes"}, profile=step) for step in steps}
    levels = Levels(
        replace(DEFAULTS, tags=tags["all"].tags),
        {step: tags[step] for step in reversed(steps[1:])},
        {
            "tuvfoo42.a.rz.example": level(
                {"site": "by name", "who": "name"}, profile="name", instance_type="n"
            )
        },
    )
    values = levels.values_of(FOO)
    assert values.tags == {
        "last": "a.rz.example",
        "all": "yes",
        "_.example": "yes",
        "_.rz.example": "yes",
        "a.rz.example": "yes",
        "site": "by name",
        "job": "{name}",
        "who": "name",
    }
    assert values.get("profile") == "name"
    both = replace(levels, hosts={**levels.hosts, ADDRESS: level({"who": "address"}, profile="address")})
    values = both.values_of(FOO)
    assert (values.get("profile"), values.get("instance_type")) == ("address", "n")
    assert values.tags["who"] == "address"
    assert both.values_of(replace(FOO, name=None)).get("instance_type") is None


def test_placeholders() -> None:
    """Each is what it says; the region is the caller's own, the instance id too."""
    text = "{name} {host} {domain} {address} {region} {role} {account} {account_id} {instance_id}"
    levels = replace(
        of_all(profile=text, instance_id="i-{host}.{address}"), hosts={ADDRESS: level(region="us-east-1")}
    )
    assert levels.values_of(FOO).get("profile") == (
        "tuvfoo42.a.rz.example tuvfoo42 a.rz.example 10.0.0.5 us-east-1 role main 000123456789"
        " i-tuvfoo42.10.0.0.5"
    )


@pytest.mark.parametrize("placeholder", ["name", "host", "domain", "role", "account", "account_id"])
def test_what_is_not_known_is_not_said(placeholder: str) -> None:
    """Neither half of a text nor what an earlier level said; one security group less."""
    text = f"x-{{{placeholder}}}"
    levels = replace(
        LEVELS,
        defaults=level({"a": "x"}, ["web", text], profile="x", region="eu-central-1"),
        hosts={ADDRESS: level({"a": text}, profile=text, instance_id=text)},
    )
    values = levels.values_of(NOBODY)
    assert values.tags == {}
    assert values.security_groups == ("web",)
    assert {"profile", "instance_id"}.isdisjoint(values.texts)
    assert set(levels.values_of(FOO).texts) >= {"profile", "instance_id"}


@pytest.mark.parametrize("role", ["a@b", "a" * 300, "{x"])
def test_what_is_not_fit_to_be_served_is_not_said(role: str) -> None:
    """A role's name may have characters that no host name has."""
    values = of_all(hostname="{host}-{role}.example").values_of(replace(FOO, role=role))
    assert values.get("hostname") is None


NAMES = st.sampled_from(["tuv.example", "tuv.a.example", "tuv.a.b.example", "b.example", "example", "x.y"])
HOSTS: st.SearchStrategy[IPAddress | str] = st.sampled_from([ADDRESS, "b.example"])
KEYS = st.sampled_from(
    ["example", "a.example", "*.example", "*.a.example", "a.b.example", "*.b.example", "y"]
)


@given(NAMES, st.sets(KEYS))
def test_domains_are_matched_as_allowed_domains(name: str, domains: set[str]) -> None:
    """A domain's level counts for exactly those names that `allowed_domains` would let in."""
    levels = replace(LEVELS, domains={domain: level({domain.replace("*", "_"): "x"}) for domain in domains})
    counting = levels.values_of(replace(FOO, name=name, tags=())).tags
    allowing = {domain for domain in domains if AllowedDomains.parse([domain]).allow(name)}
    assert set(counting) == {domain.replace("*", "_") for domain in allowing}


VALUE = st.text(st.sampled_from("ab{}_.\n\r\0é/"), max_size=12) | st.sampled_from(
    ["{role}", "{name}", "../.."]
)


@given(VALUE, VALUE, VALUE)
def test_nothing_breaks_out_of_a_value(name: str, role: str, tag: str) -> None:
    """Whatever name, role and tag are, a value is one line, and is the text with just these put in."""
    levels = replace(
        of_all(profile="p {name} {role}", instance_id="i-{name}"), hosts={ADDRESS: level({"t": "{name}"})}
    )
    values = levels.values_of(replace(FOO, name=name, role=role, tags=(("g", tag), (tag, "x"))))
    assert values.get("profile") in (None, f"p {name} {role}")
    assert values.get("instance_id") in (None, f"i-{name}")
    for text in (*values.texts.values(), *values.tags.values(), *values.tags, *values.security_groups):
        assert text == "" or text.isprintable()
    assert "/" not in "".join(values.tags)


@pytest.mark.parametrize(
    ("levels", "waiting"),
    [
        (LEVELS, {"hostname", "instance_id", "reservation_id"}),
        (of_all(profile="{address}"), {"hostname", "instance_id", "reservation_id"}),
        (of_all(profile="{role}"), {"hostname", "instance_id", "reservation_id", "profile"}),
        (of_all(instance_id="i-{address}"), {"hostname", "reservation_id"}),
        (of_all(hostname="x"), {"instance_id", "reservation_id"}),
        (
            replace(LEVELS, hosts={ADDRESS: level(region="us-east-1", profile="x")}),
            {"hostname", "instance_id", "reservation_id"},
        ),
        (
            replace(LEVELS, hosts={"a.example": level(region="us-east-1")}),
            {"hostname", "instance_id", "reservation_id", "region", "availability_zone"},
        ),
        (
            replace(LEVELS, domains={"a.example": level(groups=["x"], availability_zone="x")}),
            {"hostname", "instance_id", "reservation_id", "availability_zone", "security_groups"},
        ),
        (
            replace(LEVELS, hosts={ADDRESS: level(groups=["{role}"])}),
            {"hostname", "instance_id", "reservation_id", "security_groups"},
        ),
    ],
)
def test_what_waits_for_the_name(levels: Levels, waiting: set[str]) -> None:
    """What some level makes depend on more than the address, and nothing else."""
    keys = {"region", "availability_zone", "profile", "security_groups", "hostname"}
    keys |= {"instance_id", "reservation_id", "public_keys"}
    assert {key for key in keys if levels.needs_name(key)} == waiting


@given(
    key=st.sampled_from(["region", "availability_zone", "profile", "instance_id"]),
    name=st.sampled_from([None, "tuvfoo42.a.rz.example", "b.example"]),
    hosts=st.dictionaries(HOSTS, st.sampled_from(["x", "{name}", "{address}"])),
    default=st.sampled_from(["{region}", "{address}", "{name}", "{role}", "x"]),
)
def test_what_does_not_wait_is_the_same_with_and_without_the_name(
    key: str, name: str | None, hosts: dict[IPAddress | str, str], default: str
) -> None:
    """So it may be answered before anybody is asked."""
    texts: dict[str, Template] = {"region": literal("eu-central-1"), "profile": parse_template(default)}
    levels = Levels(
        replace(DEFAULTS, texts=texts),
        {},
        {host: level(profile=text) for host, text in hosts.items()},
    )
    if not levels.needs_name(key):
        assert levels.values_of(replace(FOO, name=name)).get(key) == levels.values_of(NOBODY).get(key)
