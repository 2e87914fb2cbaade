"""The provider ldap where python-ldap is missing, and its settings; tests/system asks a real directory."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from imds_proxy_providers import ldap
from imds_proxy_providers.by_groups import ProviderByGroups, read_group
from pydantic import ValidationError

from imds_proxy import registry, report
from imds_proxy.directory.groups import groups_of
from imds_proxy.errors import ProviderError
from imds_proxy.provider import PEOPLE
from tests.standins import manual
from tests.standins.daemon import write_settings
from tests.standins.directory import settings
from tests.standins.provider_pages import REFUSED, Sample, samples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE = "docs/providers/ldap.md"
EXTRA = "pip install 'imds-proxy[ldap]'"

SETTINGS = {
    "servers": "ldaps://127.0.0.1:1",
    "user_base": "ou=people,dc=valid,dc=example",
    "group_base": "ou=groups,dc=valid,dc=example",
    "regex": "aws-(?P<account>[^-]+)-(?P<role>.+)",
}


OLD_SETTINGS = """\
people:
  listen:
    - address: 127.0.0.1:8443
  public_url: http://127.0.0.1:8443
  identity:
    ldap:
      ldap_uri: ldaps://dc1.corp.example ldaps://dc2.corp.example
      ldap_base_users: ou=Staff,dc=corp,dc=example
      ldap_bind_dn: cn=afp,dc=corp,dc=example
      ldap_bind_password: not-the-real-one
accounts:
  main: {id: "000123456789"}
providers:
  staff:
    type: ldap
    ldap_uri: ldaps://dc1.corp.example
    ldap_base_users: ou=Staff,dc=corp,dc=example
    ldap_base_groups: ou=Groups,dc=corp,dc=example
    ldap_bind_dn: cn=afp,dc=corp,dc=example
    ldap_bind_password: not-the-real-one
    timeout: 3s
    regex: aws-(?P<account>.*)-(?P<role>.*)
"""


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-ldap can't be imported, even if it is installed."""
    monkeypatch.setitem(sys.modules, "ldap", None)


@pytest.fixture
def a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something can be imported, even if python-ldap is not installed: enough to look at settings."""
    for name in ("ldap", "ldap.controls", "ldap.controls.libldap"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


def faults(provider: Mapping[str, object], file: Path) -> list[str]:
    """Return what `check` finds wrong with a provider's section."""
    write_settings(
        {
            "people": {
                "listen": [{"unix": str(file.parent / "people.sock")}],
                "identity": {"peer": True},
            },
            "providers": {"staff": {"type": "ldap", **provider}},
            "accounts": {"main": {"id": "000123456789"}},
        },
        file,
    )
    return [str(fault) for fault in registry.load(file, {"AWS_REGION": "eu-central-1"}).faults]


def test_it_is_a_provider_by_groups_for_people() -> None:
    """A machine's address is no login name."""
    assert issubclass(ldap.Provider, ProviderByGroups)
    assert ldap.Provider.serves == frozenset({PEOPLE})


@pytest.mark.usefixtures("no_library")
def test_without_python_ldap_check_names_the_extra(tmp_path: Path) -> None:
    """And what it is built with."""
    [fault] = faults(SETTINGS, tmp_path / "imds-proxy.yaml")
    assert EXTRA in fault
    assert "apt-get install gcc python3-dev libldap-dev libsasl2-dev" in fault


@pytest.mark.usefixtures("no_library")
def test_without_python_ldap_a_question_is_trouble() -> None:
    """Where nobody has checked before, as in the library."""
    with pytest.raises(ProviderError) as caught:
        groups_of(settings("ldaps://127.0.0.1:1"), "alice")
    assert EXTRA in str(caught.value)


@pytest.mark.usefixtures("a_library")
def test_good_settings_have_no_fault(tmp_path: Path) -> None:
    """Nobody is asked before somebody comes."""
    assert faults(SETTINGS, tmp_path / "imds-proxy.yaml") == []


@pytest.mark.usefixtures("a_library")
def test_faults_have_their_line(tmp_path: Path) -> None:
    """Each at the key that the operator wrote, old names included."""
    file = tmp_path / "imds-proxy.yaml"
    wrong = {
        "ldap_uri": "ldap.valid.example",
        "ldap_base_users": "people",
        "group_base": "ou=groups,dc=valid,dc=example",
        "ldap_verify": "no",
        "regex": ".*",
    }
    found = faults(wrong, file)
    for key, text in (
        ("ldap_uri", "is not ldaps://HOST"),
        ("ldap_base_users", "not a distinguished name"),
        ("ldap_verify", "unknown key"),
        ("regex", "lacks the group"),
    ):
        [fault] = [each for each in found if f"providers.staff.{key}: " in each]
        assert text in fault
        line = int(fault.removeprefix(f"{file}:").partition(":")[0])
        assert file.read_text().splitlines()[line - 1].strip().startswith(key)


