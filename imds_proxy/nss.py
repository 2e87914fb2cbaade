"""The system's people and groups as NSS tells them: files, SSSD, LDAP, whatever nsswitch.conf lists. Blocks.

Python's pwd and grp raise the same KeyError for "there is no such user" and for "the directory is down". The
C functions tell them apart: 0 without a result is a no, any other number a failure (getpwnam_r(3)).
And Python's grp.getgrall and os.getgrouplist keep the interpreter's lock while NSS waits for a directory:
nothing else of the process would run, no time limit either. A call by ctypes gives the lock away.
"""

from __future__ import annotations

import ctypes
import grp
import os
import threading
from dataclasses import dataclass
from errno import ENOENT, ERANGE
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST_SIZE = 4 << 10
_LARGEST_SIZE = 16 << 20
"""Bytes for an entry with all its strings: a group of many thousand members is long."""

_FIRST_COUNT = 64
_LARGEST_COUNT = 65_536
"""Groups of one user; Linux itself takes no more (NGROUPS_MAX)."""


class _Passwd(ctypes.Structure):
    """`struct passwd` of Linux (glibc and musl)."""

    _fields_ = (
        ("pw_name", ctypes.c_char_p),
        ("pw_passwd", ctypes.c_char_p),
        ("pw_uid", ctypes.c_uint),
        ("pw_gid", ctypes.c_uint),
        ("pw_gecos", ctypes.c_char_p),
        ("pw_dir", ctypes.c_char_p),
        ("pw_shell", ctypes.c_char_p),
    )


class _Group(ctypes.Structure):
    """`struct group` of Linux."""

    _fields_ = (
        ("gr_name", ctypes.c_char_p),
        ("gr_passwd", ctypes.c_char_p),
        ("gr_gid", ctypes.c_uint),
        ("gr_mem", ctypes.POINTER(ctypes.c_char_p)),
    )


_Entry = TypeVar("_Entry", _Passwd, _Group)

_libc = ctypes.CDLL(None)


class _Place:
    """Where this process is in the list of groups: the C library has one place for all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def after_fork(self) -> None:
        """Begin anew in a child, which has not the thread that may hold the lock."""
        self.lock = threading.Lock()


_place = _Place()
os.register_at_fork(after_in_child=_place.after_fork)


@dataclass(frozen=True, slots=True)
class Person:
    """A user whom NSS knows."""

    name: str
    """As NSS writes it, which in some directories differs in case from what was asked for."""
    gid: int
    """The primary group."""


def find_person(name: str) -> Person | None:
    """Return the user called `name`, or None when there is none. Raises OSError when NSS fails."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        return None
    if not raw or b"\0" in raw:
        return None
    found = _look_up(_libc.getpwnam_r, ctypes.c_char_p(raw), _Passwd())
    return None if found is None else Person(os.fsdecode(found.pw_name), found.pw_gid)


def find_user_name(uid: int) -> str | None:
    """Return the login name of a uid, or None when it has none. Raises OSError when NSS fails."""
    found = _look_up(_libc.getpwuid_r, ctypes.c_uint(uid), _Passwd())
    return None if found is None else os.fsdecode(found.pw_name)


def find_group_name(gid: int) -> str | None:
    """Return the name of a group, or None when it has none. Raises OSError when NSS fails."""
    found = _look_up(_libc.getgrgid_r, ctypes.c_uint(gid), _Group())
    return None if found is None else os.fsdecode(found.gr_name)


def member_groups(person: Person) -> list[str]:
    """Return the names of the groups that list `person`, among those that NSS lists. Raises OSError."""
    if not hasattr(_libc, "getgrent_r"):  # musl, where no module of NSS could make anybody wait
        return [group.gr_name for group in grp.getgrall() if person.name in group.gr_mem]
    name = os.fsencode(person.name)
    with _place.lock:
        return [os.fsdecode(group.gr_name) for group in _all_groups() if name in _members(group)]


def group_ids(person: Person) -> list[int]:
    """Return the ids of the person's groups, the primary one first, as at a login. Raises OSError."""
    name, primary = ctypes.c_char_p(os.fsencode(person.name)), ctypes.c_uint(person.gid)
    size = _FIRST_COUNT
    while True:
        count = ctypes.c_int(size)
        ids = (ctypes.c_uint * size)()
        if _libc.getgrouplist(name, primary, ids, ctypes.byref(count)) >= 0:
            return list(dict.fromkeys([person.gid, *ids[: count.value]]))
        if size >= _LARGEST_COUNT:
            raise OSError(ERANGE, f"NSS has more than {size} groups for {person.name}")
        size = min(max(count.value, 2 * size), _LARGEST_COUNT)


def _all_groups() -> Iterator[_Group]:
    """Yield the groups that NSS lists, each good until the next. Raises OSError."""
    buffer = ctypes.create_string_buffer(_FIRST_SIZE)
    entry, result = _Group(), ctypes.c_void_p()
    _libc.setgrent()
    try:
        while True:
            size = len(buffer)
            error = _libc.getgrent_r(ctypes.byref(entry), buffer, ctypes.c_size_t(size), ctypes.byref(result))
            if error == ERANGE and size < _LARGEST_SIZE:
                buffer = ctypes.create_string_buffer(4 * size)  # the same group comes again
            elif error == ENOENT or (not error and not result.value):
                return
            elif error:
                raise OSError(error, f"NSS fails: {os.strerror(error)}")
            else:
                yield entry
    finally:
        _libc.endgrent()


def _members(group: _Group) -> Iterator[bytes]:
    place = 0
    while (name := group.gr_mem[place]) is not None:
        yield name
        place += 1


def _look_up(
    function: Callable[..., int], key: ctypes.c_char_p | ctypes.c_uint, entry: _Entry
) -> _Entry | None:
    size = _FIRST_SIZE
    while True:
        buffer = ctypes.create_string_buffer(size)
        result = ctypes.c_void_p()
        error = function(key, ctypes.byref(entry), buffer, ctypes.c_size_t(size), ctypes.byref(result))
        if error != ERANGE or size >= _LARGEST_SIZE:
            break
        size *= 4
    if error:
        raise OSError(error, f"NSS fails: {os.strerror(error)}")
    # The strings lie in the buffer: the entry keeps it.
    entry.buffer = buffer
    return entry if result.value else None
