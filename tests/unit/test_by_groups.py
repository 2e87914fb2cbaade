"""by_groups: what a group's name stands for, and who is in which."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from imds_proxy_providers.by_groups import LONGEST_GROUP, Provider, ProviderByGroups, check_regex, read_group
from imds_proxy_providers.samples import GroupTestProvider, SimpleTestProvider

GREEDY = "(?P<account>.*)-(?P<role>.*)"
STRICT = "aws-(?P<account>[a-z0-9-]+)-(?P<role>[a-z0-9]+)"


def read(regex: str, group: str) -> tuple[str, str] | None:
    return read_group(re.compile(check_regex(regex)), group)


def of_groups(groups: Any, regex: str = GREEDY, user: str = "joe") -> dict[str, set[tuple[str, str]]]:
    class Fixed(ProviderByGroups):
        def get_group_list(self) -> Any:
            return groups

    return Fixed(user, {"regex": regex}).get_accounts_and_roles()


# --- one group ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regex", "group", "grant"),
    [
        (GREEDY, "ap-test1-role1", ("ap-test1", "role1")),
        (GREEDY, "ap-test1-rp-role1", ("ap-test1-rp", "role1")),
        (GREEDY, "main-dev", ("main", "dev")),
        (GREEDY, "main", None),
        (GREEDY, "-dev", None),
        (GREEDY, "main-", None),
        (GREEDY, "-", None),
        (GREEDY, "", None),
        (GREEDY, "main-dev\n", None),
        (GREEDY, "main\n-dev", None),
        (GREEDY, "main-dev\r", None),
        (GREEDY, "main-dev\u2028", None),
        (GREEDY, "main-dev\0", None),
        (GREEDY, "main-dev\udcff", None),
        (GREEDY, "Main-Dév", ("Main", "Dév")),
        (GREEDY, "a b-c d", ("a b", "c d")),
        (STRICT, "aws-main-dev", ("main", "dev")),
        (STRICT, "xaws-main-dev", None),
        (STRICT, "aws-main-dev2x!", None),
        (STRICT, "AWS-main-dev", None),
        ("(?i)aws-(?P<account>.+)-(?P<role>.+)", "AWS-main-dev", ("main", "dev")),
        ("aws-(?P<account>a)-(?P<role>b)|x-(?P<other>c)", "x-c", None),
        ("(?P<account>a)(?P<role>b)?", "a", None),
        ("(?P<account>a)-(?P<role>b)|.*", "a-b", ("a", "b")),
        (GREEDY, "a-" + "b" * (LONGEST_GROUP - 2), ("a", "b" * (LONGEST_GROUP - 2))),
        (GREEDY, "a-" + "b" * (LONGEST_GROUP - 1), None),
    ],
)
def test_what_a_group_stands_for(regex: str, group: str, grant: tuple[str, str] | None) -> None:
    """The whole name matches, with an account and a role in it, or it is no grant."""
    assert read(regex, group) == grant


NAMES = st.text(st.characters(codec="utf-8"), max_size=20)


@given(NAMES, NAMES)
@example("a", "b\n")
def test_anchors_of_the_operator_change_nothing(account: str, role: str) -> None:
    """`^` and `$` are what a whole match means anyway; `$` lets no line break in."""
    group = f"{account}-{role}"
    assert (
        read(GREEDY, group)
        == read(f"^{GREEDY}", group)
        == read(f"{GREEDY}$", group)
        == read(f"^{GREEDY}$", group)
    )


@given(NAMES)
def test_the_greedy_expression_splits_at_the_last_hyphen(group: str) -> None:
    """Once: no other split of the same name is ever tried."""
    account, hyphen, role = group.rpartition("-")
    grant = read(GREEDY, group)
    assert grant is None or (hyphen and grant == (account, role))


@given(NAMES, st.sampled_from(["\n", "\r", "\0", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"]), NAMES)
def test_a_line_break_anywhere_is_no_grant(before: str, line_break: str, after: str) -> None:
    """Whatever the expression says of it."""
    assert read(r"(?s)(?P<account>.+)-(?P<role>.+)", f"a-b{before}{line_break}{after}") is None


@given(NAMES, st.sampled_from(["aws-", "x"]), st.sampled_from(["-x", "!"]))
def test_nothing_before_and_nothing_after(name: str, before: str, after: str) -> None:
    """A match inside a name is none."""
    regex = "(?P<account>main)-(?P<role>dev)"
    assume(name)
    assert read(regex, "main-dev") == ("main", "dev")
    assert read(regex, f"{name}main-dev") is None
    assert read(regex, f"main-dev{name}") is None
    assert read(regex, f"{before}main-dev{after}") is None


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        ("(", "not a regular expression: missing ), unterminated subpattern at position 0"),
        ("(?P<account>.*)", r"lacks the group (?P<role>...)"),
        ("(?P<account>.*)(?P<account>.*)", "not a regular expression: redefinition of group name"),
        ("", r"lacks the group (?P<account>...) and the group (?P<role>...)"),
        ("(?P<account>.*)(?P<role>" + "(" * 5000 + ")" * 5000 + ")", "not a regular expression"),
    ],
)
def test_expressions_that_are_none(regex: str, text: str) -> None:
    """Found before anybody is asked about."""
    with pytest.raises(ValueError, match=re.escape(text)):
        check_regex(regex)


# --- all groups -----------------------------------------------------------------------------------------


def test_accounts_and_roles_of_several_groups() -> None:
    """Each with the group that gives it."""
    assert of_groups(["main-dev", "main-ops", "other-dev", "nothing"]) == {
        "main": {
            ("dev", f"group main-dev matches {GREEDY}"),
            ("ops", f"group main-ops matches {GREEDY}"),
        },
        "other": {("dev", f"group other-dev matches {GREEDY}")},
    }


def test_two_groups_with_one_grant() -> None:
    """It is one grant, and its reason names both."""
    regex = "(?:new|old)-(?P<account>[a-z]+)-(?P<role>[a-z]+)"
    assert of_groups(["old-main-dev", "new-main-dev", "new-main-dev"], regex) == {
        "main": {("dev", f"group new-main-dev matches {regex}; group old-main-dev matches {regex}")}
    }


@given(st.lists(st.text("ab-\n", max_size=6)))
def test_the_order_of_groups_changes_nothing(groups: list[str]) -> None:
    """Nor does a group that is there twice."""
    found = of_groups(groups)
    assert found == of_groups(reversed(groups)) == of_groups(groups * 2) == of_groups(set(groups))
    grants = [(account, role) for account, roles in found.items() for role, _ in roles]
    assert len(grants) == len(set(grants))
    assert set(grants) == {read(GREEDY, group) for group in groups} - {None}


@pytest.mark.parametrize("groups", [None, [], (), set()])
def test_no_groups(groups: object) -> None:
    """No grants."""
    assert of_groups(groups) == {}


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (False, "get_group_list gave a bool, not a list of names"),
        ("main-dev", "get_group_list gave a str, not a list of names"),
        ({"main-dev": 1}, "get_group_list gave a dict, not a list of names"),
        ([b"main-dev"], "get_group_list gave a bytes among the names"),
        (["main-dev", None], "get_group_list gave a NoneType among the names"),
    ],
)
def test_what_is_no_list_of_groups(groups: object, text: str) -> None:
    """It is trouble: a directory that failed must not look like a person without groups."""
    with pytest.raises(TypeError, match=re.escape(text)):
        of_groups(groups)


# --- classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regex", [GREEDY, f"^{GREEDY}", f"{GREEDY}$", f"^{GREEDY}$"])
def test_a_subclass_finds_the_expression_with_anchors(regex: str) -> None:
    """As the old program had it, for those that match by themselves."""
    assert GroupTestProvider("joe", {"regex": regex}).regex == f"^{GREEDY}$"


def test_an_object_with_a_bad_expression_can_not_be_made() -> None:
    """Also where nobody has checked the settings."""
    with pytest.raises(ValueError, match="lacks the group"):
        GroupTestProvider("joe", {"regex": "x"})


def test_the_sample_by_groups_answers_as_the_simple_one() -> None:
    """With the expression of the old manual."""

    def names(answer: dict[str, set[tuple[str, str]]]) -> dict[str, set[str]]:
        return {account: {role for role, _ in roles} for account, roles in answer.items()}

    by_groups = GroupTestProvider("joe", {"regex": GREEDY}).get_accounts_and_roles()
    assert names(by_groups) == names(SimpleTestProvider("joe", {}).get_accounts_and_roles())
    assert names(by_groups) == {"testaccount": {"testrole"}, "testaccount1": {"testrole2"}}


@pytest.mark.parametrize(
    ("user", "roles"),
    [("joe", {"dev", "ops"}), ("ann", {"dev"}), ("Joe", set()), ("jo", set()), ("", set()), ("*", set())],
)
def test_groups_in_the_settings(user: str, roles: set[str]) -> None:
    """Names are compared as they stand."""
    config = {"regex": GREEDY, "groups": {"main-dev": ["joe", "ann"], "main-ops": ["joe"], "none": ["joe"]}}
    found = Provider(user, config).get_accounts_and_roles()
    assert {role for each in found.values() for role, _ in each} == roles
