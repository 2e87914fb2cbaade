"""A gateway: a namespace that owns the metadata addresses, and the daemon that answers there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standins.daemon import settings_for, write_settings
from tests.standins.processes import Child
from tests.system.lab.bind import SERVER
from tests.system.lab.namespaces import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.standins.aws_process import Aws
    from tests.system.lab.namespaces import Namespace

CALLERS = ["10.77.0.0/16", "fd77::/32"]
EXCEPTED_CALLER = "10.77.70.1"
"""In `callers`, and in `callers_except`."""
FOREIGN_CALLER = "10.99.0.1"
"""A neighbour on the LAN with an address outside `callers`."""
RECHECK = 1.0
"""Seconds after which the next TOKEN looks an identity up again."""

_PROGRAM = str(Path(sys.executable).with_name("imds-proxy"))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `imds-proxy explain --json` said, and its exit status."""

    status: int
    outcome: str
    role: str | None
    names: list[dict[str, object]]
    reason: str
    steps: list[str]


def make_listener(address: str, **more: object) -> dict[str, object]:
    """Return a listener for the laboratory's callers."""
    return {"address": address, "callers": CALLERS, "callers_except": [EXCEPTED_CALLER], **more}


def make_settings(aws: Aws, **sections: object) -> dict[str, object]:
    """Return the daemon's settings: by_ip on the metadata addresses; `sections` replace whole sections."""
    listeners = [make_listener("169.254.169.254:80"), make_listener("[fd00:ec2::254]:80")]
    return settings_for(aws, **{"listen": listeners, "dns": make_dns(SERVER)} | sections)


def make_dns(*nameservers: str) -> dict[str, object]:
    """Return the section `dns`: these servers, and identities that are looked up again soon."""
    return {"nameservers": list(nameservers), "recheck": f"{RECHECK:g}s"}


class Gateway:
    """The daemon in its namespace. It runs until `stop`."""

    address: str
    """The gateway's own address on the LAN, which machines route through."""
    address_v6: str
    namespace: Namespace

    def __init__(
        self, namespace: Namespace, addresses: tuple[str, str], folder: Path, settings: Mapping[str, object]
    ) -> None:
        self.namespace = namespace
        self.address, self.address_v6 = addresses
        self._configuration = folder / "imds-proxy.yaml"
        self._socket = folder / "admin.sock"
        self.configure(settings)
        self._listeners = settings["listen"]
        command = namespace.command(_PROGRAM, "serve", "--config", str(self._configuration))
        self._process = Child("daemon", command, folder=folder, environment=ENVIRONMENT)

    def wait_until_ready(self) -> None:
        """Return once every listener accepts. Raises AssertionError with the log if one does not."""
        assert isinstance(self._listeners, list)
        self._process.await_lines(r"(.*listening .*)", len(self._listeners))

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the configuration file; the daemon reads it at its start and at `reload`."""
        whole = {**settings, "admin": {"socket": str(self._socket)}}
        write_settings(whole, self._configuration)

    def break_configuration(self) -> None:
        """Put an unknown key into the configuration file."""
        with self._configuration.open("a") as file:
            file.write("no_such_key: 1\n")

    def reload(self, outcome: str, count: int = 1) -> None:
        """Send SIGHUP and return once the log has `count` lines that say `outcome`."""
        self._process.signal(signal.SIGHUP)
        self._process.await_lines(rf"(.*{outcome}.*)", count)

    def explain(self, address: str) -> Explanation:
        """Ask the running daemon, over its admin socket, how it decides on an address."""
        done = subprocess.run(
            [_PROGRAM, "explain", address, "--json", "--config", str(self._configuration)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=ENVIRONMENT,
        )
        assert done.stdout, (done.returncode, done.stderr)
        answer = json.loads(done.stdout)
        return Explanation(
            done.returncode,
            answer["outcome"],
            answer.get("role"),
            answer["names"],
            answer["reason"],
            answer["steps"],
        )

    def examine(self, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        """Run `imds-proxy doctor` on the gateway; return its exit status and the findings by title."""
        words = [_PROGRAM, "doctor", "--json", "--config", str(self._configuration), *arguments]
        done = self.namespace.run(*words, check=False)
        assert done.stdout, (done.returncode, done.stderr)
        return done.returncode, {one["title"]: one for one in json.loads(done.stdout)["findings"]}

    def stop(self) -> int:
        """End the daemon with SIGTERM; return its exit status."""
        return self._process.stop()

    def kill(self) -> None:
        """End the daemon at once; for tear-down."""
        self._process.kill()

    @property
    def log(self) -> str:
        """What the daemon has written to stderr."""
        return self._process.stderr
