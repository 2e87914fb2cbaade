"""Classes of the old shape in the settings: what they get, what is shown of it, and what is wrong with one."""

# ruff: noqa: E501  a fault is one line, here too

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from imds_proxy import registry, report, report_schema
from imds_proxy.blocking import BlockingProvider
from imds_proxy.errors import ConfigurationError
from imds_proxy.model import Grant
from tests.standins.callers import NamedCaller
from tests.standins.site_distributions import installed

if TYPE_CHECKING:
    from pathlib import Path

SITE = "tests.standins.old_providers"
CLASS = f"a.yaml:2: providers.a.class: {SITE}"
REST = """
listen: [{address: 127.0.0.1:0}]
accounts: {main: {id: "123456789012"}, other: {id: "210987654321"}}
aws: {region: eu-central-1}
"""
REGEX = "regex: '(?P<account>.*)-(?P<role>.*)'"


def _load(folder: Path, provider: str, rest: str = REST) -> registry.Loaded:
    """Return what is loaded of a provider `a` whose settings are `provider` on line 2 and below."""
    file = folder / "a.yaml"
    file.write_text(f"providers:\n  a: {provider}\n{rest}")
    file.chmod(0o600)
    return registry.load(file, {})


def _faults(folder: Path, provider: str, rest: str = REST) -> list[str]:
    loaded = _load(folder, provider, rest)
    assert loaded.configuration is None
    return [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults]


def _ask(loaded: registry.Loaded, address: str = "10.0.0.5", *names: str) -> frozenset[Grant]:
    assert loaded.faults == ()
    provider = loaded.providers["a"]
    assert isinstance(provider, BlockingProvider)
    return asyncio.run(provider.grants_for(NamedCaller(address, names)))


# --- what a class gets ----------------------------------------------------------------------------------


def test_a_class_without_a_model_gets_what_yaml_says(tmp_path: Path) -> None:
    """Numbers, truth values and nothing have their types, texts in quotes and what surprises stay texts."""
    loaded = _load(
        tmp_path,
        f"{{module: {SITE}, class: Curious, number: 5, share: 0.5, switch: yes, nothing: null, text: '5',"
        f" id: 012345670123, list: [1, 'no', {{deep: off}}]}}",
    )
    (grant,) = _ask(loaded)
    assert grant.reason == repr(
        {
            "number": 5,
            "share": 0.5,
            "switch": True,
            "nothing": None,
            "text": "5",
            "id": "012345670123",
            "list": [1, "no", {"deep": False}],
        }
    )


def test_a_class_with_a_model_gets_what_the_model_made(tmp_path: Path) -> None:
    """Types and defaults are the model's, accounts are checked."""
    assert _ask(_load(tmp_path, f"{{module: {SITE}, class: Strict, account: other, levels: [7]}}")) == {
        Grant("other", "a", "(7,)")
    }
    assert _ask(_load(tmp_path, f"{{module: {SITE}, class: Strict, account: main}}")) == {
        Grant("main", "a", "(1, 2)")
    }


def test_a_subclass_by_groups_reads_settings_of_its_own(tmp_path: Path) -> None:
    """`get_group_list` may use whatever stands in the section."""
    section = f"{{module: {SITE}, class: Groups, {REGEX}, members: {{'10.0.0.5': [main-dev, x, other-ops]}}}}"
    loaded = _load(tmp_path, section)
    assert {(grant.account, grant.role) for grant in _ask(loaded)} == {("main", "dev"), ("other", "ops")}
    assert _ask(loaded, "10.0.0.6") == frozenset()


@pytest.mark.parametrize(
    ("class_name", "role"), [("HostRole", "prefix-web1"), ("ReturnedRole", "prefix-web1-test")]
)
def test_a_subclass_by_host_name(tmp_path: Path, class_name: str, role: str) -> None:
    """`_get_role_name` sets the role's name, or returns it."""
    section = (
        f"{{module: {SITE}, class: {class_name}, allowed_domains: [valid.example], account_name: main,"
        " role_prefix: prefix-, stage: test}"
    )
    (grant,) = _ask(_load(tmp_path, section), "10.0.0.5", "web1.valid.example")
    assert (grant.account, grant.role) == ("main", role)


def test_an_entry_point_of_the_old_shape(tmp_path: Path) -> None:
    """A site may install one."""
    with installed(tmp_path / "site", f"groups = {SITE}:Lists"):
        loaded = _load(tmp_path, "{type: groups}")
    assert _ask(loaded) == {Grant("main", "a", "10.0.0.5 may")}


