"""docs/migrating-from-afp.md: what it says `check` prints is what `check` prints."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.standins import manual
from tests.standins.commands import run_command

PAGE = "docs/migrating-from-afp.md"
OLD = "/etc/afp-core"


def _old_folders() -> list[tuple[str, str]]:
    """Return each old file of the page with what is said to be printed about its folder."""
    blocks = manual.blocks(PAGE)
    return [
        (block.text, after.text) for block, after in pairwise(blocks) if block.text.startswith(f"# {OLD}")
    ]


FOLDERS = _old_folders()


def test_the_three_old_folders_are_there() -> None:
    """People, machines, accounts."""
    assert [Path(text.split()[1]).parent.name for text, _ in FOLDERS] == ["human", "machine", "accounts"]


@pytest.mark.parametrize(("text", "printed"), FOLDERS, ids=["human", "machine", "accounts"])
def test_check_prints_what_the_page_says(tmp_path: Path, text: str, printed: str) -> None:
    """In a folder that is as it was, open to the web server; on stderr, with exit status 2."""
    file = tmp_path / Path(text.split()[1]).relative_to(OLD)
    file.parent.mkdir()
    file.write_text(text)
    file.chmod(0o644)
    ended = run_command("check", "--config", file.parent)
    assert ended.stderr.replace(str(tmp_path), OLD) == printed
    assert (ended.stdout, ended.returncode) == ("", 2)


def test_every_old_key_is_told() -> None:
    """Each line of the old files that has a key either is taken or is in what is printed."""
    kept = {"aws", "access_key", "provider", "class", "regex", "allowed_domains", "role_prefix", "id"}
    inside = {"user_identification", "module", "args", "kwargs"}
    for text, printed in FOLDERS:
        for line in text.splitlines()[1:]:
            key = line.strip().partition(":")[0]
            assert key in kept | inside or key in printed, line
