"""Who besides root and the daemon can read or change a file: by owner, mode, and all that leads to it."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCOUNT = "imds-proxy"
"""The daemon's user on a gateway: its files are judged by root as well, in `check` and `doctor`."""

_MOST_LINKS = 40
"""As Linux."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A way by which others can read or change a file or folder."""

    text: str
    remedy: str
    """The command that closes it."""
    is_for_all: bool = False
    """Any user can use it."""

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.text}; {self.remedy}"


def find_opening(path: Path, *, is_secret: bool = False) -> Opening | None:
    """Return how users besides root and the daemon can change `path`, or read it if it `is_secret`.

    None: they can't. The daemon's own group counts as the daemon. Raises OSError where nothing is there.
    """
    *leading, end = _walk(path)
    return _of_end(path, end[1], is_secret=is_secret) or next(filter(None, map(_on_the_way, leading)), None)


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all folders and links that lead to `path`, each with its state, at the end what is there."""
    here = Path("/")
    links = 0
    todo = list(reversed(path.absolute().parts[1:]))
    while todo:
        yield here, os.lstat(here)
        name = todo.pop()
        found = here.parent if name == ".." else here / name
        state = os.lstat(found)
        if not stat.S_ISLNK(state.st_mode):
            here = found
            continue
        yield found, state
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = found.readlink()
        if target.is_absolute():
            here = Path("/")
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    yield here, os.lstat(here)


def _of_end(path: Path, state: os.stat_result, *, is_secret: bool) -> Opening | None:
    """Return the opening of what a path leads to. No sticky bit helps: in a folder others could add files."""
    if is_secret and state.st_mode & stat.S_IRWXO:
        text = f"{path} has a secret and others can read it"
        return Opening(text, f"chmod o= {path}", is_for_all=True)
    return _of_place(path, state)


def _on_the_way(place: tuple[Path, os.stat_result]) -> Opening | None:
    """Return the opening of a folder or link on the way to a file."""
    path, state = place
    # A link has no mode. In a sticky folder others add names, and replace none of ours.
    has_no_mode = stat.S_ISLNK(state.st_mode) or bool(state.st_mode & stat.S_ISVTX)
    return _of_owner(path, state) if has_no_mode else _of_place(path, state)


def _of_place(path: Path, state: os.stat_result) -> Opening | None:
    inside = " in" if stat.S_ISDIR(state.st_mode) else ""
    if state.st_mode & stat.S_IWOTH:
        return Opening(f"{path}: others can write{inside} it", f"chmod o-w {path}", is_for_all=True)
    if (opening := _of_owner(path, state)) is not None:
        return opening
    if state.st_mode & stat.S_IWGRP and (state.st_gid not in _trusted()[1] or _has_list(path)):
        return Opening(f"{path}: the group {state.st_gid} can write{inside} it", f"chmod g-w {path}")
    return None


def _of_owner(path: Path, state: os.stat_result) -> Opening | None:
    if state.st_uid in _trusted()[0]:
        return None
    text = f"{path} belongs to the user {state.st_uid}, who is neither root nor the daemon"
    return Opening(text, f"chown -h root {path}")


def _has_list(path: Path) -> bool:
    """Tell whether an ACL gives rights to more than owner and group: these bits are then its mask."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def _trusted() -> tuple[frozenset[int], frozenset[int]]:
    """Return the users and the groups that may change anything: they could do so anyway."""
    user, group = _account()
    return frozenset({0, os.geteuid(), user}), frozenset({0, os.getegid(), group})


@cache
def _account() -> tuple[int, int]:
    """Return user and group of the daemon's account; root's without one."""
    try:
        found = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return 0, 0
    return found.pw_uid, found.pw_gid
