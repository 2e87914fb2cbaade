"""What the library is given: both places of a provider's settings, old keys, account ids, own keys."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from imds_proxy.errors import ConfigurationError
from imds_proxy.library_settings import OLD_KEYS, LibrarySettings, read_settings

PROVIDER = {"module": "site.roles", "regex": "(?P<account>.*)-(?P<role>.*)"}


def read(config: Any = PROVIDER, accounts: Any = None, **environ: str) -> LibrarySettings:
    return read_settings(config, {} if accounts is None else accounts, environ)


def faults(config: Any = PROVIDER, accounts: Any = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(config, accounts, **environ)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    "config",
    [
        PROVIDER,
        {"provider": PROVIDER},
        {"provider": {"module": "site.roles"}, "regex": PROVIDER["regex"]},
        {"provider": {"regex": PROVIDER["regex"]}, "module": "site.roles"},
        {"provider": PROVIDER, **PROVIDER},
        {"provider": {}, **PROVIDER},
    ],
)
def test_a_providers_settings_stand_at_the_top_or_below_provider(config: dict[str, Any]) -> None:
    """Or in both places, as long as they say the same."""
    assert read(config).provider == PROVIDER


def test_two_places_that_disagree() -> None:
    """Nobody guesses which of the two counts."""
    config = {"provider": PROVIDER, "regex": "other", "module": "another"}
    assert faults(config) == [
        "configuration: module: is provider.module too, and not the same",
        "configuration: regex: is provider.regex too, and not the same",
    ]


def test_settings_beside_a_provider_that_is_whole() -> None:
    """They are noted: only the provider's model can tell a setting from a mistyped section."""
    assert read({"provider": PROVIDER, "awss": {}}).outsiders == {"awss"}
    assert read({**PROVIDER, "awss": {}}).outsiders == set()
    assert read({"provider": PROVIDER, "class": "Provider"}).outsiders == set()


def test_old_keys_are_ignored_with_one_warning() -> None:
    """All of them, whatever they hold."""
    settings = read({**PROVIDER, "api": {"a": None}, "logging_handler": 3, "log_level": []})
    assert [str(fault) for fault in settings.warnings] == [
        "configuration: api, log_level, logging_handler: warning: ignored, nothing here reads them"
    ]
    assert settings.provider == PROVIDER
    for key in OLD_KEYS:
        assert len(read({**PROVIDER, key: "x"}).warnings) == 1


def test_sections_of_the_daemon_that_the_library_has_no_use_for() -> None:
    """They are errors, not settings of the provider."""
    config = {**PROVIDER, "listen": [], "people": {}, "providers": {}, "accounts": {}, "audit": {}}
    text = "is a setting of the daemon; the library has no use for it"
    assert faults(config) == [
        f"configuration: {key}: {text}" for key in ("accounts", "audit", "listen", "people", "providers")
    ]


def test_all_faults_come_at_once() -> None:
    """Of both arguments."""
    found = faults({**PROVIDER, "aws": {"regoin": "x", "region": 7}}, {"a": {"id": "x"}, "b": 7})
    assert found == [
        "configuration: aws.region: '7' is not a region such as eu-central-1",
        "configuration: aws.regoin: unknown key; did you mean region?",
        "account_config: a.id: 'x' is not an account id: 12 digits, such as \"000123456789\"",
        "account_config: b: must be a map such as {id: ...}, not a int",
    ]


@pytest.mark.parametrize("wrong", [None, [], "text", 7])
def test_arguments_that_are_no_maps(wrong: object) -> None:
    """Both, and `provider` in the first."""
    name = type(wrong).__name__
    with pytest.raises(ConfigurationError, match=f"configuration: must be a map, not a {name}"):
        read_settings(wrong, {}, {})
    with pytest.raises(ConfigurationError, match=f"account_config: must be a map, not a {name}"):
        read_settings(PROVIDER, wrong, {})
    assert faults({"provider": wrong}) == [f"configuration: provider: must be a map, not a {name}"]


def test_keys_that_are_no_texts() -> None:
    """As YAML makes them of a bare number or nothing."""
    assert faults({**PROVIDER, 7: "x"}, {7: {"id": 1}, "": {}}) == [
        "configuration: 7: a key must be a text that is not empty",
        "account_config: 7: a key must be a text that is not empty",
        "account_config: '': a key must be a text that is not empty",
    ]


@pytest.mark.parametrize(
    ("given_id", "full"),
    [
        (123456789, "000123456789"),
        ("123456789", "000123456789"),
        (0, "000000000000"),
        (3141592654, "003141592654"),
    ],
)
def test_short_account_ids_are_padded_with_a_warning(given_id: object, full: str) -> None:
    """The warning names the account and the twelve digits."""
    settings = read(accounts={"ap-test1": {"id": given_id}})
    assert settings.accounts["ap-test1"].id == full
    [warning] = settings.warnings
    assert str(warning).startswith(f'account_config: ap-test1.id: warning: read as "{full}"')


@pytest.mark.parametrize("given_id", [123456789012, "123456789012", "000123456789"])
def test_whole_account_ids(given_id: object) -> None:
    """Without a warning."""
    settings = read(accounts={"ap-test1": {"id": given_id}})
    assert settings.accounts["ap-test1"].id == str(given_id)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    "given_id",
    [
        None,
        True,
        1.0,
        "",
        " 1",
        "1 ",
        "1_000",
        "0x10",
        "-1",
        -1,
        "1234567890123",
        10**12,
        "١٢٣",
        b"1",
        [1],
        {},
        pytest.param(10**5000, id="endless"),
    ],
)
def test_anything_else_is_no_account_id(given_id: object) -> None:
    """The error names the account."""
    [fault] = faults(accounts={"ap-test1": {"id": given_id}})
    assert fault.startswith("account_config: ap-test1.id: ")
    assert "12 digits" in fault


