"""The daemon as tests see it: a configuration file, a child process, addresses, records, an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.aws_process import Aws

REGION = "eu-central-1"
DOMAIN = "valid.example"
ROLE_PREFIX = "roleprefix-"
_PASS = """\
import os, sys
spare = [os.dup2(int(number), 500 + index) for index, number in enumerate(sys.argv[1].split(","))]
for index, number in enumerate(spare):
    os.dup2(number, 3 + index)
os.closerange(3 + len(spare), 1024)
os.environ |= {"LISTEN_FDS": str(len(spare)), "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


def settings_for(aws: Aws, **sections: object) -> dict[str, Any]:
    """Return settings of a daemon on a free loopback port that takes its credentials from the stand-in.

    Its one provider is `by_ip` for `valid.example` with the prefix `roleprefix-` in the main account.
    `sections` replace whole top-level sections (`hosts=`, `dns=`, `listen=` ...); `aws` keys are added
    to the ones here with `aws_extra=`.
    """
    extra = sections.pop("aws_extra", {})
    assert isinstance(extra, dict)
    return {
        "listen": [{"address": "127.0.0.1:0"}],
        "providers": {
            "machines": {
                "type": "by_ip",
                "allowed_domains": [DOMAIN],
                "account_name": "main",
                "role_prefix": ROLE_PREFIX,
            }
        },
        "accounts": {"main": {"id": "000123456789"}},
        "aws": {
            "region": REGION,
            "sts_endpoint": aws.url,
            "access_key": aws.access_key_id,
            "secret_key": aws.secret_access_key,
            **extra,
        },
        "dns": {"nameservers": ["127.0.0.1:1"]},  # nobody answers there: a test names its own server
        **sections,
    }


def people_settings_for(
    aws: Aws,
    identity: Mapping[str, object],
    groups: Mapping[str, list[str]],
    *listen: Mapping[str, object],
    **sections: object,
) -> dict[str, Any]:
    """Return settings of a daemon for people alone. Its one provider is `by_groups`.

    `groups` says who is in which; the group `main-admin` gives the role `admin` in the account `main`.
    """
    regex = "(?P<account>[^-]+)-(?P<role>.+)"
    settings = settings_for(
        aws,
        providers={"people": {"type": "by_groups", "regex": regex, "groups": dict(groups)}},
        people={"listen": list(listen), "base_path": "/afp-api/latest", "identity": dict(identity)},
        **sections,
    )
    del settings["listen"]
    return settings


def write_settings(settings: Mapping[str, object], file: Path) -> Path:
    """Write settings as YAML, readable for the owner alone because a key is in it, and return the file."""
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(dict(settings), sort_keys=False), "utf-8")
    return file


def activation_command(command: Sequence[str], descriptors: Sequence[int]) -> list[str]:
    """Return what runs a command with these descriptors as its own from 3 on, as systemd would.

    The process stays the same one, so that `LISTEN_PID` is right.
    """
    return [sys.executable, "-I", "-S", "-c", _PASS, ",".join(map(str, descriptors)), *command]


class Daemon:
    """A running daemon."""

    def __init__(self, child: Child, addresses: list[str]) -> None:
        self._child = child
        self.addresses = addresses
        """Those for machines, then those for people; of a unix socket its path."""

    @property
    def endpoint(self) -> str:
        """The first listener as a URL, as AWS_EC2_METADATA_SERVICE_ENDPOINT takes it."""
        return f"http://{self.addresses[0]}"

    @property
    def admin_url(self) -> str:
        """Where health and metrics are. Raises AssertionError when the settings have no `admin.address`."""
        (address,) = self._child.await_lines(r".*?\blistening (\S+) \(admin\)", timeout=30)
        return f"http://{address}"

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._child.stderr

    @property
    def audit_text(self) -> str:
        """What it wrote to stdout so far, where the audit goes unless the settings say otherwise."""
        return self._child.stdout

    @property
    def audit_records(self) -> list[dict[str, Any]]:
        """The audit so far, a record for each whole line."""
        whole_lines = self.audit_text.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole_lines]

    @property
    def pid(self) -> int:
        """The process id, for signals."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child.is_running

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.signal(number)

    def await_log(self, pattern: str, count: int = 1) -> list[str]:
        """Return the first group of each line of the log that matches in full, once there are `count`."""
        return self._child.await_lines(pattern, count)

    def wait(self) -> int:
        """Return its exit status once it has ended by itself, or by a signal sent before."""
        return self._child.wait()

    def stop(self) -> None:
        """End it with SIGTERM. Raises AssertionError with the log when it does not exit with 0."""
        status = self._child.stop()
        assert status == 0, f"exit status {status}\n{self.log}"


@contextmanager
def running_daemon(
    settings: Mapping[str, object],
    folder: Path,
    *,
    name: str = "imds-proxy",
    environment: Mapping[str, str] | None = None,
    passed: Sequence[socket.socket] = (),
) -> Iterator[Daemon]:
    """Run the daemon for the length of the block; its files (`NAME.yaml`, output) go into `folder`.

    `passed` are listening sockets that it gets as systemd would pass them.
    A daemon that is still running at the end of the block must exit with 0 after SIGTERM. Whatever
    happened, the log must be free of tracebacks.
    """
    file = write_settings(settings, folder / f"{name}.yaml")
    command = [sys.executable, "-m", "imds_proxy", "serve", "--config", str(file)]
    descriptors = [sock.fileno() for sock in passed]
    if passed:
        command = activation_command(command, descriptors)
    child = Child(
        name, command, folder=folder, environment=bare_environment(environment), descriptors=descriptors
    )
    count = 0
    for section in (settings, settings.get("people", {})):
        assert isinstance(section, Mapping)
        count += len(section.get("listen", ()))
    try:
        addresses = child.await_lines(r".*?\blistening (\S+)", count, timeout=60)
        daemon = Daemon(child, addresses)
        yield daemon
        if daemon.is_running:
            daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log
    finally:
        child.kill()
