"""docs/configuration.md says of every setting what the program does."""

from __future__ import annotations

import grp
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from imds_proxy import registry, report
from imds_proxy.config import Settings
from imds_proxy.config.metadata import DomainMetadata
from imds_proxy.config.sections import CLASS_KEYS
from imds_proxy.provider import ProviderSettings
from tests.standins.certificates import make_certificate

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "configuration.md").read_text()
ROWS: list[tuple[str, str, str, str]] = re.findall(
    r"^\| `([^`]+)` \| (.+?) \| `(.+?)` \| (.+) \|$", MANUAL, re.MULTILINE
)
SETTINGS = [row for row in ROWS if not row[0].startswith("providers.")]

DEPENDS = {
    "loopback, for a loopback address": {"listen[].callers", "people.listen[].callers", "admin.callers"},
    "the only one": {"listen[].provider", "people.provider"},
    "the region's": {"aws.partition"},
}
"""Defaults that follow from other settings; tests of their own hold them."""

LEAST = """
listen: [{address: 127.0.0.1:0, container: {}, tls: {certificate: a.crt, key: a.pem}}]
provider: {module: imds_proxy_providers.samples, class: SimpleTestProvider}
accounts: {NAME: {id: "123456789012"}}
"""
PEOPLE = (
    "people: {listen: [{unix: /run/people.sock}], identity: {header: X-User, trusted: ['0']}}",
    "people: {listen: [{address: 127.0.0.1, tls: {certificate: a.crt, key: a.pem}}], identity: {peer: true}}",
)
"""As little as a listener for people may say, for each kind of place and of identity."""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of all settings: `listen[].address`, `accounts.NAME.id`, `aws.region`."""
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{name}", field.annotation
        inner = next((arg for arg in (annotation, *get_args(annotation)) if _is_model(arg)), None)
        if inner is None:
            yield key
        else:
            origin = get_origin(annotation)
            yield from _keys(
                inner, key + (".NAME." if origin is Mapping else "[]." if origin is tuple else ".")
            )


def _is_model(annotation: Any) -> bool:
    """A provider's settings, wherever they stand, have a page of their own; domains have the defaults'."""
    if not isinstance(annotation, type) or issubclass(annotation, ProviderSettings | DomainMetadata):
        return False
    return issubclass(annotation, BaseModel)


def test_every_setting_is_in_the_manual_once() -> None:
    """And nothing is in the manual that the program does not know."""
    documented = [key for key, *_ in ROWS]
    known = {*_keys(Settings), *(f"providers.NAME.{key}" for key in CLASS_KEYS)}
    assert sorted(documented) == sorted(known)


def _shown_defaults(folder: Path, people: str) -> dict[str, str]:
    """Return what `config` shows as defaults for LEAST with a listener for people."""
    file = folder / "a.yaml"
    file.write_text(LEAST + people)
    file.chmod(0o600)
    loaded = registry.load(file, {})
    assert loaded.configuration is not None, loaded.faults
    shown = {}
    for line in report.describe(loaded.configuration, loaded.providers):
        setting, _, origin = line.rpartition("    # ")
        key, _, value = setting.partition(": ")
        if origin == "default":
            if key.endswith("[0]"):
                key, value = key.removesuffix("[0]"), f"[{value}]"
            shown[key.replace("[0]", "[]", 1)] = value
    return shown


def test_the_manual_tells_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that `config` shows for a configuration that says as little as it may."""
    make_certificate(tmp_path, name="a").pem.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    shown = {key: value for people in PEOPLE for key, value in _shown_defaults(tmp_path, people).items()}
    for key, default, _, _ in SETTINGS:
        if default in DEPENDS:
            assert key in DEPENDS[default]
        elif default == "required":
            assert key not in shown
        elif default == "none":
            assert shown[key] == "null", key
        else:
            assert f"`{shown[key]}`" == default, key


@pytest.mark.parametrize(("key", "sample"), [(key, sample) for key, _, sample, _ in SETTINGS])
def test_the_samples_are_good_values(key: str, sample: str) -> None:
    """Each is taken by its setting. Files that a sample names need not be there."""
    # BaseLoader leaves scalars as they are written, as our own reader does.
    tree = yaml.load(f"{LEAST}{PEOPLE[1]}", yaml.BaseLoader)
    del tree["provider"]
    *sections, name = key.replace("[]", ".0").split(".")
    place = tree
    for section in sections:
        place = place[0] if section == "0" else place.setdefault(section, {})
    place[name] = yaml.load(sample, yaml.BaseLoader)
    if key.endswith("listen[].address"):
        place["callers"] = []
    elif name == "group":  # it has to be one of this host
        place[name] = grp.getgrgid(0).gr_name
    Settings.model_validate(tree, context={"providers": {place.get("provider", "x")}, "accounts": {"NAME"}})


def test_the_first_sample_is_a_whole_configuration(tmp_path: Path) -> None:
    """What the manual begins with can be copied."""
    block = re.search(r"^```yaml\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
    assert block is not None
    file = tmp_path / "a.yaml"
    file.write_text(block[1])
    loaded = registry.load(file, {})
    assert [str(fault) for fault in loaded.faults] == []


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", MANUAL))
def test_links_lead_somewhere(target: str) -> None:
    """Relative to the page."""
    assert (ROOT / "docs" / target).exists()
