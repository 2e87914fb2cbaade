"""A host with a really booted systemd: systemd-nspawn, on an overlay of the machine's own `/`.

It sits on the laboratory's LAN like a gateway, so machines can route through it. What it writes stays in
memory. Nothing runs on it but systemd, its journal and its bus: the test writes files and starts units.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standins.processes import Child
from tests.system.lab.bind import SERVER
from tests.system.lab.installed import lower_layers
from tests.system.lab.namespaces import ENVIRONMENT, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.namespaces import Namespace

_SCRIPT = str(Path(__file__).with_suffix(".sh"))
_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
_PATIENCE = 30.0
_RUN_TIME = 120
_INSIDE = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
_CLEAN = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
_CLEAN += ["HOME=/root", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"]


def skip_unless_bootable() -> None:
    """Skip the test where no host can be booted, saying what is missing besides what the laboratory needs."""
    if missing := _find_missing():
        pytest.skip(f"missing: {'; '.join(missing)}")


@contextmanager
def booted_host(lab: Laboratory, *layers: Path) -> Iterator[BootedHost]:
    """Boot a host on the laboratory's LAN; it is gone with all its files when the block ends.

    `layers` are folders that are seen in /opt, topmost first. Raises AssertionError with what
    systemd-nspawn said when it doesn't come up.
    """
    with lab.gateway_namespace() as (namespace, addresses, folder):
        host = BootedHost(namespace, addresses, folder, layers)
        try:
            host.wait_until_booted()
            yield host
        finally:
            host.kill()


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd says of a unit, by the names of its properties."""

    properties: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.properties[name]


class BootedHost:
    """A running systemd with the files of the machine, in a network namespace on the LAN."""

    def __init__(
        self, namespace: Namespace, addresses: tuple[str, str], folder: Path, layers: Sequence[Path]
    ) -> None:
        self.namespace = namespace
        self.address, self.address_v6 = addresses
        self._name = namespace.name
        # With the tests killed, systemd-nspawn gets SIGTERM, on which the host halts.
        own_namespace = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount"]
        command = [*own_namespace, _SCRIPT, "boot", self._name, lower_layers(layers), namespace.name]
        self._nspawn = Child("host", command, folder=folder, environment=ENVIRONMENT)
        self._leader = 0

    def wait_until_booted(self) -> None:
        """Return once systemd has started all that it starts. Raises AssertionError if it doesn't."""
        self.wait_for(self._find_leader, "systemd is process 1")
        self.wait_for(lambda: self._state() in ("running", "degraded"), "systemd has booted")
        failed = self.run("systemctl", "--failed", "--no-legend", "--plain").stdout
        assert not failed, failed
        self.write("/etc/resolv.conf", f"nameserver {SERVER}\n")

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` on the host as root, with a bare environment."""
        return ["nsenter", "--target", str(self._leader), *_INSIDE, *_CLEAN, *words]

    def run(
        self, *words: str, stdin: str = "", check: bool = True, timeout: float = _RUN_TIME
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the host to its end. Raises CommandError with its output if it fails."""
        done = subprocess.run(
            self.command(*words), input=stdin, check=False, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            raise CommandError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file on the host, its folders made where they are missing."""
        script = 'mkdir -p "${1%/*}" && cat >"$1~" && chmod "$2" "$1~" && chown "$3" "$1~" && mv "$1~" "$1"'
        self.run("sh", "-c", script, "sh", path, f"{mode:o}", owner, stdin=text)

    def read(self, path: str) -> str:
        """Return the text of a file on the host. Raises CommandError when there is none."""
        return self.run("cat", path).stdout

    def copy(self, source: Path, path: str) -> None:
        """Copy a file or a folder of the machine to the host, at `path`, which must not be there."""
        self.run("mkdir", "-p", path.rpartition("/")[0] or "/")
        archive = subprocess.run(
            ["tar", "--create", "--directory", str(source.parent), source.name],
            check=True,
            capture_output=True,
        ).stdout
        target, _, name = path.rpartition("/")
        words = ["tar", "--extract", "--no-same-owner", "--directory", target or "/"]
        words += [f"--transform=s,^{source.name},{name},"]
        subprocess.run(
            self.command(*words), input=archive, check=True, capture_output=True, timeout=_RUN_TIME
        )

    def journal(self, unit: str = "", *words: str) -> str:
        """Return the journal of a unit, or all of it; `words` are further ones for journalctl."""
        which = ["--unit", unit] if unit else []
        return self.run(
            "journalctl", "--no-pager", "--quiet", "--output", "short-precise", *which, *words
        ).stdout

    def show(self, unit: str, *names: str) -> Unit:
        """Return these properties of a unit, as `systemctl show` has them."""
        words = ["systemctl", "show", "--property", ",".join(names), unit]
        return Unit(dict(line.split("=", 1) for line in self.run(*words).stdout.splitlines()))

    def main_pid(self, unit: str) -> int:
        """Return the unit's main process, by its number on the host; 0: it has none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def wait_for(self, is_reached: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
        """Return once `is_reached` says so. After `seconds` raises AssertionError with the journal."""
        deadline = time.monotonic() + seconds
        while not is_reached():
            if time.monotonic() > deadline or not self._nspawn.is_running:
                journal = self.journal()[-6000:] if self._leader and self._nspawn.is_running else ""
                said = f"{self._nspawn.stdout[-3000:]}{self._nspawn.stderr[-3000:]}"
                raise AssertionError(f"not within {seconds} s: {what}\n{said}\n{journal}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End everything on the host at once, and remove what it leaves behind."""
        # Process 1 of a PID namespace takes all others along. Its number is its own while nspawn runs.
        if self._nspawn.is_running and self._find_leader():
            os.kill(self._leader, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._nspawn.wait()
        self._nspawn.kill()
        command = ["unshare", "--mount", _SCRIPT, "clean", self._name]
        subprocess.run(command, check=False, capture_output=True, timeout=30)

    def _find_leader(self) -> bool:
        nspawn = self._nspawn.pid
        with suppress(OSError):  # a process that is gone again
            for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                # nspawn's helper, which is there for a moment, is process 1 of no namespace.
                if "Name:\tsystemd\n" in status and re.search(r"^NSpid:.*\s1$", status, re.MULTILINE):
                    self._leader = int(child)
                    return True
        return False

    def _state(self) -> str:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()


def _find_missing() -> list[str]:
    missing = [
        f"{program} (Debian package {package})"
        for program, package in _PROGRAMS.items()
        if shutil.which(program) is None
    ]
    if not Path("/usr/lib/systemd/systemd").exists():
        missing.append("systemd as init (Debian package systemd)")
    # Root in a container often may not.
    command = ["unshare", "--mount", "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
    if not missing and subprocess.run(command, check=False, capture_output=True).returncode:
        missing.append("the right to mount cgroup2")
    return missing
