"""Which provider answers: by type or module, with its own settings, and what is said when it can't be had."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import sys
from types import ModuleType
from typing import Any

import pytest

from imds_proxy import AWSFederationProxy, ConfigurationError
from tests.library.site import ACCOUNT, ACCOUNTS, MODULE

REGEX = "(?P<account>.*)-(?P<role>.*)"
BASE = "aws_federation_proxy.provider.base_provider"


def _faults(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        AWSFederationProxy("alice", config, ACCOUNTS)
    return [str(fault) for fault in caught.value.faults]


def test_a_provider_by_type() -> None:
    """As in the daemon's configuration."""
    config = {"type": "by_groups", "regex": REGEX, "groups": {"main-r1": ["alice"], "main-r2": ["bob"]}}
    found = AWSFederationProxy("alice", config, ACCOUNTS).get_account_and_role_dict()
    assert {account: {role for role, _ in pairs} for account, pairs in found.items()} == {ACCOUNT: {"r1"}}


@pytest.mark.parametrize("kind", ["grp", "sssd"])
def test_groups_of_this_machine(kind: str) -> None:
    """By type and by the old module's name: the groups that NSS has, the primary one too."""
    me = pwd.getpwuid(os.getuid()).pw_name
    mine = grp.getgrgid(pwd.getpwuid(os.getuid()).pw_gid).gr_name
    config = {"regex": "(?P<account>.)(?P<role>.+)"}
    for named in ({"type": kind}, {"module": f"aws_federation_proxy.provider.{kind}_provider"}):
        found = AWSFederationProxy(me, {**named, **config}, {}).get_account_and_role_dict()
        assert mine[1:] in {role for role, _ in found[mine[0]]}
        nobody = AWSFederationProxy("no such user", {**named, **config}, {})
        assert nobody.get_account_and_role_dict() == {}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["type", "is required (or module)"]),
        ({"provider": {}}, ["type", "is required (or module)"]),
        ({"module": "some-module-that-is-not-there"}, ["module", "some-module-that-is-not-there"]),
        ({"module": BASE, "class": "NoSuchClass"}, ["class", BASE, "NoSuchClass"]),
        ({"module": BASE}, ["class", BASE, "Provider"]),
        ({"module": "json", "class": "loads"}, ["class", "is not a subclass"]),
        ({"type": "no_such_type"}, ["type", "no_such_type", "by_groups"]),
        ({"module": "json", "type": "grp"}, ["module", "can't both be given"]),
        ({"type": "grp"}, ["regex", "is required"]),
        ({"type": "grp", "regex": "(?P<account>.*)"}, ["regex", "role"]),
        ({"type": "grp", "regex": "("}, ["regex"]),
        ({"type": "grp", "regex": REGEX, "rgeex": "x"}, ["rgeex", "unknown key"]),
        ({"provider": {"type": "grp", "regex": REGEX}, "awss": {}}, ["awss", "unknown key"]),
        ({"module": f"{MODULE}_gone.provider"}, ["module", f"{MODULE}_gone"]),
    ],
)
def test_a_provider_that_can_not_be_had(config: dict[str, Any], words: list[str]) -> None:
    """ConfigurationError with the key and the name that are wrong."""
    text = "\n".join(_faults(config))
    assert text.startswith(f"configuration: {words[0]}: ")
    for word in words[1:]:
        assert word in text


def test_settings_of_a_class_without_a_model() -> None:
    """At the top or below `provider`, with their types; not beside a `provider` that names the class."""
    settings: dict[str, Any] = {"roles": ["r1"], "port": 389, "password": "x", "nested": {"deep": [1, None]}}
    named = {"module": MODULE, "class": "Roles"}
    for config in (
        {**named, **settings},
        {"provider": {**named, **settings}},
        {**named, "provider": settings},
    ):
        assert AWSFederationProxy("alice", config, ACCOUNTS).get_account_and_role_dict()
    assert _faults({"provider": {**named, "roles": []}, "awss": {}}) == [
        "configuration: awss: unknown key; a setting of the provider stands in provider:, where its class is"
    ]


def test_what_an_object_of_a_site_gets() -> None:
    """The user, its settings without the keys that name it, and the logger that was handed in."""
    seen: list[tuple[str, dict[str, Any], object]] = []

    class Observed:
        def __init__(self, user: str, config: dict[str, Any], logger: object) -> None:
            seen.append((user, config, logger))

        def get_accounts_and_roles(self) -> dict[str, Any]:
            return {}

    module = ModuleType("observed_site")
    module.Provider = Observed  # type: ignore[attr-defined]  # a module made by hand
    sys.modules["observed_site"] = module
    try:
        logger = logging.getLogger("observed")
        settings = {"port": 389, "switch": True, "text": "0123"}
        proxy = AWSFederationProxy("alice", {"module": "observed_site", **settings}, {}, logger)
        proxy.get_account_and_role_dict()
    finally:
        del sys.modules["observed_site"]
    assert seen
    assert all(one == ("alice", settings, logger) for one in seen)


def test_a_provider_for_machines_is_not_asked_about_people() -> None:
    """One that gives its role to every machine must not give it to every person."""
    config = {"module": "tests.standins.site_providers", "class": "Machines", "account": ACCOUNT}
    with pytest.raises(PermissionError, match=r"tells machines apart, and alice is no address"):
        AWSFederationProxy("alice", config, ACCOUNTS).check_user_permissions(ACCOUNT, "site-role")
    assert AWSFederationProxy("alice", config, ACCOUNTS).get_account_and_role_dict() == {}
    AWSFederationProxy("10.0.0.5", config, ACCOUNTS).check_user_permissions(ACCOUNT, "site-role")
