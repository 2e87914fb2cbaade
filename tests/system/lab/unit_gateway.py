"""A gateway as operators have it: the units of `systemd/` on a booted host, one configuration, one key."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.standins.processes import REPOSITORY
from tests.system.lab.booted import booted_host, skip_unless_bootable
from tests.system.lab.gateway import make_settings
from tests.system.lab.installed import PREFIX, InstallError, installed_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from subprocess import CompletedProcess

    from tests.standins.aws_process import Aws
    from tests.system.lab.booted import BootedHost
    from tests.system.lab.laboratory import Laboratory

SERVICE = "imds-proxy.service"
SOCKET = "imds-proxy.socket"
PROGRAM = f"{PREFIX}/bin/imds-proxy"
CONFIGURATION = "/etc/imds-proxy/imds-proxy.yaml"
KEY_FILE = "/etc/imds-proxy/aws-credentials"
_FILES = {
    SERVICE: f"/etc/systemd/system/{SERVICE}",
    "imds-proxy.sysusers.conf": "/etc/sysusers.d/imds-proxy.conf",
    "imds-proxy.tmpfiles.conf": "/etc/tmpfiles.d/imds-proxy.conf",
}
SITE_PACKAGES = f"{PREFIX}/lib/python3.{sys.version_info.minor}/site-packages"


@contextmanager
def unit_gateway(lab: Laboratory) -> Iterator[UnitGateway]:
    """Boot a host with the daemon and its units: the addresses are there, the sockets listen, nothing runs.

    Skips where no host can be booted, or pip has nothing to install from.
    """
    skip_unless_bootable()
    try:
        layers = installed_daemon()
    except InstallError as error:
        pytest.skip(str(error))
    with booted_host(lab, *layers) as host:
        gateway = UnitGateway(host, lab.aws)
        gateway.install()
        yield gateway


class UnitGateway:
    """The daemon under systemd. Machines route through it as through any gateway."""

    def __init__(self, host: BootedHost, aws: Aws) -> None:
        self.host = host
        self.address, self.address_v6 = host.address, host.address_v6
        self._aws = aws

    def install(self) -> None:
        """Put units, user, addresses, configuration and key where an operator puts them."""
        units = REPOSITORY / "systemd"
        for name, path in _FILES.items():
            self.host.write(path, (units / name).read_text("utf-8"))
        self.host.run("systemd-sysusers")
        self.host.run("systemd-tmpfiles", "--create", "--prefix=/etc/imds-proxy", "--prefix=/run/imds-proxy")
        self.host.namespace.configure(
            "address add 169.254.169.254/32 dev lo", "address add fd00:ec2::254/128 dev eth0 nodad"
        )
        self.configure(self.settings())
        self.give_key(self._aws)
        self.render_sockets()
        self.host.run("systemctl", "start", SOCKET)

    def render_sockets(self) -> None:
        """Make the units of the sockets from the configuration, and have systemd read them."""
        self.host.run(PROGRAM, "render", "systemd", "--dir", "/etc/systemd/system")
        self.host.run("systemctl", "daemon-reload")

    def settings(self, **sections: object) -> dict[str, object]:
        """Return settings without a key, which comes from systemd. `sections` replace whole ones."""
        settings = make_settings(self._aws, **sections)
        aws = settings["aws"]
        assert isinstance(aws, dict)
        settings["aws"] = {name: value for name, value in aws.items() if not name.endswith("_key")}
        return settings

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the configuration; the daemon reads it at its start and at a reload."""
        self.write(CONFIGURATION, yaml.safe_dump(dict(settings), sort_keys=False))

    def write(self, path: str, text: str) -> None:
        """Write a file that the daemon may read and others may not."""
        self.host.write(path, text, 0o640, "root:imds-proxy")

    def give_key(self, aws: Aws | None) -> None:
        """Write the AWS key, for root alone, or take it away. It counts from the next start on."""
        if aws is None:
            self.host.run("rm", "-f", KEY_FILE)
            return
        lines = ("[default]", f"aws_access_key_id = {aws.access_key_id}")
        secret = f"aws_secret_access_key = {aws.secret_access_key}"
        self.host.write(KEY_FILE, "\n".join((*lines, secret, "")), 0o600)

    def control(self, verb: str, *, check: bool = True) -> CompletedProcess[str]:
        """Let systemctl start, stop, restart or reload the service, and wait for it."""
        return self.host.run("systemctl", verb, SERVICE, check=check)

    def add_to_unit(self, name: str, *lines: str) -> None:
        """Add lines to the service's section [Service], from the next start on, by a drop-in of that name."""
        text = "\n".join(("[Service]", *lines, ""))
        self.host.write(f"/etc/systemd/system/{SERVICE}.d/{name}.conf", text)
        self.host.run("systemctl", "daemon-reload")

    @property
    def state(self) -> str:
        """What systemd says of the service: `active`, `inactive`, `failed` ..."""
        return self.host.show(SERVICE, "ActiveState")["ActiveState"]

    @property
    def status(self) -> str:
        """What the daemon has told systemd of itself last."""
        return self.host.show(SERVICE, "StatusText")["StatusText"]

    @property
    def pid(self) -> int:
        """The daemon's process, by its number on the host; 0: it does not run."""
        return self.host.main_pid(SERVICE)

    @property
    def log(self) -> str:
        """The service's journal since the host's boot, systemd's words on it included."""
        return self.host.journal(SERVICE)

    def lines_since(self, before: str) -> str:
        """Return what has come to the log since it was `before`."""
        return self.log[len(before) :]

    def find_in_log(self, pattern: str, before: str = "") -> bool:
        """Tell whether the log has the pattern, behind what it was `before`."""
        return re.search(pattern, self.lines_since(before)) is not None
