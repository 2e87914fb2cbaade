"""Groups of a person: who is meant, groups in groups, pages, names, and what is trouble."""

from __future__ import annotations

import pytest

from imds_proxy.directory.filters import escape
from imds_proxy.directory.groups import MEMBERS_AT_A_TIME, groups_of, logins_of
from imds_proxy.errors import ProviderError, Refusal
from tests.standins.directory import PEOPLE, Directory, group_dn, person_dn, settings


def test_direct_groups() -> None:
    """The names of the groups that have the person's DN, sorted; groups of groups don't count."""
    directory = Directory()
    alice = directory.add_person("alice")
    directory.add_group("zebra", [alice, person_dn("bob")])
    inner = directory.add_group("aws-main-admin", [alice])
    directory.add_group("outer", [inner])
    directory.add_group("others", [person_dn("bob")])
    assert groups_of(settings(), "alice", directory.means()) == ("aws-main-admin", "zebra")
    assert directory.open_connections == 0


def test_all_names_of_an_entry() -> None:
    """For `deny`: as the directory spells them, whichever was asked for."""
    directory = Directory()
    directory.add_person("Jane")
    directory.entries[person_dn("Jane")]["uid"] = ["Jane", "jd"]
    for user in ("jane", "JD", "Jane"):
        assert logins_of(settings(), user, directory.means()) == ("Jane", "jd")
    assert logins_of(settings(), "nobody", directory.means()) == ()
    assert logins_of(settings(), "\ud800", directory.means()) == ()


def test_somebody_without_groups_is_not_nobody() -> None:
    """No groups is an answer; None is for a name that the directory does not know."""
    directory = Directory()
    directory.add_person("alice")
    assert groups_of(settings(), "alice", directory.means()) == ()
    assert groups_of(settings(), "bob", directory.means()) is None


@pytest.mark.parametrize(
    "user",
    [
        "*",
        "a*",
        "*)(uid=*",
        "alice)(|(uid=*",
        "alice\0",
        "\\2a",
        "alice)(objectClass=*))\0",
        "al\ud800ice",
        "",
    ],
)
def test_a_name_is_a_value_and_never_a_filter(user: str) -> None:
    """Whatever is in it, it is compared with names, and here none is it."""
    directory = Directory()
    directory.add_group("aws-main-admin", [directory.add_person("alice")])
    assert groups_of(settings(), user, directory.means()) is None


@pytest.mark.parametrize("user", ["o'brien", "müller", "a*b", "x(y)", "back\\slash", "李雷", "a,b=c"])
def test_names_with_special_characters(user: str) -> None:
    """Escaped, such a name finds the one who has it, and the group whose member has it in the DN."""
    directory = Directory()
    directory.add_person("a")
    directory.add_group("theirs", [directory.add_person(user)])
    assert groups_of(settings(), user, directory.means()) == ("theirs",)


def test_escaping() -> None:
    """The five characters of RFC 4515 section 3, and nothing else."""
    assert escape("*)(uid=*") == r"\2a\29\28uid=\2a"
    assert escape("a\0b\\c") == r"a\00b\5cc"
    assert escape("cn=Müller\\, Ü,ou=x") == r"cn=Müller\5c, Ü,ou=x"


def test_upper_and_lower_case() -> None:
    """A directory finds `alice` as `ALICE` too: she is the same person."""
    directory = Directory()
    directory.add_group("theirs", [directory.add_person("alice")])
    assert groups_of(settings(), "ALICE", directory.means()) == ("theirs",)


def test_two_with_one_name_are_refused() -> None:
    """Which of them is asking can't be told."""
    directory = Directory()
    for dn in ("cn=alice one", "cn=alice two"):
        directory.entries[f"{dn},{PEOPLE}"] = {"uid": ["alice"]}
    with pytest.raises(Refusal, match=r"cn=alice one.* and of cn=alice two"):
        groups_of(settings(), "alice", directory.means())
    directory.entries[f"cn=alice three,{PEOPLE}"] = {"uid": ["alice"]}
    with pytest.raises(Refusal, match="several"):
        groups_of(settings(), "alice", directory.means())


def test_an_entry_with_another_name_is_somebody_else() -> None:
    """A server whose comparison ignores accents finds José for jose: they are two people."""
    directory = Directory()
    directory.add_group("theirs", [directory.add_person("josé")])
    lenient = settings(user_filter="(&(uid=*)(|(objectClass=inetOrgPerson)(uid={user})))")
    assert groups_of(lenient, "jose", directory.means()) is None
    assert groups_of(lenient, "JOSÉ", directory.means()) == ("theirs",)
    assert groups_of(lenient, "jose\u0301", directory.means()) == ("theirs",)


def test_a_filter_with_more_than_the_name() -> None:
    """What stands around {user} is no part of the name."""
    directory = Directory()
    directory.add_group("theirs", [directory.add_person("x1", mail=["alice@valid.example"])])
    by_mail = settings(user_filter="(mail={user}@valid.example)")
    assert groups_of(by_mail, "alice", directory.means()) == ("theirs",)
    assert groups_of(by_mail, "alice@valid.example", directory.means()) is None


