"""An ordinary user, also where tests run as root, who may read everything."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run the block as a user without rights; the whole process, so start no threads in it."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def bound_by_file_modes() -> list[str]:
    """Return what to put in front of a command that is to be held to the modes of files, also as root's.

    Skips the test where root can't give its rights up.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (Debian package util-linux) is missing: root may open everything")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