@pytest.mark.usefixtures("a_library")
def test_groups_need_a_base(tmp_path: Path) -> None:
    """HTTP Basic does without, this provider can't."""
    without = {key: value for key, value in SETTINGS.items() if key != "group_base"}
    [fault] = faults(without, tmp_path / "imds-proxy.yaml")
    assert "group_base is required" in fault


@pytest.mark.usefixtures("a_library")
def test_a_password_in_an_open_file_is_a_fault(tmp_path: Path) -> None:
    """It is a secret, under its old name too."""
    secret = {"bind_dn": "cn=searcher,dc=valid,dc=example", "ldap_bind_password": "Suchmaschine-77"}
    file = tmp_path / "imds-proxy.yaml"
    assert faults(SETTINGS | secret, file) == []
    file.chmod(0o644)
    [fault] = faults(SETTINGS | secret, file)
    assert "providers.staff.ldap_bind_password: " in fault
    assert "others can read it" in fault
    assert "Suchmaschine" not in fault


@pytest.mark.usefixtures("a_library")
def test_config_shows_old_names_where_they_are_written(tmp_path: Path) -> None:
    """With file and line, for the provider and for HTTP Basic; the password is hidden, nothing else is."""
    file = tmp_path / "imds-proxy.yaml"
    file.touch(mode=0o600)
    file.write_text(OLD_SETTINGS)
    loaded = registry.load(file, {"AWS_REGION": "eu-central-1"})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.configuration is not None
    described = set(report.describe(loaded.configuration, loaded.providers))
    assert {
        f"providers.staff.ldap_uri: ldaps://dc1.corp.example    # {file}:16",
        f"providers.staff.ldap_base_users: ou=Staff,dc=corp,dc=example    # {file}:17",
        f"providers.staff.ldap_bind_password: ********    # {file}:20",
        "providers.staff.nested: ad    # default",
        f"providers.staff.timeout: 3s    # {file}:21",
        f"people.identity.ldap.servers[0]: ldaps://dc1.corp.example    # {file}:7",
        f"people.identity.ldap.servers[1]: ldaps://dc2.corp.example    # {file}:7",
        f"people.identity.ldap.user_base: ou=Staff,dc=corp,dc=example    # {file}:8",
        f"people.identity.ldap.ldap_bind_password: ********    # {file}:10",
        "people.identity.ldap.bind_password_file: null    # default",
        "people.identity.ldap.page_size: 500    # default",
    } <= described
    assert "not-the-real-one" not in "".join(described)


@pytest.mark.usefixtures("a_library")
def test_an_object_takes_settings_as_they_are_written() -> None:
    """With old names as well, and beside keys of a subclass's own."""
    old = {
        "ldap_uri": "ldaps://127.0.0.1:1",
        "ldap_base_users": "ou=people,dc=valid,dc=example",
        "ldap_base_groups": "ou=groups,dc=valid,dc=example",
        "regex": "(?P<account>.*)-(?P<role>.*)",
        "site_key": "anything",
    }
    with pytest.raises(ProviderError, match="no server answers"):
        ldap.Provider("alice", old).get_group_list()
    with pytest.raises(ValidationError):
        ldap.Provider("alice", {**old, "ldap_uri": "nonsense"})


@pytest.mark.usefixtures("a_library")
@pytest.mark.parametrize("sample", samples("ldap"), ids=str)
def test_the_samples_of_the_page(sample: Sample, tmp_path: Path) -> None:
    """Their settings have no fault once the files that they name are there; groups give what it says."""
    password = tmp_path / "ldap.password"
    password.touch(mode=0o600)
    password.write_text("Suchmaschine-77\n")
    [section] = sample.providers()
    assert section.pop("type") == "ldap"
    if "bind_password_file" in section:
        section["bind_password_file"] = str(password)
    assert faults(section, tmp_path / "imds-proxy.yaml") == []
    assert sample.promises
    for group, promised in sample.promises:
        grant = read_group(re.compile(str(section["regex"])), group)
        assert (REFUSED if grant is None else "/".join(grant)) == promised


def test_the_page_has_every_setting_and_its_default() -> None:
    """In its table, as the program has them."""
    table = {row[0].strip("`"): row[1] for row in manual.rows(manual.section(PAGE, "Settings"))}
    assert set(table) == set(ldap.Settings.model_fields)
    for name, field in ldap.Settings.model_fields.items():
        if field.is_required() or name == "group_base":
            assert table[name] == "required"
        elif name == "timeout":
            assert table[name] == f"`{field.default:.0f}s`"
        elif field.default is not None:
            shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert table[name] == f"`{shown}`"
