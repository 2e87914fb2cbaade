"""Providers are found, checked and built; what a site's module does wrong is a fault with file and line."""

# ruff: noqa: E501  a fault is one line, here too

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy import registry
from imds_proxy.provider import Provider
from tests.standins import site_providers
from tests.standins.site_distributions import installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SITE = "tests.standins.site_providers"
REST = """
listen: [{address: 127.0.0.1:0}]
accounts: {main: {id: "123456789012"}, other: {id: "210987654321"}}
aws: {region: eu-central-1}
"""
CLASS = f"providers.a.class: {SITE}"


def _load(folder: Path, provider: str) -> registry.Loaded:
    """Return what is loaded of a provider `a` whose settings are `provider` on line 2 and below."""
    file = folder / "a.yaml"
    file.write_text(f"providers:\n  a: {provider}\n{REST}")
    file.chmod(0o600)
    return registry.load(file, {})


def _faults(folder: Path, provider: str) -> list[str]:
    loaded = _load(folder, provider)
    assert loaded.configuration is None
    assert loaded.providers == {}
    return [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults]


def test_a_provider_of_a_module(tmp_path: Path) -> None:
    """`class` names it; its settings come through its own model."""
    loaded = _load(
        tmp_path, f"{{module: {SITE}, class: Machines, account: main, levels: [3], class-name: y}}"
    )
    assert loaded.faults == ()
    provider = loaded.providers["a"]
    assert isinstance(provider, site_providers.Machines)
    assert provider.settings.account == "main"
    assert provider.settings.levels == (3,)
    assert provider.settings.class_name == "y"


def test_a_provider_of_an_entry_point(tmp_path: Path) -> None:
    """`type` names it."""
    loaded = _load(tmp_path, "{type: simple, grants: [{account: main, role: demo-role}]}")
    assert loaded.faults == ()
    assert isinstance(loaded.providers["a"], Provider)


def test_the_class_is_called_provider_unless_it_is_said(
    tmp_path: Path, pytester_modules: Callable[[str, str], None]
) -> None:
    """`module` alone is enough."""
    pytester_modules("site_default", f"from {SITE} import Machines as Provider\n")
    loaded = _load(tmp_path, "{module: site_default, account: main}")
    assert isinstance(loaded.providers["a"], site_providers.Machines)


def test_several_providers_of_one_class(tmp_path: Path) -> None:
    """Each has its own settings."""
    file = tmp_path / "a.yaml"
    sections = "\n".join(
        f"  {name}: {{module: {SITE}, class: Machines, account: {account}}}"
        for name, account in (("b", "main"), ("a", "other"))
    )
    file.write_text(f"providers:\n{sections}\n{REST}".replace("127.0.0.1:0", "127.0.0.1:0, provider: a"))
    loaded = registry.load(file, {})
    assert loaded.configuration is not None
    assert {name: provider.settings.account for name, provider in loaded.providers.items()} == {
        "a": "other",
        "b": "main",
    }


