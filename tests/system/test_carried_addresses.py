"""What `imds-proxy render network` makes, on a booted host: it gets the metadata addresses and keeps them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from imds_proxy.cli import main
from tests.system.lab.booted import booted_host, skip_unless_bootable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.booted import BootedHost
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

SETTINGS = """
listen:
  - {address: 169.254.169.254, callers: [10.77.0.0/16]}
  - {address: "[fd00:ec2::254]", callers: ["fd77::/64"]}
provider: {type: simple, grants: [{account: main, role: x}]}
accounts: {main: {id: "000123456789"}}
aws: {region: eu-central-1}
network: {interfaces: [eth0]}
"""
V4, V6 = ("lo", "169.254.169.254", 32), ("eth0", "fd00:ec2::254", 128)


@pytest.fixture(scope="module")
def host(lab: Laboratory) -> Iterator[BootedHost]:
    skip_unless_bootable()
    with booted_host(lab) as booted:
        yield booted


def addresses_of(host: BootedHost) -> set[tuple[str, str, int]]:
    """Return (interface, address, prefix length) of all that can be used: none that is tentative.

    Those that an interface gives itself come and go with its state, and don't count.
    """
    links = json.loads(host.run("ip", "-json", "address").stdout)
    return {
        (link["ifname"], each["local"], each["prefixlen"])
        for link in links
        for each in link["addr_info"]
        if not each.get("tentative") and not each["local"].startswith("fe80:")
    }


def render(host: BootedHost, folder: Path, target: str, *options: str) -> None:
    """Render on this machine, and put the files where they belong on the host."""
    settings, files = folder / "imds-proxy.yaml", folder / "files"
    settings.write_text(SETTINGS)
    arguments = ["render", "network", "--config", str(settings), "--dir", str(files), *options]
    rendered = CliRunner().invoke(main, arguments)
    assert rendered.exit_code == 0, rendered.output
    for file in files.rglob("*"):
        if file.is_file():
            host.write(f"{target}/{file.relative_to(files)}", file.read_text())


def test_the_unit_adds_the_addresses_and_takes_them_away(host: BootedHost, tmp_path: Path) -> None:
    """Whoever manages the interfaces; what else they have stays."""
    before = addresses_of(host)
    render(host, tmp_path, "/etc/systemd/system")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "imds-proxy-address.service")
    assert addresses_of(host) == before | {V4, V6}
    host.run("systemctl", "stop", "imds-proxy-address.service")
    assert addresses_of(host) == before


def is_reconfigured(host: BootedHost, wanted: set[tuple[str, str, int]]) -> bool:
    """Configure eth0 anew; tell whether that has led to the wanted addresses.

    To be repeated: what came while networkd was still at it, it takes away the next time.
    """
    host.run("networkctl", "reconfigure", "eth0")
    time.sleep(1)
    return addresses_of(host) == wanted


def test_networkd_has_the_addresses(host: BootedHost, tmp_path: Path) -> None:
    """IPv4 on lo, which keeps its own; IPv6 on the callers' interface, also when that is configured anew.

    An address that networkd was not told of does not outlast that: hence the drop-in.
    """
    before = addresses_of(host)
    own = [f"Address={address}/{length}" for name, address, length in sorted(before) if name == "eth0"]
    lines = ["[Match]", "Name=eth0", "[Network]", "IPv6AcceptRA=no", *own, ""]
    host.write("/etc/systemd/network/10-lan.network", "\n".join(lines))
    options = ("--style", "networkd", "--network-file", "10-lan.network")
    render(host, tmp_path, "/etc/systemd/network", *options)
    host.run("systemctl", "start", "systemd-networkd.service")
    host.wait_for(lambda: {V4, V6} <= addresses_of(host), "networkd has added the addresses")
    host.run("ip", "address", "add", "fd00:ec2::23/128", "dev", "eth0", "nodad")
    wanted = before | {V4, V6}
    host.wait_for(lambda: is_reconfigured(host, wanted), "what networkd knows is there, no more")
