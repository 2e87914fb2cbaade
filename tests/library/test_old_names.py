"""The import names of the old program lead to the same objects, or say where to read on."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import imds_proxy_providers
import pytest

import aws_federation_proxy
import imds_proxy
from tests.standins.processes import REPOSITORY, bare_environment

OLD = "aws_federation_proxy"
PROVIDERS = "imds_proxy_providers"
OBJECTS = [
    *((OLD, name, "imds_proxy", name) for name in aws_federation_proxy.__all__),
    *((f"{OLD}.{OLD}", name, "imds_proxy", name) for name in aws_federation_proxy.__all__),
    (f"{OLD}.provider", "BaseProvider", "imds_proxy", "BaseProvider"),
    (f"{OLD}.provider", "ProviderByGroups", f"{PROVIDERS}.by_groups", "ProviderByGroups"),
    (f"{OLD}.provider", "SimpleTestProvider", f"{PROVIDERS}.samples", "SimpleTestProvider"),
    (f"{OLD}.provider", "GroupTestProvider", f"{PROVIDERS}.samples", "GroupTestProvider"),
    (f"{OLD}.provider.base_provider", "BaseProvider", "imds_proxy", "BaseProvider"),
    (f"{OLD}.provider.base_provider", "ProviderByGroups", f"{PROVIDERS}.by_groups", "ProviderByGroups"),
    *(
        (f"{OLD}.provider.base_provider", name, f"{PROVIDERS}.samples", name)
        for name in (
            "SimpleTestProvider",
            "GroupTestProvider",
            "SingleAccountSingleRoleProvider",
            "NoAccountNoRoleProvider",
        )
    ),
    *(
        (f"{OLD}.provider.{kind}_provider", "Provider", f"{PROVIDERS}.{kind}", "Provider")
        for kind in ("grp", "sssd", "ldap")
    ),
    (f"{OLD}.provider.provider_by_ip", "ProviderByIP", f"{PROVIDERS}.by_host_name", "ProviderByIP"),
    (f"{OLD}.provider.provider_by_ip", "Provider", f"{PROVIDERS}.by_host_name", "Provider"),
]


@pytest.mark.parametrize(("module", "name", "home", "name_there"), OBJECTS)
def test_an_old_name_is_the_same_object(module: str, name: str, home: str, name_there: str) -> None:
    """Not a copy, not a subclass: what catches the one catches the other."""
    found = getattr(importlib.import_module(module), name)
    assert found is getattr(importlib.import_module(home), name_there)
    assert name in importlib.import_module(module).__all__


@pytest.mark.parametrize("module", ["util", "wsgi_api", "wsgi_api.wsgi_api"])
def test_what_is_gone_says_where_to_read_on(module: str) -> None:
    """An ImportError with the page that tells what took its place."""
    with pytest.raises(ImportError, match=r"docs/migrating-from-afp\.md"):
        importlib.import_module(f"{OLD}.{module}")


def test_every_module_is_known_here() -> None:
    """None is left out of the tests above."""
    folder = Path(aws_federation_proxy.__file__).parent
    files = {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")}
    modules = {".".join((OLD, *path.parts)).removesuffix(".__init__") for path in files}
    assert modules == {module for module, *_ in OBJECTS} | {f"{OLD}.util", f"{OLD}.wsgi_api"}


def test_what_the_package_exports() -> None:
    """This and nothing else, and all of it is there."""
    assert set(imds_proxy.__all__) == {
        "AWSError",
        "AWSFederationProxy",
        "BaseProvider",
        "ConfigurationError",
        "Credentials",
        "FederationError",
        "Grant",
        "PermissionError",
        "Provider",
        "ProviderError",
        "ProviderSettings",
        "__version__",
    }
    assert set(imds_proxy.__all__) == set(imds_proxy._HOMES) | {"__version__"}
    for name in imds_proxy.__all__:
        assert getattr(imds_proxy, name) is not None
    assert dir(imds_proxy) == sorted(imds_proxy.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        imds_proxy.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_package_is_cheap_to_import() -> None:
    """Neither the library nor what it needs comes along before somebody asks for it."""
    script = (
        "import sys, imds_proxy; before = set(sys.modules); print(*sorted(m for m in before"
        " if m.partition('.')[0] in {'imds_proxy', 'boto3', 'botocore', 'pydantic', 'asyncio', 'dns'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["imds_proxy"]


def test_the_library_is_there_without_boto3() -> None:
    """AWS's own library comes with the first question for AWS."""
    script = (
        "import sys; from imds_proxy import AWSFederationProxy as A;"
        " A('u', {'module': 'tests.library.site', 'class': 'Stranger'}, {}).get_account_and_role_dict();"
        " print('boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_samples_are_the_old_ones() -> None:
    """With the accounts and roles that tests of sites are written against."""
    assert imds_proxy_providers.__doc__
    module = f"{OLD}.provider.base_provider"
    answers = {}
    for name in ("SimpleTestProvider", "SingleAccountSingleRoleProvider", "NoAccountNoRoleProvider"):
        proxy = imds_proxy.AWSFederationProxy("u", {"module": module, "class": name}, {})
        answers[name] = _roles(proxy)
    config = {"module": module, "class": "GroupTestProvider", "regex": "(?P<account>.*)-(?P<role>.*)"}
    assert _roles(imds_proxy.AWSFederationProxy("u", config, {})) == answers["SimpleTestProvider"]
    assert answers == {
        "SimpleTestProvider": {"testaccount": {"testrole"}, "testaccount1": {"testrole2"}},
        "SingleAccountSingleRoleProvider": {"the_only_account": {"the_only_role"}},
        "NoAccountNoRoleProvider": {},
    }


def _roles(proxy: imds_proxy.AWSFederationProxy) -> dict[str, set[str]]:
    return {
        account: {role for role, _ in pairs} for account, pairs in proxy.get_account_and_role_dict().items()
    }
