"""What is listed below `meta-data/`, followed to every leaf the way known programs follow it."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.system.lab.machine import Machine

_PUBLIC_KEY = re.compile(r"([0-9]+)=(.*)")
_PATIENCE = 5.0


def as_cloud_init(entry: str) -> str | None:
    """Return what cloud-init asks for when it reads an entry; None: it leaves that out."""
    if entry == "security-credentials/":
        return None
    key = _PUBLIC_KEY.fullmatch(entry)
    return f"{key[1]}/openssh-key" if key else _quoted(entry)


def as_facter(entry: str) -> str | None:
    """Return what facter asks for; below a public key's number it reads the list there."""
    if entry == "security-credentials/":
        return None
    key = _PUBLIC_KEY.fullmatch(entry)
    return f"{key[1]}/" if key else entry


def as_boto2(entry: str) -> str | None:
    """Return what boto 2 asks for: a role's name below `security-credentials/` like any leaf."""
    name, mark, _ = entry.partition("=")
    return f"{name}/openssh-key" if mark else entry


def as_ohai(entry: str) -> str | None:
    """Return what ohai asks for: whatever is before an equals sign is a directory to it."""
    name, mark, _ = entry.partition("=")
    return f"{name}/" if mark else entry


WAYS: Mapping[str, Callable[[str], str | None]] = {
    "cloud-init": as_cloud_init,
    "facter": as_facter,
    "boto 2": as_boto2,
    "ohai": as_ohai,
}


@dataclass(slots=True)
class Crawl:
    """One machine's requests over one connection, and what came of them."""

    machine: Machine
    headers: Mapping[str, str]
    host: str = "169.254.169.254"
    port: int = 80
    leaves: dict[str, str] = field(default_factory=dict)
    """Path -> text, of all that was followed."""
    missing: dict[str, int] = field(default_factory=dict)
    """Path -> status, of what was listed and is not served."""
    _connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=_PATIENCE)
            with self.machine.namespace.entered():
                self._connection.connect()
        self._connection.request("GET", path, headers=dict(self.headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode("utf-8")

    def follow(self, way: Callable[[str], str | None], directory: str) -> None:
        """Read a directory (a path with its last slash) and all that is below it."""
        status, listing = self.get(directory)
        if status != 200:
            self.missing[directory] = status
            return
        for entry in listing.splitlines():
            followed = way(entry)
            if followed is None:
                continue
            path = directory + followed
            if path.endswith("/"):
                self.follow(way, path)
                continue
            status, text = self.get(path)
            if status == 200:
                self.leaves[path] = text
            else:
                self.missing[path] = status

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()


def _quoted(entry: str) -> str:
    # As cloud-init joins URLs: an equals sign becomes %3D.
    return quote(entry, safe="/:")