@pytest.mark.parametrize(
    ("class_name", "count"),
    [("SimpleTestProvider", 2), ("SingleAccountSingleRoleProvider", 1), ("NoAccountNoRoleProvider", 0)],
)
def test_the_samples(tmp_path: Path, class_name: str, count: int) -> None:
    """They take any settings, and need none."""
    loaded = _load(tmp_path, f"{{module: imds_proxy_providers.samples, class: {class_name}}}")
    assert len(_ask(loaded)) == count


# --- what is wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "faults"),
    [
        (f"{{module: {SITE}, class: NoAnswer}}", [f"{CLASS}.NoAnswer lacks get_accounts_and_roles"]),
        (f"{{module: {SITE}, class: NoGroups, {REGEX}}}", [f"{CLASS}.NoGroups lacks get_group_list"]),
        (f"{{module: {SITE}, class: ProviderByIP}}", ["a.yaml:2: providers.a.class: imds_proxy_providers.by_host_name.ProviderByIP lacks _get_role_name"]),
        (f"{{module: {SITE}, class: BaseProvider}}", [f"a.yaml:2: providers.a.class: module {SITE} has no class BaseProvider of its own"]),
        (f"{{module: {SITE}, class: Coroutine}}", [f"{CLASS}.Coroutine has a coroutine get_accounts_and_roles; coroutines belong into imds_proxy.provider.Provider"]),
        (f"{{module: {SITE}, class: TwoArguments}}", [f"{CLASS}.TwoArguments can't be made with user, config and logger: got an unexpected keyword argument 'logger'"]),
        (f"{{module: {SITE}, class: BadModel}}", [f"{CLASS}.BadModel has a settings_model that is no subclass of imds_proxy.provider.ProviderSettings"]),
        (f"{{module: {SITE}, class: BadAudience}}", [f"{CLASS}.BadAudience has a serves that is not a frozenset of 'machines' and 'people'"]),
        (f"{{module: {SITE}, class: NewWithGroups}}", [f"{CLASS}.NewWithGroups has get_group_list, which nobody calls in a subclass of imds_proxy.provider.Provider: derive from imds_proxy_providers.by_groups.ProviderByGroups instead"]),
        (f"{{module: {SITE}, class: NewWithRoleName}}", [f"{CLASS}.NewWithRoleName has _get_role_name, which nobody calls in a subclass of imds_proxy.provider.Provider: override role_for, or derive from imds_proxy_providers.by_host_name.ProviderByIP"]),
        (f"{{module: {SITE}, class: Strict, account: mian, levels: [x], zzz: 1}}", [
            "a.yaml:2: providers.a.account: no account 'mian' under accounts; known: main, other",
            "a.yaml:2: providers.a.levels[0]: must be a whole number",
            "a.yaml:2: providers.a.zzz: unknown key; known here: account, class, levels, module, password, type",
        ]),
        (f"{{module: {SITE}, class: Named, domains: valid.example}}", [f"a.yaml:2: providers.a: {SITE}.Named can't be built: TypeError: wanted_domains gives one text, not a list of domains"]),
        (f"{{module: {SITE}, class: Named}}", [f"a.yaml:2: providers.a: {SITE}.Named can't be built: KeyError: 'domains'"]),
        ("{type: by_groups, groups: {x: [y]}}", ["a.yaml:2: providers.a.regex: is required"]),
        ("{type: by_groups, regex: '(?P<account>x', groups: {x: [y]}}", ["a.yaml:2: providers.a.regex: not a regular expression: missing ), unterminated subpattern at position 0"]),
        ("{type: by_groups, regex: '(.*)-(?P<role>.*)', groups: {x: [y]}}", ["a.yaml:2: providers.a.regex: lacks the group (?P<account>...)"]),
        ("{type: by_groups, regex: x, groups: {x: [y]}}", ["a.yaml:2: providers.a.regex: lacks the group (?P<account>...) and the group (?P<role>...)"]),
        (f"{{type: by_groups, {REGEX}, groups: {{}}}}", ["a.yaml:2: providers.a.groups: must not be empty"]),
        (f"{{type: by_groups, {REGEX}}}", ["a.yaml:2: providers.a.groups: is required"]),
        (f"{{type: grp, {REGEX}, groups: {{x: [y]}}}}", ["a.yaml:2: providers.a.groups: unknown key here: it is a setting of type by_groups"]),
        (f"{{type: sssd, {REGEX}, ldap_uri: x, rule: y, rexeg: z}}", [
            "a.yaml:2: providers.a.ldap_uri: unknown key here: it is a setting of type ldap",
            "a.yaml:2: providers.a.rexeg: unknown key; did you mean regex?",
            "a.yaml:2: providers.a.rule: unknown key here: it is a setting of type by_ip",
        ]),
        (f"{{module: {SITE}, class: Groups, regex: x}}", ["a.yaml:2: providers.a.regex: lacks the group (?P<account>...) and the group (?P<role>...)"]),
        (f"{{module: {SITE}, class: HostRole, allowed_domains: [a..b], account_name: mian}}", [
            "a.yaml:2: providers.a.account_name: no account 'mian' under accounts; known: main, other",
            "a.yaml:2: providers.a.allowed_domains[0]: 'a..b' is not a domain (a name such as valid.example, or *.valid.example)",
        ]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_provider_is_said(tmp_path: Path, provider: str, faults: list[str]) -> None:
    """Each reason has its own message, at the line that names the culprit."""
    assert sorted(_faults(tmp_path, provider)) == sorted(faults)


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        (REST, "a.yaml:4: listen[0].provider: a is a provider for people, not for machines"),
        (
            REST.replace("127.0.0.1:0}", "127.0.0.1:0, callers: [],\n  provider: a}"),
            "a.yaml:5: listen[0].provider: a is a provider for people, not for machines",
        ),
    ],
)
def test_a_listener_for_machines_needs_a_provider_for_machines(tmp_path: Path, rest: str, fault: str) -> None:
    """grp knows login names; an address is none."""
    assert _faults(tmp_path, f"{{type: grp, {REGEX}}}", rest) == [fault]


