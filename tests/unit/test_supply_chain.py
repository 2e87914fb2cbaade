"""The locks: they fit pyproject.toml, nothing else is installed, an audit and an SBOM are judged by them."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import supply_chain
from tests.standins.processes import bare_environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-ldap.txt": PROJECT["project"]["optional-dependencies"]["ldap"],
    "requirements-build.txt": [*PROJECT["build-system"]["requires"], "setuptools", "setuptools-scm"],
}


def _read(name: str) -> dict[str, supply_chain.Pin]:
    return supply_chain.read_lock((supply_chain.PACKAGING / name).read_text())


# --- the locks themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_fits_the_project(name: str) -> None:
    """Each dependency is in it, in a version that pyproject.toml allows."""
    pins = _read(name)
    for text in LOCKS[name]:
        wanted = Requirement(text)
        assert pins[canonicalize_name(wanted.name)].version in wanted.specifier, text


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_has_a_hash(name: str) -> None:
    """No pin without one, no hash twice, and no word of where the files were found."""
    pins = _read(name)
    hashes = [digest for pin in pins.values() for digest in pin.hashes]
    assert all(pin.hashes for pin in pins.values())
    assert len(set(hashes)) == len(hashes)
    assert "://" not in (supply_chain.PACKAGING / name).read_text()


def test_dependencies_of_dependencies() -> None:
    """What is installed here of the daemon's dependencies needs nothing that the lock lacks."""
    from importlib.metadata import PackageNotFoundError, requires

    pins = _read("requirements.txt")
    for name in pins:
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        for one in needed:
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                assert canonicalize_name(one.name) in pins, f"{name} needs {one}"


@pytest.mark.parametrize(
    "line", ["aiohttp>=3", "aiohttp", "--index-url https://x", "    --hash=sha256:12", "    --hash=md5:12"]
)
def test_what_is_no_lock(line: str) -> None:
    """A line that is not a pin, a hash or a comment is found."""
    with pytest.raises(ValueError, match=r".") as error:
        supply_chain.read_lock(f"# x\n{line}\n")
    assert line.strip().split("=")[0] in str(error.value)


def test_the_image_is_built_by_digest_and_lock() -> None:
    """A BASE that is a tag is refused by the shell pattern that the Containerfile has."""
    text = (ROOT / "Containerfile").read_text()
    patterns = re.findall(r"^ +(\S*sha256:\?+)\) ;;", text, re.MULTILINE)
    digest = "sha256:" + "0" * 64

    def takes(base: str) -> bool:
        script = f'case "$1" in {"|".join(patterns)}) ;; *) exit 1;; esac'
        return subprocess.run(["sh", "-c", script, "sh", base], check=False, timeout=60).returncode == 0

    assert [takes(base) for base in (f"docker.io/library/python@{digest}", digest)] == [True, True]
    for tag in (
        "docker.io/library/python:3.13-slim-bookworm",
        "python",
        "",
        digest[:-1],
        f"python@{digest}0",
    ):
        assert not takes(tag), tag
    build = text[text.index("COPY . /src") : text.index("FROM ${BASE}\nLABEL")]
    for line in re.findall(r"^.*\$(?:pip|into) .*$", build, re.MULTILINE):
        is_closed = any(word in line for word in ("--require-hashes", "--no-index", "--no-build-isolation"))
        assert is_closed or line.startswith(' && into="$pip --python'), line


# --- what install-venv takes -----------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """The working folder of install-venv, with an index of tiny wheels."""

    folder: Path

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run install-venv as the package's rules do."""
        environment = bare_environment({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder / "index")})
        script = ROOT / "packaging/deb/install-venv"
        command = [str(script), sys.executable, "root", "imds_proxy-1.0-py3-none-any.whl"]
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=300,
        )

    def lock(self, name: str, *pins: str) -> None:
        """Write a lock."""
        (self.folder / name).write_text("".join(f"{pin}\n" for pin in pins))