def test_walk_follows_groups_in_groups_once() -> None:
    """Level by level to the end, and a cycle ends it."""
    directory = Directory()
    first = directory.add_group("first", [directory.add_person("alice"), group_dn("third")])
    second = directory.add_group("second", [first])
    directory.add_group("third", [second])
    directory.add_group("self", [second, group_dn("self")])
    found = groups_of(settings(nested="walk"), "alice", directory.means())
    assert found == ("first", "second", "self", "third")
    levels = [each for each in directory.filters if "member=" in each]
    assert len(levels) == 4  # alice's; first's; second's; those of third and self, which bring nothing new


def test_walk_asks_for_many_groups_at_once() -> None:
    """A wide level costs one search per fifty groups."""
    directory = Directory()
    alice = directory.add_person("alice")
    for number in range(2 * MEMBERS_AT_A_TIME + 1):
        directory.add_group(f"group-{number:03}", [alice])
    directory.add_group("above", [group_dn("group-000"), group_dn("group-100")])
    found = groups_of(settings(nested="walk"), "alice", directory.means())
    assert found is not None
    assert len(found) == 2 * MEMBERS_AT_A_TIME + 2
    assert len(directory.filters) == 1 + 1 + 3 + 1


def test_ad_lets_the_server_follow() -> None:
    """One search with the matching rule, for an enabled person by sAMAccountName."""
    directory = Directory()
    alice = directory.add_person(
        "alice",
        objectClass=["user"],
        objectCategory=["person"],
        sAMAccountName=["ALICE"],
        userAccountControl=["512"],
    )
    inner = directory.add_group("inner", [alice], objectClass=["group"])
    directory.add_group("outer", [inner], objectClass=["group"])
    found = groups_of(settings(nested="ad", group_filter="(objectClass=group)"), "alice", directory.means())
    assert found == ("inner", "outer")
    assert directory.filters[-1] == (
        f"(&(objectClass=group)(|(member:1.2.840.113556.1.4.1941:={escape(alice)})))"
    )
    directory.entries[alice]["useraccountcontrol"] = ["514"]  # disabled
    assert groups_of(settings(nested="ad"), "alice", directory.means()) is None


def test_member_uid_has_login_names() -> None:
    """As the directory spells them: there upper and lower case differ."""
    directory = Directory()
    directory.add_person("Alice")
    directory.add_group("theirs", [], memberUid=["Alice", "bob"])
    directory.add_group("others", [], memberUid=["bob"])
    assert groups_of(settings(member_attribute="memberUid"), "alice", directory.means()) == ("theirs",)
    assert directory.filters[-1].endswith("(memberUid=Alice)))")


def test_pages() -> None:
    """Groups come in pages of page_size, and none is lost."""
    directory = Directory()
    alice = directory.add_person("alice")
    names = tuple(f"group-{number:02}" for number in range(25))
    for name in names:
        directory.add_group(name, [alice])
    assert groups_of(settings(page_size=10), "alice", directory.means()) == names
    assert directory.page_sizes == [10, 10, 5]
    directory.has_paging = False
    assert groups_of(settings(page_size=10), "alice", directory.means()) == names
    assert directory.page_sizes[3:] == [25]


def test_too_many_groups_are_trouble() -> None:
    """A list that is cut may lack the group that matters: there is no answer instead."""
    directory = Directory()
    alice = directory.add_person("alice")
    for number in range(11):
        directory.add_group(f"group-{number}", [alice])
    assert groups_of(settings(max_groups=11, page_size=5), "alice", directory.means()) is not None
    with pytest.raises(ProviderError, match=r"more than max_groups \(10\)"):
        groups_of(settings(max_groups=10, page_size=5), "alice", directory.means())
    for nested in ("none", "walk"):
        directory.size_limit = 10
        with pytest.raises(ProviderError, match="size limit"):
            groups_of(settings(nested=nested, page_size=5), "alice", directory.means())


def test_a_group_with_several_names_has_that_of_its_dn() -> None:
    """A second name could be any other group's; without a way to tell, the group counts for nobody."""
    directory = Directory()
    alice = directory.add_person("alice")
    directory.add_group("real", [alice], cn=["aws-main-admin", "REAL"])
    directory.add_group("unclear", [alice], cn=["aws-main-admin", "aws-main-power"])
    directory.add_group("nameless", [alice], cn=[])
    directory.add_group("binary", [alice], cn=["\udcff"])
    assert groups_of(settings(), "alice", directory.means()) == ("REAL",)


def test_another_attribute_can_have_the_name() -> None:
    """group_name_attribute says which."""
    directory = Directory()
    directory.add_group("x", [directory.add_person("alice")], sAMAccountName=["aws-main-admin"])
    found = groups_of(settings(group_name_attribute="sAMAccountName"), "alice", directory.means())
    assert found == ("aws-main-admin",)
