"""The settings of a directory: what they take, what follows from what, what is a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from imds_proxy.directory.settings import DirectorySettings
from tests.standins.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

BASE = {"servers": "ldaps://ldap.valid.example", "user_base": "ou=people,dc=valid,dc=example"}

OLD = {
    "ldap_uri": "ldap://ad.valid.example",
    "ldap_base_users": "ou=people,dc=valid,dc=example",
    "ldap_base_groups": "ou=groups,dc=valid,dc=example",
    "ldap_bind_dn": "cn=searcher,dc=valid,dc=example",
    "ldap_bind_password": "Suchmaschine-77",
}


def read(**settings: Any) -> DirectorySettings:
    """Return what the model makes of settings."""
    return DirectorySettings.model_validate(settings)


def fault(**settings: Any) -> str:
    """Return the one thing that is wrong with settings."""
    with pytest.raises(ValidationError) as caught:
        read(**settings)
    (error,) = caught.value.errors(include_url=False)
    return ".".join(map(str, error["loc"])) + ": " + error["msg"]


def test_defaults_are_for_openldap() -> None:
    """Everything is encrypted, verified and searched anonymously; people have a uid, groups have members."""
    settings = read(**BASE)
    assert settings.start_tls
    assert settings.bind_dn is None
    assert settings.user_filter == "(uid={user})"
    assert (settings.group_filter, settings.member_attribute) == ("(objectClass=*)", "member")
    assert (settings.nested, settings.group_name_attribute) == ("none", "cn")
    assert (settings.page_size, settings.max_groups, settings.timeout) == (500, 5000, 5.0)


def test_nested_ad_is_for_active_directory() -> None:
    """Enabled people by their sAMAccountName, groups of its class; what is given is not replaced."""
    settings = read(**BASE, nested="ad")
    assert "(sAMAccountName={user})" in settings.user_filter
    assert "(!(userAccountControl:1.2.840.113556.1.4.803:=2))" in settings.user_filter
    assert settings.group_filter == "(objectClass=group)"
    assert read(**BASE, nested="ad", user_filter="(cn={user})").user_filter == "(cn={user})"


def test_the_old_names_mean_what_they_meant() -> None:
    """The AWS Federation Proxy's settings, which were for Active Directory, are read as they stand."""
    settings = read(**OLD)
    assert settings.servers == ("ldap://ad.valid.example",)
    assert settings.user_base == OLD["ldap_base_users"]
    assert settings.group_base == OLD["ldap_base_groups"]
    assert settings.bind_dn == OLD["ldap_bind_dn"]
    assert settings.bind_password() == "Suchmaschine-77"
    assert settings.start_tls
    assert settings.nested == "ad"
    assert "sAMAccountName" in settings.user_filter


@pytest.mark.parametrize("more", [{"nested": "none"}, {"user_filter": "(uid={user})"}])
def test_old_names_with_new_settings_are_for_any_directory(more: dict[str, str]) -> None:
    """Whoever says how people or groups look says it all."""
    settings = read(**OLD, **more)
    assert settings.nested == "none"
    assert settings.user_filter == "(uid={user})"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ldap_uri", {"servers": "ldaps://ldap.valid.example"}),
        ("ldap_base_users", {"user_base": "ou=people,dc=valid,dc=example"}),
        ("ldap_base_groups", {"group_base": "ou=groups,dc=valid,dc=example"}),
        ("ldap_bind_dn", {"bind_dn": "cn=searcher,dc=valid,dc=example"}),
        ("ldap_bind_password", {"bind_password_file": "/nowhere"}),
    ],
)
def test_both_names_of_a_setting_are_a_fault(old: str, new: dict[str, str]) -> None:
    """Which of the two counts is not guessed."""
    assert f"{old} and {next(iter(new))} can't both be given" in fault(**OLD, **new)


def test_settings_that_were_read_are_read_again() -> None:
    """A provider gets what the model made of the settings, and makes the same of it."""
    for settings in (read(**BASE, timeout="800ms"), read(**OLD), read(**BASE, nested="ad")):
        assert read(**dict(settings)) == settings


@pytest.mark.parametrize(
    ("uris", "expected"),
    [
        ("ldap://a.example", [("ldap", "a.example", 389)]),
        (
            "ldaps://a.example ldap://b.example:3389/",
            [("ldaps", "a.example", 636), ("ldap", "b.example", 3389)],
        ),
        (["LDAPS://[fd00::9]:636"], [("ldaps", "fd00::9", 636)]),
        ("ldapi://%2Frun%2Fslapd%2Fldapi", [("ldapi", "", 0)]),
    ],
)
def test_servers(uris: object, expected: list[tuple[str, str, int]]) -> None:
    """A list, or a text with spaces between; ports have the usual defaults."""
    servers = read(**BASE | {"servers": uris}).addresses()
    assert [(each.scheme, each.host, each.port) for each in servers] == expected


@pytest.mark.parametrize(
    "uri",
    [
        "ldap.valid.example",
        "http://ldap.valid.example",
        "ldap://",
        "ldap://host:0",
        "ldap://host:99999",
        "ldap://user:secret@host",
        "ldap://host/dc=valid??sub",
        "ldap://a_b*",
        "ldapi://run/slapd",
        "ldaps://[fd00::9",
    ],
)
def test_no_server(uri: str) -> None:
    """What is no URI of a server, or says more than where it is, is a fault of `servers`."""
    with pytest.raises(ValidationError) as caught:
        read(**BASE | {"servers": [uri]})
    first = caught.value.errors(include_url=False, include_input=False)[0]
    assert first["loc"] == ("servers", 0)
    assert "secret" not in first["msg"]


