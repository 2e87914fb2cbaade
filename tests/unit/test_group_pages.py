"""The pages of providers by group and of one's own: what their samples promise is what is granted."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections import defaultdict
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import yaml
from imds_proxy_providers import samples as sample_classes
from imds_proxy_providers.by_groups import read_group

from imds_proxy import registry
from imds_proxy.errors import Refusal
from tests.standins import manual
from tests.standins.callers import NamedCaller
from tests.standins.provider_pages import REFUSED, Sample, samples

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import IPAddress
    from imds_proxy.names import AllowedDomains

ANSWERING = [*samples("by_groups"), *samples("own")]
NAMING = [*samples("grp"), *samples("sssd")]
PAGES = ("by_groups", "grp", "sssd", "own")


class Person:
    """Fulfils `provider.Caller`: somebody who has logged in."""

    address: IPAddress | None = None

    def __init__(self, user: str) -> None:
        self.user = user
        self.workload = None

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Fail: nobody should ask."""
        raise AssertionError(domains)


def caller_of(who: str) -> Person | NamedCaller:
    """Return whom a sample means: an address, a host name or a login name."""
    try:
        return NamedCaller(str(ipaddress.ip_address(who)))
    except ValueError:
        return NamedCaller("10.77.1.5", [who]) if "." in who else Person(who)


def grants_of(provider: registry.AnyProvider, who: str) -> set[str]:
    try:
        grants = asyncio.run(provider.grants_for(caller_of(who)))
    except Refusal:
        return {REFUSED}
    return {f"{grant.account}/{grant.role}" for grant in grants} or {REFUSED}


def promised(sample: Sample) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for who, grant in sample.promises:
        found[who].add(grant)
    return found


@pytest.fixture
def installed_module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sample:
    """Return a sample whose module, if it has one, can be imported."""
    sample: Sample = request.param
    if sample.module:
        module = ModuleType(str(sample.providers()[0]["module"]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(sample.module, module.__name__, "exec"), module.__dict__)
    return sample


@pytest.mark.parametrize("installed_module", ANSWERING, indirect=True, ids=str)
def test_samples_grant_what_they_promise(installed_module: Sample) -> None:
    """To each of those named, that and no more."""
    sample = installed_module
    (settings,) = sample.providers()
    _, provider = registry.build_provider(settings, sample.accounts())
    assert promised(sample)
    assert {who: grants_of(provider, who) for who in promised(sample)} == promised(sample)


@pytest.mark.parametrize("sample", NAMING, ids=str)
def test_names_of_groups_mean_what_is_promised(sample: Sample) -> None:
    """By the expression of the sample."""
    (settings,) = sample.providers()
    _, provider = registry.build_provider(settings, sample.accounts())
    pattern = sample_classes.GroupTestProvider("joe", provider.settings.model_dump()).pattern
    assert promised(sample)
    for group, grants in promised(sample).items():
        grant = read_group(pattern, group)
        assert grants == {REFUSED if grant is None else "/".join(grant)}


@pytest.mark.parametrize("installed_module", [*ANSWERING, *NAMING], indirect=True, ids=str)
def test_samples_are_whole_configurations(installed_module: Sample, tmp_path: Path) -> None:
    """Without a fault or a warning, once a region is named."""
    file = tmp_path / "imds-proxy.yaml"
    file.write_text(manual.installed(yaml.safe_dump(installed_module.settings), tmp_path))
    file.chmod(0o600)
    loaded = registry.load(file, {"AWS_REGION": "eu-central-1"})
    assert [str(fault) for fault in loaded.faults] == []


@pytest.mark.parametrize("page", PAGES[:3])
def test_the_settings_are_the_model_s(page: str) -> None:
    """The table has every key, and only those."""
    model = registry.installed_models()[page]
    table = [
        row[0].strip("`") for row in manual.rows(manual.section(f"docs/providers/{page}.md", "Settings"))
    ]
    assert sorted(table) == sorted(model.model_fields)
