"""docs/configuration.md says of every setting what the program does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from imds_proxy import registry, report
from imds_proxy.config import Settings
from imds_proxy.config.sections import CLASS_KEYS

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "configuration.md").read_text()
ROWS: list[tuple[str, str, str, str]] = re.findall(
    r"^\| `([^`]+)` \| (.+?) \| `(.+?)` \| (.+) \|$", MANUAL, re.MULTILINE
)
SETTINGS = [row for row in ROWS if not row[0].startswith("providers.")]

DEPENDS = {
    "loopback, for a loopback address": "listen[].callers",
    "the only one": "listen[].provider",
    "the region's": "aws.partition",
}
"""Defaults that follow from other settings; tests of their own hold them."""

LEAST = """
listen: [{address: 127.0.0.1:0}]
provider: {type: simple, grants: [{account: NAME, role: demo-role}]}
accounts: {NAME: {id: "123456789012"}}
"""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of all settings: `listen[].address`, `accounts.NAME.id`, `aws.region`."""
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{name}", field.annotation
        inner = next((arg for arg in get_args(annotation) if _is_model(arg)), None)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{key}.")
        elif inner is None:
            yield key
        else:
            yield from _keys(inner, f"{key}.NAME." if get_origin(annotation) is Mapping else f"{key}[].")


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_every_setting_is_in_the_manual_once() -> None:
    """And nothing is in the manual that the program does not know."""
    documented = [key for key, *_ in ROWS]
    known = {*_keys(Settings), *(f"providers.NAME.{key}" for key in CLASS_KEYS)}
    assert sorted(documented) == sorted(known)


def test_the_manual_tells_the_defaults(tmp_path: Path) -> None:
    """Those that `config` shows for a configuration that says as little as it may."""
    file = tmp_path / "a.yaml"
    file.write_text(LEAST)
    loaded = registry.load(file, {})
    assert loaded.configuration is not None
    shown = {}
    for line in report.describe(loaded.configuration, loaded.providers):
        setting, _, origin = line.rpartition("    # ")
        key, _, value = setting.partition(": ")
        if origin == "default":
            shown[key.replace("[0]", "[]", 1)] = value
    for key, default, _, _ in SETTINGS:
        if default in DEPENDS:
            assert key == DEPENDS[default]
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
    tree = yaml.load(LEAST, yaml.BaseLoader)
    del tree["provider"]
    *sections, name = key.replace("[]", ".0").split(".")
    place = tree
    for section in sections:
        place = place[0] if section == "0" else place.setdefault(section, {})
    place[name] = yaml.load(sample, yaml.BaseLoader)
    if key == "listen[].address":
        place["callers"] = []
    Settings.model_validate(tree, context={"providers": {"machines"}, "accounts": {"NAME"}})


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
