"""Users and groups of this machine, made for a test and removed after it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS = ("useradd", "userdel", "groupadd", "groupdel")
_TIME = 60


@dataclass(frozen=True)
class Made:
    """A user and the groups the user is in."""

    user: str
    primary: str
    member_of: tuple[str, ...]
    foreign: str
    """A group of the same form that the user is not in."""


def find_missing() -> list[str]:
    """Return what is missing here to make users, each in words; empty: all is there."""
    missing = [] if os.geteuid() == 0 else ["root (to make users)"]
    return missing + [f"{name} (Debian package passwd)" for name in _PROGRAMS if shutil.which(name) is None]


@contextmanager
def made_person(*roles: str) -> Iterator[Made]:
    """Have a user in the groups `UNIQUE-ROLE`, one for each role; the first is the primary group."""
    unique = f"ip{secrets.token_hex(3)}"
    groups = [f"{unique}-{role}" for role in roles]
    foreign = f"{unique}-foreign"
    undo: list[tuple[str, ...]] = []
    try:
        for group in (*groups, foreign):
            _run("groupadd", group)
            undo.append(("groupdel", group))
        _run(
            "useradd", "--no-create-home", "--shell", "/usr/sbin/nologin",
            "--gid", groups[0], "--groups", ",".join(groups[1:]), unique,
        )  # fmt: skip
        undo.append(("userdel", unique))
        yield Made(unique, groups[0], tuple(groups[1:]), foreign)
    finally:
        for command in reversed(undo):
            _run(*command)


@contextmanager
def removed_group(group: str) -> Iterator[None]:
    """Have a group away, as if somebody had removed it; it comes back under another id."""
    _run("groupdel", "--force", group)  # without --force not while it is somebody's primary group
    try:
        yield
    finally:
        _run("groupadd", group)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIME)
