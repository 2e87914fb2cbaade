"""user-data from a folder: which file is whose, read anew each time, on threads that may hang.

File names are host names, addresses, or patterns of host names. Whose name a caller has is somebody else's
choice, so a name is taken for a file's only when it can be no path: labels of a host name between dots.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import Trouble
from imds_proxy.names import parse_host_name
from imds_proxy.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import IPAddress

LARGEST_USER_DATA = 1 << 20
"""Bytes; EC2 takes 16 KiB."""

PATIENCE = 2.0
"""Seconds that the file system has."""

MOST_THREADS = 4
LONGEST_LINE = 256

_MOST_COMPLAINTS = 1024
_NO_FILE = frozenset({errno.EINVAL, errno.ENXIO})
"""How `open_regular` says that something is no regular file, and how the system says it of a socket."""

_THREADS = DaemonThreads("user-data", most=MOST_THREADS, longest_line=LONGEST_LINE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UserData:
    """What a file holds."""

    content: bytes
    modified: float
    """Seconds UTC since 1970."""


class UserDataFolder:
    """The files of one folder. `read` blocks, `find` does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._flights: dict[tuple[str | None, IPAddress], asyncio.Task[UserData | None]] = {}
        self._complaints: dict[str, str] = {}

    async def find(self, name: str | None, address: IPAddress) -> UserData | None:
        """Return a caller's user-data, None where it has none. Raises Trouble, after 2 s at the latest."""
        key = name, address
        flight = self._flights.get(key)
        if flight is None:
            # One for all who ask for the same caller: nobody can take all threads by asking often.
            flight = self._flights[key] = asyncio.get_running_loop().create_task(self._look(key))
            flight.add_done_callback(partial(self._end, key))
        return await asyncio.shield(flight)

    def _end(self, key: tuple[str | None, IPAddress], flight: asyncio.Task[UserData | None]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # whoever asked may have hung up, then nobody else fetches it

    async def _look(self, key: tuple[str | None, IPAddress]) -> UserData | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await _THREADS.run(partial(self.read, *key))
        except TimeoutError:
            text = f"no answer in {PATIENCE:.0f} s"
        except OSError as error:
            text = f"{error.filename or self._folder}: {error.strerror or error}"
        self._complain("", text)
        raise Trouble(f"user-data: {text}")

    def read(self, name: str | None, address: IPAddress) -> UserData | None:
        """Return a caller's user-data: the file of its name, else of its address, else of the one pattern
        that fits best. None where there is none, or it is empty, too large or no file. Raises OSError.
        """
        file_name = _file_name(name)
        for exact in (file_name, str(address)):
            if exact is not None and self._has(exact):
                return self._content_of(exact)
        pattern = self._pattern_for(file_name) if file_name is not None else None
        return self._content_of(pattern) if pattern is not None else None

    def _has(self, file_name: str) -> bool:
        try:
            os.lstat(self._folder / file_name)
        except FileNotFoundError:
            self._folder.stat()  # without the folder nothing is known of what is in it
            return False
        return True

    def _content_of(self, file_name: str) -> UserData | None:
        try:
            with open_regular(self._folder / file_name) as stream:
                modified = os.fstat(stream.fileno()).st_mtime
                content = stream.read(LARGEST_USER_DATA + 1)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            self._complain(file_name, "not a file, not served")
            return None
        if len(content) > LARGEST_USER_DATA:
            self._complain(file_name, f"larger than {LARGEST_USER_DATA} bytes, not served")
            return None
        return UserData(content, modified) if content else None

    def _pattern_for(self, name: str) -> str | None:
        """Return the file whose pattern fits a host name with the most characters besides asterisks."""
        with os.scandir(self._folder) as entries:
            fitting = [entry.name for entry in entries if "*" in entry.name and fits(entry.name, name)]
        most = max(map(_literal_length, fitting), default=0)
        best = sorted(pattern for pattern in fitting if _literal_length(pattern) == most)
        if len(best) > 1:
            self._complain(name, f"{' and '.join(best)} fit equally well, none is served")
            return None
        return best[0] if best else None

    def _complain(self, about: str, text: str) -> None:
        """Log what is wrong, once until something else is."""
        if self._complaints.get(about) != text:
            if len(self._complaints) >= _MOST_COMPLAINTS:
                self._complaints.clear()
            self._complaints[about] = text
            _log.warning("user-data in %s: %s", self._folder, f"{about}: {text}" if about else text)


def fits(pattern: str, name: str) -> bool:
    """Tell whether a host name fits a pattern, label by label: an asterisk stands for no dot."""
    labels, wanted = name.split("."), pattern.split(".")
    return len(labels) == len(wanted) and all(map(_label_fits, wanted, labels))


def _label_fits(pattern: str, label: str) -> bool:
    """Compare piece by piece, which takes no longer for a pattern with many asterisks."""
    first, *pieces = pattern.split("*")
    if not pieces:
        return label == first
    *middle, last = pieces
    if len(label) < len(first) + len(last) or not (label.startswith(first) and label.endswith(last)):
        return False
    rest = label[len(first) : len(label) - len(last)]
    for piece in middle:
        _, found, rest = rest.partition(piece) if piece else ("", "any", rest)
        if not found:
            return False
    return True


def _literal_length(pattern: str) -> int:
    return len(pattern) - pattern.count("*")


def _file_name(name: str | None) -> str | None:
    """Return the name of a host's file: what is no host name, or could be an address, has none."""
    if name is None or parse_host_name(name) != name or name.rpartition(".")[2].isdigit():
        return None
    return name