@pytest.mark.parametrize("servers", ["ldap://ldap.valid.example", "ldap://10.0.0.9 ldap://127.0.0.1"])
def test_plain_ldap_stays_on_the_machine(servers: str) -> None:
    """No switch sends passwords over a network in the clear."""
    assert "without StartTLS" in fault(**BASE | {"servers": servers, "start_tls": "false"})
    assert "without StartTLS" in fault(
        ldap_uri=servers, ldap_base_users=BASE["user_base"], ldap_starttls=False
    )


@pytest.mark.parametrize(
    "servers",
    [
        "ldap://127.0.0.1:389",
        "ldap://127.7.7.7",
        "ldap://[::1]",
        "ldap://localhost",
        "ldapi://%2Frun%2Fldapi",
    ],
)
def test_plain_ldap_on_loopback(servers: str) -> None:
    """There nobody is on the way."""
    assert not read(**BASE | {"servers": servers, "start_tls": "false"}).start_tls


@pytest.mark.parametrize(
    ("user_filter", "expected"),
    [
        ("(uid={user})", ("uid", "", "")),
        ("(&(objectClass=person)(mail={user}@valid.example))", ("mail", "", "@valid.example")),
        ("(uid:caseExactMatch:={user})", ("uid", "", "")),
        ("(2.5.4.3=x-{user})", ("2.5.4.3", "x-", "")),
    ],
)
def test_user_filters(user_filter: str, expected: tuple[str, str, str]) -> None:
    """The attribute that has the name is known, and what stands around it."""
    assertion = read(**BASE, user_filter=user_filter).user_assertion
    assert (assertion.attribute, assertion.before, assertion.after) == expected


@pytest.mark.parametrize(
    "user_filter",
    [
        "(uid=alice)",
        "(|(uid={user})(mail={user}))",
        "(uid={user}*)",
        "(uid=*{user})",
        "(uid>={user})",
        "(uid~={user})",
        "({user}=uid)",
        "{user}",
        "(uid={user}",
        "(uid={user}))",
        "(uid={user})(cn=a)",
        "",
    ],
)
def test_bad_user_filters(user_filter: str) -> None:
    """Once `{user}`, compared whole; a filter that would let one name mean another is a fault."""
    assert fault(**BASE, user_filter=user_filter).startswith("user_filter: Value error")


@pytest.mark.parametrize(
    ("more", "key", "text"),
    [
        ({"group_filter": "(member={user})"}, "group_filter", "no place"),
        ({"group_filter": "objectClass=group"}, "group_filter", "is not a filter"),
        ({"member_attribute": "member)(uid=*"}, "member_attribute", "not an attribute"),
        ({"group_base": "groups"}, "group_base", "not a distinguished name"),
        ({"nested": "deep"}, "nested", "'none', 'walk' or 'ad'"),
        ({"timeout": "5m"}, "timeout", "duration"),
        ({"timeout": 0}, "timeout", "greater than or equal"),
        ({"page_size": 0}, "page_size", "greater than or equal"),
        ({"servers": []}, "servers", "must not be empty"),
        ({"ldap_verify": False}, "ldap_verify", "Extra inputs"),
        ({"bind_password": "x"}, "bind_password", "Extra inputs"),
        ({"bind_dn": "cn=searcher"}, "", "needs bind_password_file"),
        ({"ldap_bind_password": "x"}, "", "needs bind_dn"),
        ({"bind_dn": "cn=searcher", "ldap_bind_password": ""}, "ldap_bind_password", "at least 1"),
        ({"member_attribute": "memberUid", "nested": "walk"}, "", "login names"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file", "can't be read"),
        ({"bind_dn": "cn=x", "bind_password_file": "/nowhere/pw"}, "bind_password_file", "can't be read"),
    ],
)
def test_faults(more: dict[str, object], key: str, text: str) -> None:
    """Each is told at its key."""
    found = fault(**BASE | more)
    assert found.startswith(f"{key}: ")
    assert text in found


def test_the_password_of_bind_dn_is_the_line_of_a_file(tmp_path: Path) -> None:
    """Read at every question, so that it can be changed; spaces and umlauts belong to it."""
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text("erstes Geheimnis ü\n", "utf-8")
    settings = read(**BASE, bind_dn="searcher@valid.example", bind_password_file=str(file))
    assert settings.bind_password() == "erstes Geheimnis ü"
    file.write_text("zweites\r\n")
    assert settings.bind_password() == "zweites"
    assert "zweites" not in repr(settings)
    file.write_text("")
    with pytest.raises(ValueError, match="one line"):
        settings.bind_password()


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (b"", 0o600, "one line"),
        (b"one\ntwo\n", 0o600, "one line"),
        (b"\xff\xfe", 0o600, "UTF-8"),
        (b"Geheimnis\n", 0o604, "others can read it"),
    ],
)
def test_bad_password_files(tmp_path: Path, content: bytes, mode: int, text: str) -> None:
    """The fault says what is wrong and never what is in the file."""
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(mode)
    found = fault(**BASE, bind_dn="cn=x", bind_password_file=str(file))
    assert text in found
    assert "Geheimnis" not in found


def test_a_password_in_the_settings_is_not_shown() -> None:
    """Neither in the settings' text nor in what is told of faults."""
    assert "Suchmaschine" not in repr(read(**OLD))
    with pytest.raises(ValidationError) as caught:
        read(**OLD, page_size="many")
    assert "Suchmaschine" not in str(caught.value)


def test_a_ca_file_has_certificates(tmp_path: Path) -> None:
    """One that has none would fail every connection."""
    authority = Authority(tmp_path)
    assert read(**BASE, ca_file=str(authority.certificate)).ca_file == authority.certificate
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    assert "has no certificate" in fault(**BASE, ca_file=str(empty))