@given(st.integers(0, 10**12 - 1))
def test_every_number_is_the_id_that_it_reads_as(number: int) -> None:
    """As int or as text."""
    for given_id in (number, str(number), f"{number:012}"):
        assert read(accounts={"a": {"id": given_id}}).accounts["a"].id == f"{number:012}"


def test_accounts_without_an_id() -> None:
    """They are known by name, for a provider's settings, and have no id."""
    settings = read(accounts={"a": {}, "b": None, "c": {"path": "/people/"}, "d": {"id": "123456789012"}})
    assert set(settings.accounts) == {"d"}
    assert settings.account_names == {"a", "b", "c", "d"}


def test_an_accounts_other_settings() -> None:
    """As in the daemon."""
    account = {
        "id": 123456789012,
        "path": "/people/",
        "external_id": "ext",
        "source_identity": True,
        "session_tags": {"who": "{name}", "number": 7},
        "policy": {"Version": "2012-10-17", "Statement": []},
    }
    found = read(accounts={"a": account}).accounts["a"]
    assert (found.path, found.external_id, found.has_source_identity) == ("/people/", "ext", True)
    assert found.session_tags == (("who", "{name}"), ("number", "7"))
    assert found.policy == '{"Version":"2012-10-17","Statement":[]}'
    assert faults(accounts={"a": {"id": 123456789012, "pth": "/"}}) == [
        "account_config: a.pth: unknown key; did you mean path?"
    ]


def test_values_of_python() -> None:
    """Numbers, paths, addresses and secrets need not be texts."""
    aws = {"access_key": "AKIA", "secret_key": SecretStr("s3cret"), "session_duration": 7200}
    dns = {"nameservers": ("10.0.0.3",), "deadline": 2, "attempt_timeout": 0.5}
    config = {**PROVIDER, "aws": aws, "dns": dns, "hosts": {ip_address("10.0.0.5"): "a.valid.example"}}
    settings = read(config | {"deny": {ip_address("10.0.0.9")}})
    assert settings.aws.session_duration == 7200
    assert settings.sts.secret_key == "s3cret"
    assert settings.dns.attempt_timeout == 0.5
    assert settings.hosts == {ip_address("10.0.0.5"): "a.valid.example"}
    assert settings.deny == (ip_address("10.0.0.9"),)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(settings.sts)
    for switch in (True, False):
        found = read({**PROVIDER, "aws": {"use_instance_metadata": switch}})
        assert found.sts.use_instance_metadata is switch


def test_what_is_none_in_aws_is_left_out() -> None:
    """The old program's default was a key of None."""
    assert read({**PROVIDER, "aws": {"access_key": None, "secret_key": None}}).sts.access_key is None


@pytest.mark.parametrize(
    ("aws", "fault"),
    [
        ({"access_key": "AKIA"}, "access_key: needs secret_key or secret_key_file beside it"),
        ({"secret_key": "x"}, "secret_key: needs access_key beside it"),
        (
            {"access_key": "AKIA", "secret_key": "x", "profile": "p"},
            "profile: and access_key can't both be given",
        ),
        (
            {"ca_bundle": "/nowhere/ca.pem"},
            "ca_bundle: /nowhere/ca.pem can't be read: No such file or directory",
        ),
    ],
)
def test_settings_that_need_or_exclude_each_other(aws: dict[str, str], fault: str) -> None:
    """As in the daemon."""
    assert faults({**PROVIDER, "aws": aws}) == [f"configuration: aws.{fault}"]


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    """Read at once, and only when nobody else can."""
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    aws = {"access_key": "AKIA", "secret_key_file": file}
    assert read({**PROVIDER, "aws": aws}).sts.secret_key == "s3cret"
    assert faults({**PROVIDER, "aws": aws | {"secret_key": "x"}})[0].endswith("can't both be given")
    file.chmod(0o644)
    [fault] = faults({**PROVIDER, "aws": aws})
    assert fault.startswith("configuration: aws.secret_key_file: ")
    assert "others can read it" in fault


def test_the_region_of_the_environment() -> None:
    """Counts where the settings have none; a wrong one is a fault."""
    assert read().aws.region == "us-east-1"
    assert read(AWS_DEFAULT_REGION="eu-west-1").aws.region == "eu-west-1"
    china = read(AWS_REGION="cn-north-1", AWS_DEFAULT_REGION="eu-west-1").aws
    assert (china.region, china.partition) == ("cn-north-1", "aws-cn")
    assert (
        read({**PROVIDER, "aws": {"region": "eu-north-1"}}, AWS_REGION="eu-west-1").aws.region == "eu-north-1"
    )
    assert faults(AWS_REGION="nowhere")[0].startswith("configuration: aws.region: 'nowhere' is not a region")


def test_no_fault_shows_a_secret() -> None:
    """Whatever is wrong with the settings around it."""
    aws = {"secret_key": "s3cret", "profile": 7, "region": [], "https_proxy": "http://u:s3cret@:x"}
    assert not [fault for fault in faults({**PROVIDER, "aws": aws}) if "s3cret" in fault]
    wrong = {"secret_key": ["s3cret"], "access_key": {"s3cret": 1}}
    assert not [fault for fault in faults({**PROVIDER, "aws": wrong}) if "s3cret" in fault]