def test_people_need_a_provider_for_people(tmp_path: Path) -> None:
    """by_ip knows addresses; whoever sits at a machine is somebody else."""
    people = "\npeople:\n  listen: [{unix: /run/people.sock}]\n  identity: {peer: true}\n  provider: a\n"
    section = "{type: by_ip, allowed_domains: [valid.example], account_name: main, role_prefix: x}"
    faults = _faults(tmp_path, section, REST + people)
    assert "a.yaml:11: people.provider: a is a provider for machines, not for people" in faults


# --- secrets --------------------------------------------------------------------------------------------

SECRETIVE = f"""
    module: {SITE}
    class: Curious
    ldap_bind_password: swordfish
    tokenTtl: 5
    servers: [{{name: x, api_token: catfish}}]
    password_file: /etc/pw
"""


def test_what_looks_like_a_secret_is_not_shown(tmp_path: Path) -> None:
    """Nobody says which keys are secrets, so their names do. The class gets them as they are."""
    loaded = _load(tmp_path, SECRETIVE)
    assert loaded.configuration is not None
    lines = [
        line.replace(f"{tmp_path}/", "") for line in report.describe(loaded.configuration, loaded.providers)
    ]
    assert [line for line in lines if line.startswith("providers.a.")] == [
        f"providers.a.module: {SITE}    # a.yaml:3",
        "providers.a.class: Curious    # a.yaml:4",
        "providers.a.ldap_bind_password: ********    # a.yaml:5",
        "providers.a.tokenTtl: 5    # a.yaml:6",
        "providers.a.servers[0].name: x    # a.yaml:7",
        "providers.a.servers[0].api_token: ********    # a.yaml:7",
        "providers.a.password_file: /etc/pw    # a.yaml:8",
    ]
    (grant,) = _ask(loaded)
    assert "swordfish" in grant.reason
    assert "catfish" in grant.reason


def test_what_looks_like_a_secret_is_not_in_a_file_for_others(tmp_path: Path) -> None:
    """As with all secrets."""
    _load(tmp_path, SECRETIVE)
    file = tmp_path / "a.yaml"
    file.chmod(0o644)
    text = f"{file} has a secret and others can read it; chmod o= {file}"
    assert [str(fault) for fault in registry.load(file, {}).faults] == [
        f"{file}:5: providers.a.ldap_bind_password: {text}",
        f"{file}:7: providers.a.servers[0].api_token: {text}",
    ]


# --- settings that a program has at hand ----------------------------------------------------------------


