"""Who is asking over a unix socket: the name of a uid."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
from typing import TYPE_CHECKING, NoReturn

import pytest

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import Trouble
from imds_proxy.web.identity import NotIdentified
from imds_proxy.web.local_user import LocalUser
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = LocalUser(DaemonThreads("names", most=2, longest_line=2))


class HangingThreads(DaemonThreads):
    """Threads from which nothing comes back, as from a directory that NSS waits for."""

    def __init__(self) -> None:
        super().__init__("names", most=1, longest_line=1)

    async def run(self, function: Callable[[], object]) -> NoReturn:  # noqa: ARG002  it is never called
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_user_of_this_host() -> None:
    """The name that NSS gives."""
    assert await NAMES.name_of(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("uid", [65534, 54321, 2**31 + 5, 2**32 - 2, 2**32 - 1])
async def test_nobody(uid: int) -> None:
    """A uid without a name, and the one that stands for those the kernel can't name though it has one."""
    with pytest.raises(NotIdentified):
        await NAMES.name_of(uid)


class FailingThreads(DaemonThreads):
    """Threads on which NSS fails, as while a directory is down."""

    async def run(self, function: Callable[[], object]) -> NoReturn:  # noqa: ARG002  it is never called
        """Raise what the C library tells."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))


async def test_nss_fails() -> None:
    """Trouble: that nobody can say the name now does not mean that there is none."""
    with pytest.raises(Trouble, match="Input/output error"):
        await LocalUser(FailingThreads("names", most=1, longest_line=1)).name_of(os.getuid())


@in_virtual_time
async def test_nss_hangs() -> None:
    """Trouble, which is no no."""
    with pytest.raises(Trouble, match="no name of the uid 1000 in 5 s"):
        await LocalUser(HangingThreads()).name_of(1000)