def _make_wheel(folder: Path, name: str, content: str = "", needs: str = "") -> str:
    """Make a wheel with one module, return its pin."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files = {
        f"{name}.py": content,
        f"{info}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name == "imds_proxy":
        files[f"{info}/entry_points.txt"] = "[console_scripts]\nimds-proxy = imds_proxy:main\n"
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text.encode())}"
        for path, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a build whose locks fit its index."""
    index = tmp_path / "index"
    index.mkdir()
    made = Build(tmp_path)
    for lock, name in (("", "needed"), ("-ldap", "directory"), ("-build", "builder")):
        made.lock(f"requirements{lock}.txt", _make_wheel(index, name))
    _make_wheel(tmp_path, "imds_proxy", needs="needed")
    return made


@pytest.mark.patient
def test_what_is_locked_is_installed(build: Build) -> None:
    """With the bytes that the locks name there is a venv, and the list of what is in it."""
    done = build.run()
    assert done.returncode == 0, done.stderr
    assert (build.folder / "modules.txt").read_text() == "directory==1.0\nimds_proxy==1.0\nneeded==1.0\n"
    assert not list((build.folder / "root").rglob("direct_url.json"))


@pytest.mark.parametrize(
    "name",
    ["needed", *(pytest.param(name, marks=pytest.mark.patient) for name in ("directory", "builder"))],
)
def test_other_bytes_are_not_installed(name: str, build: Build) -> None:
    """Another file of the same version in the index ends the build, before anything of it runs."""
    _make_wheel(build.folder / "index", name, content="import os  # an attacker's")
    done = build.run()
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not list(build.folder.rglob(f"{name}.py"))


@pytest.mark.patient
def test_what_is_not_locked_is_not_installed(build: Build) -> None:
    """A dependency that no lock has ends the build, though the index has it."""
    _make_wheel(build.folder / "index", "other")
    _make_wheel(build.folder, "imds_proxy", needs="other")
    done = build.run()
    assert done.returncode != 0
    assert "requires other" in done.stdout + done.stderr


# --- audit and bill of materials -------------------------------------------------------------------

WANTED = {"a": "1.0", "b-c": "2.0"}
CLEAN = [{"name": "a", "version": "1.0", "vulns": []}, {"name": "B_c", "version": "2.0", "vulns": []}]
HOLE = {"id": "PYSEC-1", "fix_versions": ["1.1"]}


def _audit(*dependencies: dict[str, Any]) -> tuple[int, str]:
    status, lines = supply_chain.judge_audit({"dependencies": dependencies}, WANTED)
    return status, "\n".join(lines)


def test_an_audit() -> None:
    """Clean is only what was looked at in the version that is shipped; a hole is a failure with its name."""
    assert _audit(*CLEAN) == (0, "2 modules have no known vulnerability")
    status, text = _audit({**CLEAN[0], "vulns": [HOLE]}, CLEAN[1])
    assert (status, text) == (1, "a 1.0: PYSEC-1, fixed in 1.1")
    status, text = _audit({**CLEAN[0], "version": "0.9"}, CLEAN[1])
    assert status == supply_chain.NOT_CHECKED
    assert text == "NOT CHECKED: no vulnerability data reachable for 1 of 2 modules: a"


def test_an_audit_without_data() -> None:
    """Skipped modules, an empty report and none at all are no pass; a hole among them is one still."""
    skipped = {"name": "b-c", "skip_reason": "not found"}
    assert _audit(CLEAN[0], skipped)[0] == _audit()[0] == supply_chain.NOT_CHECKED
    assert supply_chain.judge_audit(None, WANTED)[0] == supply_chain.NOT_CHECKED
    status, text = _audit({**CLEAN[0], "vulns": [HOLE]}, skipped)
    assert status == 1
    assert "NOT CHECKED" in text


def test_a_bill_of_materials() -> None:
    """It has each module of the locks in its version, no other, and is of imds-proxy."""
    components = [{"name": "a", "version": "1.0"}, {"name": "b_c", "version": "2.0"}]
    root = {"component": {"name": "imds-proxy"}}
    assert supply_chain.judge_sbom({"metadata": root, "components": components}, WANTED) == []
    faults = supply_chain.judge_sbom({"components": [components[0], {"name": "x"}]}, WANTED)
    assert faults == ["it is not of imds-proxy", "lacks b-c 2.0", "has x, which no lock has"]