@pytest.mark.parametrize(
    ("provider", "faults"),
    [
        (
            "{type: by_ipp}",
            ["a.yaml:2: providers.a.type: no provider 'by_ipp' is installed; known: by_groups, by_ip, grp, ldap, simple, sssd"],
        ),
        (
            "\n    module: nowhere.machines",
            ["a.yaml:3: providers.a.module: can't import nowhere.machines: ModuleNotFoundError: No module named 'nowhere'"],
        ),
        (
            "{module: .machines}",
            ["a.yaml:2: providers.a.module: can't import .machines: TypeError: the 'package' argument is required to perform a relative import for '.machines'"],
        ),
        (
            f"{{module: {SITE}}}",
            [f"a.yaml:2: providers.a.class: module {SITE} has no class Provider of its own"],
        ),
        (
            f"{{module: {SITE},\n    class: Machine}}",
            [f"a.yaml:3: providers.a.class: module {SITE} has no class Machine of its own"],
        ),
        (
            f"{{module: {SITE}, class: Good}}",
            [f"a.yaml:2: {CLASS}.Good is not a subclass of imds_proxy.provider.Provider, nor has it get_accounts_and_roles"],
        ),
        (
            f"{{module: {SITE}, class: function}}",
            ["a.yaml:2: providers.a.class: a function is not a subclass of imds_proxy.provider.Provider, nor has it get_accounts_and_roles"],
        ),
        (f"{{module: {SITE}, class: NoAnswer}}", [f"a.yaml:2: {CLASS}.NoAnswer lacks grants_for"]),
        (
            f"{{module: {SITE}, class: NoModel}}",
            [f"a.yaml:2: {CLASS}.NoModel has no settings_model, a subclass of imds_proxy.provider.ProviderSettings"],
        ),
        (
            f"{{module: {SITE}, class: Failing, account: main}}",
            [f"a.yaml:2: providers.a: {SITE}.Failing can't be built: ConnectionError: no answer from site-role"],
        ),
        (
            f"{{module: {SITE}, class: Leaving, account: main}}",
            [f"a.yaml:2: providers.a: {SITE}.Leaving can't be built: SystemExit: 3"],
        ),
        (
            f"{{module: {SITE}, class: Choosy, account: main}}",
            [f"a.yaml:2: providers.a: {SITE}.Choosy can't be built: Input should be a valid string"],
        ),
        (
            f"{{module: {SITE}, class: Odd, account: main}}",
            [f"a.yaml:2: providers.a: {SITE}.Odd can't be built: TypeError: Odd.__init__() missing 1 required positional argument: 'more'"],
        ),
        (
            f"{{module: {SITE}, class: CrashingSettings, account: main, role: x}}",
            [f"a.yaml:2: providers.a: the settings of {SITE}.CrashingSettings can't be checked: KeyError: 'x'"],
        ),
        (
            f"\n    module: {SITE}\n    class: Machines\n    account: mian\n    role: a b\n    levels: [1, x]\n    rolle: z\n    limits: {{a: b}}\n    password: [p]",
            [
                "a.yaml:5: providers.a.account: no account 'mian' under accounts; known: main, other",
                "a.yaml:6: providers.a.role: a role has no spaces",
                "a.yaml:7: providers.a.levels[1]: must be a whole number",
                "a.yaml:8: providers.a.rolle: unknown key; did you mean role?",
                "a.yaml:9: providers.a.limits.a: must be a whole number",
                "a.yaml:10: providers.a.password: must be a text",
            ],
        ),
        (f"{{module: {SITE}, class: Machines}}", ["a.yaml:2: providers.a.account: is required"]),
        (
            f"{{module: {SITE}, class: Machines, account: }}",
            ["a.yaml:2: providers.a.account: has no value; leave the key out for the default, or write [] for an empty list"],
        ),
        (
            f"{{module: {SITE}, class: Machines, account: main, typ: x}}",
            ["a.yaml:2: providers.a.typ: unknown key; did you mean type?"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_provider_is_said(tmp_path: Path, provider: str, faults: list[str]) -> None:
    """Each reason has its own message, at the line that names the culprit."""
    assert _faults(tmp_path, provider) == faults


@pytest.fixture
def pytester_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that makes a module of a site that can be imported by its name."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)

    return write


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("site_syntax", "def x(:\n", "SyntaxError: invalid syntax (site_syntax.py, line 1)"),
        ("site_crash", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("site_exit", "raise SystemExit(2)\n", "SystemExit: 2"),
        ("site_import", "import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
        (
            "site_late",
            "def __getattr__(name):\n    import nowhere\n",
            "ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("site_lines", "raise ValueError('a\\nb\\x07')\n", "ValueError: a b\\x07"),
    ],
)
def test_a_module_that_crashes_is_a_fault(
    tmp_path: Path, pytester_modules: Callable[[str, str], None], name: str, text: str, fault: str
) -> None:
    """Never a traceback, never the end of the program, always one line."""
    pytester_modules(name, text)
    assert _faults(tmp_path, f"{{module: {name}}}") == [
        f"a.yaml:2: providers.a.module: can't import {name}: {fault}"
    ]


def test_a_provider_with_a_secret_is_not_in_a_file_for_others(tmp_path: Path) -> None:
    """As with our own secrets."""
    provider = f"{{module: {SITE}, class: Machines, account: main, password: swordfish}}"
    loaded = _load(tmp_path, provider)
    assert loaded.configuration is not None
    file = tmp_path / "a.yaml"
    file.chmod(0o644)
    (fault,) = registry.load(file, {}).faults
    assert (
        str(fault)
        == f"{file}:2: providers.a.password: {file} has a secret and others can read it; chmod o= {file}"
    )


def test_faults_of_settings_and_providers_come_together(tmp_path: Path) -> None:
    """Sorted by line, as if one had found them all."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "log: {level: loud}\nproviders:\n  a: {type: nothing}\n"
        "  b: {type: simple}\nlimits: {connections: 0}\naccounts: {main: {id: 1}}\n"
        "listen: [{address: 127.0.0.1, provider: a}]\naws: {region: eu-central-1}\n"
    )
    loaded = registry.load(file, {})
    assert [(fault.where.rpartition(":")[2], fault.key) for fault in loaded.faults] == [
        ("1", "log.level"),
        ("3", "providers.a.type"),
        ("4", "providers.b.grants"),
        ("5", "limits.connections"),
        ("6", "accounts.main.id"),
    ]
    assert loaded.configuration is None


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "site_meta",
            "class Meta(type):\n    def __getattr__(cls, name): raise OSError(name)\n"
            "class Provider(metaclass=Meta):\n    def get_accounts_and_roles(self): pass\n",
            "site_meta.Provider can't be looked at: OSError: settings_model",
        ),
        (
            "site_number",
            "class Provider:\n    get_accounts_and_roles = 5\n",
            "site_number.Provider has a get_accounts_and_roles that can't be called",
        ),
    ],
)
def test_a_class_that_can_not_be_one(
    tmp_path: Path, pytester_modules: Callable[[str, str], None], name: str, text: str, fault: str
) -> None:
    """A fault at its `class`, whatever the class does when it is looked at."""
    pytester_modules(name, text)
    assert _faults(tmp_path, f"{{module: {name}, class: Provider}}") == [
        f"a.yaml:2: providers.a.class: {fault}"
    ]


def test_the_built_in_providers_are_installed() -> None:
    """Each of them once, whatever else is."""
    assert {"simple", "by_ip"} <= registry.installed().keys()
    assert all(len(entry_points) == 1 for entry_points in registry.installed().values())


def test_two_distributions_with_one_name_are_a_fault(tmp_path: Path) -> None:
    """Whose code runs is not left to the order of folders."""
    with installed(tmp_path / "site", "clash = one:Provider", "clash = two:Provider"):
        assert _faults(tmp_path, "{type: clash}") == [
            "a.yaml:2: providers.a.type: several are installed as clash: one:Provider, two:Provider"
        ]


def test_an_entry_point_to_nowhere_is_a_fault(tmp_path: Path) -> None:
    """A half removed distribution is named by what it said."""
    with installed(tmp_path / "site", "broken = nowhere.at_all:Provider"):
        assert _faults(tmp_path, "{type: broken}") == [
            "a.yaml:2: providers.a.type: can't import nowhere.at_all:Provider: ModuleNotFoundError: No module named 'nowhere'"
        ]


def test_a_site_may_install_its_provider(tmp_path: Path) -> None:
    """Then `type` names it as it names ours."""
    with installed(tmp_path / "site", f"machines = {SITE}:Machines"):
        loaded = _load(tmp_path, "{type: machines, account: main}")
    assert isinstance(loaded.providers["a"], site_providers.Machines)
