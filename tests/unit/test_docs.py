"""The pages say what is so: links lead somewhere, samples load, commands and settings are the program's."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

import imds_proxy
from imds_proxy import cli, registry, report
from tests.standins import manual
from tests.standins.manual import PAGES, ROOT, Block

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
ARCHITECTURE = "docs/architecture.md"
README = "README.md"

_PATH = re.compile(r"(?:imds_proxy|providers|tests|docs|examples|bench|\.ci)/[\w./-]+")
_WHOLE = re.compile(r"^listen:|^people:(?s:.*)^providers?:", re.MULTILINE)
_COMMAND = re.compile(r"(?:\S*/)?imds-proxy +([a-z]+)\b(.*)")


def _whole_configurations() -> list[tuple[Block, str]]:
    """Return the YAML blocks of whole configurations, each with the Python that follows it, if any does."""
    found = []
    for page in PAGES:
        blocks = manual.blocks(page)
        for block, after in zip(blocks, [*blocks[1:], None], strict=False):
            if block.kind == "yaml" and _WHOLE.search(block.text):
                found.append((block, after.text if after and after.kind == "python" else ""))
    return found


CONFIGURATIONS = _whole_configurations()


def test_pages_are_found() -> None:
    """What the other tests go through is there."""
    assert {README, ARCHITECTURE, "SECURITY.md", "docs/providers/by_ip.md"} <= set(PAGES)
    assert len([block for block, _ in CONFIGURATIONS if block.page == README]) == 3


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    """Relative links name a file that is there and, after #, a heading in it."""
    for link in manual.links(page):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in manual.anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_are_there(page: str) -> None:
    """A path of the repository that a page names exists."""
    paths = [match[0] for text in manual.code(page) if (match := _PATH.fullmatch(text))]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.usefixtures("python_ldap")
@pytest.mark.parametrize(("block", "python"), CONFIGURATIONS, ids=[str(block) for block, _ in CONFIGURATIONS])
def test_whole_configurations_load(
    block: Block, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a fault or a warning, once a region is named and the module shown can be imported."""
    if python:
        module = ModuleType(yaml.safe_load(block.text)["provider"]["module"])
        exec(compile(python, module.__name__, "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    file = tmp_path / "imds-proxy.yaml"
    file.write_text(manual.installed(block.text, tmp_path))
    file.chmod(0o600)
    loaded = registry.load(file, {"AWS_REGION": "eu-central-1"})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.configuration is not None


def test_readme_has_every_setting(tmp_path: Path) -> None:
    """A setting that its long sample leaves at the default is there all the same, in a comment."""
    block = next(block for block, _ in reversed(CONFIGURATIONS) if block.page == README)
    file = tmp_path / "imds-proxy.yaml"
    file.write_text(manual.installed(block.text, tmp_path))
    loaded = registry.load(file, {})
    assert loaded.configuration is not None
    keys = [line.partition(": ")[0] for line in report.describe(loaded.configuration, loaded.providers)]
    assert len(keys) > 40
    names = {re.sub(r"\[\d+\]", "", key).rpartition(".")[2] for key in keys if not key.startswith("hosts.")}
    assert {"callback_urls", "certificate", "secret_header", "peer", "unix"} <= names
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", block.text)] == []


@pytest.mark.parametrize("page", PAGES)
def test_json_is_json(page: str) -> None:
    """Policies have what AWS requires of one."""
    for block in manual.blocks(page):
        if block.kind != "json":
            continue
        for text in [block.text] if block.text.startswith("{\n") else block.text.splitlines():
            shown = json.loads(text)
            for statement in shown.get("Statement", []):
                assert shown["Version"] == "2012-10-17"
                assert {"Effect", "Action"} < statement.keys()


def test_readme_begins_with_two_commands() -> None:
    """`make demo` and `make test`, which are targets of the Makefile."""
    first = manual.blocks(README)[0]
    assert first.text.split("\n") == ["make demo", "make test", ""]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        match
        for page in PAGES
        for text in manual.code(page)
        for match in re.findall(r"^make ([a-z-]+)", text)
    }
    assert {"demo", "test"} <= named <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_are_known(page: str) -> None:
    """Every `imds-proxy COMMAND --option` that a page shows is one of the program's."""
    for text in manual.code(page):
        match = _COMMAND.match(text)
        if match is None:
            continue
        command = cli.main.commands[match[1]]
        words = shlex.split(match[2].partition(" > ")[0], comments=True)
        if isinstance(command, click.Group) and words and not words[0].startswith("-"):
            command = command.commands[words[0]]
        known = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, text


def test_readme_has_every_command() -> None:
    """In the table of commands."""
    shown = {
        match[1]
        for row in manual.rows(manual.section(README, "Commands"))
        if (match := _COMMAND.match(row[0][1:]))
    }
    assert shown == set(cli.main.commands)


def test_architecture_shows_the_layers_of_the_contract() -> None:
    """The list of who may import whom is import-linter's."""
    [layers] = [
        each["layers"] for each in PYPROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    ]
    assert [block.text.splitlines() for block in manual.blocks(ARCHITECTURE)].count(layers) == 1


def test_architecture_has_a_room_for_every_module() -> None:
    """And none for modules that are not there."""
    package = ROOT / "imds_proxy"
    modules = {path.stem for path in package.glob("*.py") if not path.name.startswith("__")}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    table = manual.rows(manual.section(ARCHITECTURE, "Rooms"))
    assert {name for row in table for name in re.findall(r"`(\w+)`", row[0])} == modules


def test_architecture_has_every_library_and_its_bound() -> None:
    """Those that the program needs, its extras for users, and what builds it."""
    project, extras = PYPROJECT["project"], PYPROJECT["project"]["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *extras["ldap"],
        *extras["demo"],
        *PYPROJECT["build-system"]["requires"],
    ]
    matches = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?([^;]*)(?:;.*)?", one) for one in wanted]
    bounds = {match[1]: match[2] for match in matches if match}
    table = manual.rows(manual.section(ARCHITECTURE, "Libraries"))
    assert {row[0].split(" ")[0]: row[1].strip("`") for row in table} == bounds


def test_changelog_knows_this_version() -> None:
    """It says what is in the version that the program says it is."""
    assert PYPROJECT["project"]["version"] == imds_proxy.__version__
    assert imds_proxy.__version__ in manual.read("CHANGELOG.md")
