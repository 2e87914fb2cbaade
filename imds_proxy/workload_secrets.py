"""Static secrets of workloads: a folder with a file for each, named after it, a secret a line.

The folder is looked at again when somebody shows a secret and the last look is a second old, so what is
added counts and what is removed doesn't without a reload. Of a secret only a keyed hash is kept.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import OverloadError, Trouble
from imds_proxy.names import parse_workload
from imds_proxy.secret_file import FileError, check_closed, read_secret

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHORTEST_SECRET = 16
LONGEST_SECRET = 4096
"""Characters."""

LOOK_SECONDS = 1.0
"""How old a look at the folder may be when somebody shows a secret."""

LOOK_PATIENCE = 0.25
"""Seconds that a caller waits for a look; what was read before counts where the disk takes longer."""

_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)

_Stamps = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Contents:
    stamps: _Stamps
    workloads: Mapping[bytes, str]
    """Hash of a secret -> whose it is. A hash nobody can foresee: how long a look-up takes tells nothing."""
    problems: tuple[str, ...] = ()
    failure: str | None = None


class WorkloadSecrets:
    """The secrets in one folder."""

    def __init__(self, folder: Path) -> None:
        """Read the folder, which may block. What is wrong with it is in `problems`."""
        self._folder = folder
        self._key = os.urandom(_DIGEST_BYTES)
        self._threads = DaemonThreads("workload secrets", most=1, longest_line=1)
        self._contents = self._read(_Contents((), {}))
        self._looked_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the folder and its files: texts that never have a secret in them."""
        contents = self._contents
        return (contents.failure,) if contents.failure is not None else contents.problems

    @property
    def size(self) -> int:
        """How many secrets there are."""
        return len(self._contents.workloads)

    async def workload_of(self, secret: str, now: float) -> str | None:
        """Return the workload whose secret this is, None: nobody's. `now` is monotonic seconds.

        Raises Trouble while the folder can't be read.
        """
        import asyncio  # here: `check` reads folders and waits for nothing

        if self._look is None and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look = asyncio.get_running_loop().create_task(self._look_again())
        if self._look is not None and now - self._looked_at < LOOK_PATIENCE:
            await asyncio.wait((self._look,), timeout=LOOK_PATIENCE)
        if self._contents.failure is not None:
            raise Trouble(self._contents.failure)
        return self._owner_of(secret)

    def known_workload_of(self, secret: str, now: float) -> str | None:
        """Return what `workload_of` would return without a look at the folder; None: it must be asked."""
        if self._look is not None or now - self._looked_at >= LOOK_SECONDS:
            return None
        return self._owner_of(secret) if self._contents.failure is None else None

    def _owner_of(self, secret: str) -> str | None:
        return self._contents.workloads.get(self._hash(secret.encode("utf-8", "surrogateescape")))

    async def _look_again(self) -> None:
        before = self._contents
        try:
            contents = await self._threads.run(lambda: self._read(before))
        except OverloadError as error:
            _log.warning("%s: %s", self._folder, error)
            return
        finally:
            self._look = None
        self._contents = contents
        known = {before.failure, *before.problems}
        for problem in (contents.failure, *contents.problems):
            if problem not in known:
                _log.warning("workload secrets: %s", problem)

    def _read(self, before: _Contents) -> _Contents:
        try:
            check_closed(self._folder)
            stamps = _stamps_of(self._folder)
        except OSError as error:
            return _Contents((), {}, failure=f"{self._folder} can't be read: {error.strerror}")
        except FileError as error:
            return _Contents((), {}, failure=str(error))
        if stamps == before.stamps and before.failure is None:
            return before
        problems: list[str] = []
        owners: defaultdict[bytes, dict[str, int]] = defaultdict(dict)
        for name, _ in stamps:
            for number, digest in self._read_file(name, problems):
                owners[digest].setdefault(name, number)
        workloads = {}
        for digest, lines in owners.items():
            (name, number), *others = lines.items()
            if others:
                other, its_number = others[0]
                problems.append(
                    f"{self._folder / other}: line {its_number} is line {number} of {name} too: "
                    "it counts for neither"
                )
            else:
                workloads[digest] = name
        return _Contents(stamps, workloads, tuple(problems))

    def _read_file(self, name: str, problems: list[str]) -> Iterator[tuple[int, bytes]]:
        """Yield (line number, hash) of the secrets in a file; none of them if one of its lines is faulty."""
        file = self._folder / name
        if parse_workload(name) != name:
            problems.append(
                f"{file}: its name is no workload's: it reads like a host name in lower case, "
                "such as web.pods.example"
            )
            return
        try:
            lines = read_secret(file).splitlines()
        except FileError as error:
            problems.append(str(error))
            return
        found = []
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            if not _is_secret(line):
                problems.append(
                    f"{file}: line {number} is no secret: {SHORTEST_SECRET} to {LONGEST_SECRET} printable "
                    "ASCII characters without spaces, such as from: openssl rand -base64 32"
                )
                return
            found.append((number, self._hash(line)))
        if not found:
            problems.append(f"{file} has no secret; make one with: openssl rand -base64 32")
        yield from found

    def _hash(self, secret: bytes) -> bytes:
        return blake2b(secret, key=self._key, digest_size=_DIGEST_BYTES).digest()


def _stamps_of(folder: Path) -> _Stamps:
    """Return the files of a folder by name with what changes when they do. Raises OSError."""
    with os.scandir(folder) as entries:
        return tuple(sorted((one.name, _stamp_of(one)) for one in entries if not one.name.startswith(".")))


def _stamp_of(entry: os.DirEntry[str]) -> tuple[int, ...]:
    try:
        found = entry.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_secret(line: bytes) -> bool:
    return SHORTEST_SECRET <= len(line) <= LONGEST_SECRET and all(0x21 <= char <= 0x7E for char in line)
