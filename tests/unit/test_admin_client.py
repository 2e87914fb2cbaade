"""Which admin socket a command asks, and what it says where nobody answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from imds_proxy.admin_client import USUAL_SOCKET, ask, find_socket
from imds_proxy.errors import Trouble

NAMED = Path("/srv/named.sock")
CONFIGURED = Path("/srv/configured.sock")


@pytest.mark.parametrize(
    ("named", "found"),
    [((NAMED, CONFIGURED), NAMED), ((None, CONFIGURED), CONFIGURED), ((None, None), "usual"), ((), "usual")],
)
def test_the_first_that_is_named(tmp_path: Path, named: tuple[Path | None, ...], found: Path | str) -> None:
    """Without a name it is the unit's: what a shell sees has no $RUNTIME_DIRECTORY."""
    usual = tmp_path / "admin.sock"
    usual.touch()
    assert find_socket(*named, usual=usual) == (usual if found == "usual" else found)


def test_no_unit_runs(tmp_path: Path) -> None:
    """There is nobody to ask, and the message names where one would be."""
    assert find_socket(None, usual=tmp_path / "admin.sock") is None
    with pytest.raises(Trouble, match=f"admin.socket is not set and {USUAL_SOCKET} is not there"):
        ask(None, "GET", "/explain")


def test_nobody_listens(tmp_path: Path) -> None:
    """The socket is named."""
    with pytest.raises(Trouble, match=f"no daemon answers on {tmp_path}/admin.sock"):
        ask(tmp_path / "admin.sock", "GET", "/explain")
