"""What of a checkout gets into the Debian package: what git tracks, never an operator's key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEY = "examples/compose/aws-credentials"


def _lay_out(folder: Path) -> Path:
    for name in ("docs/a.md", "examples/compose/compose.yaml", KEY, "README.md", "secret/x"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def _copy(checkout: Path, target: Path) -> list[str]:
    target.mkdir()
    script = ROOT / "packaging/deb/copy-sources"
    subprocess.run([script, checkout, target, "docs", "examples", "README.md"], check=True, timeout=60)
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


WANTED = ["README.md", "docs/a.md", "examples/compose/compose.yaml"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_what_git_tracks(tmp_path: Path) -> None:
    """A key and notes that lie beside it stay at home; a tracked file in its present state goes."""
    checkout = _lay_out(tmp_path / "checkout")
    subprocess.run(["git", "-C", checkout, "init", "--quiet"], check=True, timeout=60)
    subprocess.run(["git", "-C", checkout, "add", *WANTED], check=True, timeout=60)
    (checkout / "docs/notes.txt").write_text("my own")
    assert _copy(checkout, tmp_path / "target") == WANTED


def test_without_git(tmp_path: Path) -> None:
    """An unpacked sdist has no list; the key that the examples' README has people lay there is left out."""
    assert _copy(_lay_out(tmp_path / "sdist"), tmp_path / "target") == WANTED


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_git_does_not_take_the_key() -> None:
    """Neither a commit nor an sdist picks it up."""
    done = subprocess.run(["git", "-C", ROOT, "check-ignore", "--quiet", KEY], check=False, timeout=60)
    assert done.returncode == 0