def _build(settings: dict[str, object], **more: Any) -> tuple[str, registry.AnyProvider]:
    return registry.build_provider(settings, ["main"], **more)


def _build_faults(settings: dict[str, object], **more: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        _build(settings, **more)
    return [str(fault) for fault in caught.value.faults]


def test_settings_of_a_program_keep_their_types() -> None:
    """A class of the old shape gets what the program has."""
    marker = object()
    name, provider = _build({"module": SITE, "class": "Curious", "n": 5, "t": (1, "2"), "o": marker})
    assert name == f"{SITE}.Curious"
    (grant,) = asyncio.run(provider.grants_for(NamedCaller("10.0.0.5")))
    assert grant.reason == repr({"n": 5, "t": (1, "2"), "o": marker})


def test_settings_of_a_program_may_name_a_type() -> None:
    """As a file may."""
    name, provider = _build({"type": "grp", "regex": "(?P<account>.*)-(?P<role>.*)"})
    assert name == "grp"
    assert provider.serves == {"people"}


def test_a_program_gives_its_logger(caplog: pytest.LogCaptureFixture) -> None:
    """Objects write to it."""
    caplog.set_level(logging.INFO)
    _, provider = _build({"module": SITE, "class": "Lists"}, logger=logging.getLogger("mine"))
    asyncio.run(provider.grants_for(NamedCaller("10.0.0.5")))
    assert caplog.record_tuples == [("mine", logging.INFO, "10.0.0.5 asks")]


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({}, ["configuration: type: is required (or module)"]),
        ({"module": 3}, ["configuration: module: must be a text"]),
        ({"module": "nowhere"}, ["configuration: module: can't import nowhere: ModuleNotFoundError: No module named 'nowhere'"]),
        ({"module": SITE, "class": "Nobody"}, [f"configuration: class: module {SITE} has no class Nobody of its own"]),
        ({"module": SITE, "class": "NoGroups"}, [f"configuration: class: {SITE}.NoGroups lacks get_group_list"]),
        ({"type": "grp", "regex": 5}, ["configuration: regex: must be a text"]),
        ({"type": "grp", "regex": "("}, ["configuration: regex: not a regular expression: missing ), unterminated subpattern at position 0"]),
        ({"module": SITE, "class": "Strict", "account": "mian"}, ["configuration: account: no account 'mian' under accounts; known: main"]),
    ],
)  # fmt: skip
def test_faults_of_a_program_name_the_key(settings: dict[str, object], faults: list[str]) -> None:
    """There is no file and no line."""
    assert _build_faults(settings) == faults


def test_an_object_is_made_for_the_user() -> None:
    """What a constructor raises is a fault of the settings, and its cause is kept; secrets are not shown."""
    settings: dict[str, object] = {"module": SITE, "class": "Failing", "password": "swordfish"}
    name, _ = _build(settings)
    assert name == f"{SITE}.Failing"
    with pytest.raises(ConfigurationError) as caught:
        _build(settings, user="joe")
    assert str(caught.value) == (
        f"configuration: {SITE}.Failing can't be made for joe: ConnectionError: no answer for ********"
    )
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_what_pydantic_found_is_not_the_cause() -> None:
    """It has the values that are wrong in its text."""
    with pytest.raises(ConfigurationError) as caught:
        _build({"module": SITE, "class": "Strict", "account": "main", "password": ["swordfish"]})
    assert caught.value.__cause__ is None
    assert "swordfish" not in str(caught.value)


# --- an editor's schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "is_valid"),
    [
        ({"type": "grp", "regex": "x"}, True),
        ({"type": "sssd", "regex": "x"}, True),
        ({"type": "by_groups", "regex": "x", "groups": {"g": ["joe"]}}, True),
        ({"type": "grp"}, False),
        ({"type": "sssd", "regex": "x", "groups": {"g": ["joe"]}}, False),
        ({"type": "by_groups", "regex": "x"}, False),
        ({"type": "by_groups", "regex": "x", "groups": {}}, False),
    ],
)
def test_the_schema_knows_providers_by_group(provider: dict[str, object], is_valid: bool) -> None:
    """Each with its own settings, though two share a model."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema (by moto's server) is not installed")
    schema = report_schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    settings = {"listen": [{"address": "127.0.0.1"}], "provider": provider}
    assert jsonschema.Draft202012Validator(schema).is_valid(settings) is is_valid
