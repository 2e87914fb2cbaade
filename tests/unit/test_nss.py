"""nss, grp, sssd: the system's own users, as they are on every machine. What is made for it: tests/system."""

from __future__ import annotations

import grp as system_groups
import os
import pwd

import pytest
from imds_proxy_providers import grp, sssd

from imds_proxy import nss

REGEX = {"regex": "(?P<account>.)(?P<role>.*)"}
NOBODY = "no-such-user-here"


def test_a_user_of_the_system() -> None:
    """As the system has it."""
    ours = pwd.getpwuid(os.getuid())
    assert nss.find_person(ours.pw_name) == nss.Person(ours.pw_name, ours.pw_gid)


@pytest.mark.parametrize(
    "name",
    [
        NOBODY,
        "",
        "ro\0ot",
        "root\0",
        "root\n",
        "root ",
        " root",
        "../root",
        "0",
        "*",
        "root:x",
        "\ud800",
        "r" * 100_000,
    ],
)
def test_names_of_nobody(name: str) -> None:
    """A no, and never trouble: whoever asks chooses the name."""
    assert nss.find_person(name) is None


def test_names_of_groups() -> None:
    """By their ids."""
    for group in system_groups.getgrall()[:20]:
        name = nss.find_group_name(group.gr_gid)
        assert name is not None
        assert system_groups.getgrnam(name).gr_gid == group.gr_gid
    assert nss.find_group_name(4_294_967_000) is None


@pytest.mark.parametrize("module", [grp, sssd])
def test_login_names(module: object) -> None:
    """As NSS writes them, for `deny`."""
    provider_class = module.Provider  # type: ignore[attr-defined]
    assert provider_class("root", REGEX).get_login_names() == ["root"]
    assert provider_class(NOBODY, REGEX).get_login_names() == []


@pytest.mark.parametrize("module", [grp, sssd])
def test_the_primary_group_of_a_user(module: object) -> None:
    """It is among the groups, though no list of members has it."""
    root = pwd.getpwuid(0)
    primary = system_groups.getgrgid(root.pw_gid).gr_name
    provider_class = module.Provider  # type: ignore[attr-defined]
    assert primary in provider_class(root.pw_name, REGEX).get_group_list()
    assert provider_class(NOBODY, REGEX).get_group_list() == []
    assert provider_class(NOBODY, REGEX).get_accounts_and_roles() == {}
