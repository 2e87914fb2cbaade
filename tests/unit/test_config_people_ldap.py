"""people.identity.ldap: a directory's settings below the people's listener, with faults at their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy import registry, report
from imds_proxy.directory.settings import DirectorySettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("python_ldap")

SETTINGS = """
people:
  listen: [{{address: "{address}"}}]
  identity:
    ldap: {ldap}
provider: {{type: by_groups, regex: "(?P<account>.*)-(?P<role>.*)", groups: {{main-reader: [alice]}}}}
accounts: {{main: {{id: "123456789012"}}}}
aws: {{region: eu-central-1}}
"""
LEAST = 'servers: "ldaps://ldap.valid.example", user_base: "ou=people,dc=valid,dc=example"'


def load(folder: Path, ldap: str, address: str = "127.0.0.1:0") -> registry.Loaded:
    """Return what came of a file with these settings, which others can't read."""
    file = folder / "a.yaml"
    file.touch(mode=0o600)
    file.write_text(SETTINGS.format(ldap=f"{{{ldap}}}", address=address))
    return registry.load(file, {})


def test_a_directory(tmp_path: Path) -> None:
    """The settings are those of a directory, its defaults included."""
    loaded = load(tmp_path, LEAST + ", timeout: 2s")
    assert loaded.configuration is not None, loaded.faults
    people = loaded.configuration.settings.people
    assert people is not None
    ldap = people.identity.ldap
    assert isinstance(ldap, DirectorySettings)
    assert (ldap.servers, ldap.timeout, ldap.user_filter) == (
        ("ldaps://ldap.valid.example",),
        2,
        "(uid={user})",
    )


@pytest.mark.parametrize(
    ("more", "threshold", "window"),
    [
        ("", 4, 1800),
        (", lockout_threshold: 10, lockout_window: 2h", 10, 7200),
        (", lockout_window: 90", 4, 90),
    ],
)
def test_when_the_directory_locks(tmp_path: Path, more: str, threshold: int, window: float) -> None:
    """It must be told; the defaults are careful."""
    loaded = load(tmp_path, LEAST + more)
    assert loaded.configuration is not None, loaded.faults
    people = loaded.configuration.settings.people
    assert people is not None
    assert people.identity.ldap is not None
    assert (people.identity.ldap.lockout_threshold, people.identity.ldap.lockout_window) == (
        threshold,
        window,
    )


@pytest.mark.parametrize(
    ("ldap", "key", "text"),
    [
        (LEAST + ", servrs: x", "servrs", "did you mean servers?"),
        ('servers: "ldaps://ldap.valid.example"', "user_base", "is required"),
        (LEAST + ", timeout: 2h", "timeout", "not a duration"),
        (LEAST + ", lockout_threshold: 1", "lockout_threshold", "must be 2 or more"),
        (LEAST + ", lockout_window: 10s", "lockout_window", "must be 60"),
        (LEAST + ", lockout_window: soon", "lockout_window", "not a duration"),
        (
            LEAST + ', bind_dn: "cn=x,dc=y", bind_password_file: /nowhere',
            "bind_password_file",
            "can't be read",
        ),
    ],
)
def test_faults(tmp_path: Path, ldap: str, key: str, text: str) -> None:
    """Each with its line and key."""
    [fault] = load(tmp_path, ldap).faults
    assert (fault.where.endswith(":5"), fault.key) == (True, f"people.identity.ldap.{key}")
    assert text in fault.text


def test_no_passwords_in_the_clear(tmp_path: Path) -> None:
    """Beyond loopback TLS is required."""
    faults = load(tmp_path, LEAST, "10.0.0.3:443").faults
    assert "people.listen[0].tls" in {fault.key for fault in faults}


def test_a_password_in_the_file(tmp_path: Path) -> None:
    """Is shown to nobody, and is a fault where others can read the file."""
    ldap = LEAST + ', bind_dn: "cn=x,dc=y", ldap_bind_password: hunter2-hunter2'
    loaded = load(tmp_path, ldap)
    assert loaded.configuration is not None, loaded.faults
    lines = list(report.describe(loaded.configuration, loaded.providers))
    assert "hunter2" not in "\n".join(lines)
    assert any(line.startswith("people.identity.ldap.ldap_bind_password: ********") for line in lines)
    (tmp_path / "a.yaml").chmod(0o644)
    [fault] = registry.load(tmp_path / "a.yaml", {}).faults
    assert (fault.key, "others can read it" in fault.text) == (
        "people.identity.ldap.ldap_bind_password",
        True,
    )
