"""Where `imds-proxy token` puts a token."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from imds_proxy.token_client import write_token

if TYPE_CHECKING:
    from pathlib import Path


def test_it_replaces_a_file(tmp_path: Path) -> None:
    """The token is all that is in the file, which nobody else can read, and nothing is left beside it."""
    file = tmp_path / "token"
    file.write_text("before\n")
    write_token("after", file)
    assert file.read_text() == "after"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("is_linked", [False, True])
def test_it_replaces_files_alone(is_linked: bool, tmp_path: Path) -> None:
    """A FIFO stays what it is, and a link to one, as /dev/null and /dev/stdout would."""
    special = tmp_path / "fifo"
    os.mkfifo(special)
    target = tmp_path / "link" if is_linked else special
    if is_linked:
        target.symlink_to(special)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="not a regular file"):
        write_token("after", target)
    assert stat.S_ISFIFO(target.stat().st_mode)
    assert target.is_symlink() == is_linked
    assert sorted(tmp_path.iterdir()) == before
