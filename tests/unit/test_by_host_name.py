"""by_host_name: ProviderByIP of the old shape, its attributes and what a subclass may refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imds_proxy_providers.by_host_name import Provider, ProviderByIP
from imds_proxy_providers.role_rules import loctyp

from imds_proxy.errors import Refusal

CONFIG = {"allowed_domains": ["valid.example"], "account_name": "main", "role_prefix": "roleprefix-"}


def asked(provider_class: type[ProviderByIP], name: str, **config: object) -> Any:
    provider = provider_class("10.0.0.5", {**CONFIG, **config})
    provider.client_fqdn = name
    return provider


class Seeing(ProviderByIP):
    """Has all it sees in the role's name."""

    def _get_role_name(self) -> None:
        self.role_name = "|".join(
            (self.user, self.client_fqdn, self.client_host, self.client_domain, self.role_prefix)
        )


def test_what_a_rule_finds() -> None:
    """The attributes of the old class."""
    answer = asked(Seeing, "web1.valid.example").get_accounts_and_roles()
    role = "10.0.0.5|web1.valid.example|web1|valid.example|roleprefix-"
    assert answer == {"main": {(role, f"web1.valid.example is 10.0.0.5 (confirmed), Seeing gives {role}")}}


def test_the_prefix_may_be_left_out() -> None:
    """Then there is none, as in the old program."""
    provider = Provider("10.0.0.5", {"allowed_domains": ["valid.example"], "account_name": "main"})
    provider.client_fqdn = "tuvfoo42.valid.example"
    ((role, _),) = provider.get_accounts_and_roles()["main"]
    assert role == "tuvfoo"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "10.0.0.5 has no confirmed name"),
        ("web1", "is in no allowed domain"),
        ("web1.foreign.example", "is in no allowed domain"),
        ("web1.a.valid.example", "is in no allowed domain"),
        ("web1.evilvalid.example", "is in no allowed domain"),
    ],
)
def test_names_that_do_not_count(name: str, reason: str) -> None:
    """A refusal, which also is Python's PermissionError, as it was."""
    with pytest.raises(Refusal, match=reason) as caught:
        asked(Seeing, name).get_accounts_and_roles()
    assert isinstance(caught.value, PermissionError)


class Choosy(Seeing):
    """Refuses more."""

    def check_host_allowed(self) -> None:
        """Refuse hosts called web."""
        super().check_host_allowed()
        if self.client_host.startswith("web"):
            raise PermissionError("no web")


def test_a_subclass_may_refuse_more() -> None:
    """By the method that the old class had for it."""
    with pytest.raises(PermissionError, match="no web"):
        asked(Choosy, "web1.valid.example").get_accounts_and_roles()
    assert asked(Choosy, "db1.valid.example").get_accounts_and_roles()


class Silent(ProviderByIP):
    """Gives no role's name, neither way."""

    def _get_role_name(self) -> None:
        pass


class Wrong(ProviderByIP):
    """Returns what is no name."""

    def _get_role_name(self) -> Any:
        return self.config["role"]


def test_a_rule_without_an_answer_is_trouble() -> None:
    """To say no, it raises."""
    with pytest.raises(TypeError, match=r"_get_role_name gave web1\.valid\.example a str"):
        asked(Silent, "web1.valid.example").get_accounts_and_roles()
    for role in (7, "", ["x"]):
        with pytest.raises(TypeError, match="not a role's name"):
            asked(Wrong, "web1.valid.example", role=role).get_accounts_and_roles()


@pytest.mark.parametrize(
    ("host", "role"), [("tuvfoo42", "tuvfoo"), ("berbar07", "probar"), ("hambar07", "probar")]
)
def test_the_old_rule(host: str, role: str) -> None:
    """Location and type, the production's locations as one."""
    answer = asked(Provider, f"{host}.valid.example").get_accounts_and_roles()
    assert [name for name, _ in answer["main"]] == [f"roleprefix-{role}"]


@given(st.text("abehmr0123456789", min_size=1, max_size=10))
def test_the_old_rule_is_loctyp(host: str) -> None:
    """That of by_ip, for every host name."""
    provider = asked(Provider, f"{host}.valid.example")
    expected = loctyp(host)
    if expected is None:
        with pytest.raises(Refusal, match="has not eight characters"):
            provider.get_accounts_and_roles()
    else:
        assert [name for name, _ in provider.get_accounts_and_roles()["main"]] == [f"roleprefix-{expected}"]
