"""The Debian package on a booted host: installed, configured, upgraded under load, removed, purged.

The tests are one story and run in their order.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.lab.booted import booted_host, skip_unless_bootable
from tests.system.lab.loaded import load_on
from tests.system.lab.packaged import built_package, next_package
from tests.system.lab.unit_gateway import CONFIGURATION, KEY_FILE, PROGRAM, SERVICE, SOCKET, UnitGateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine

pytestmark = pytest.mark.system

ADDRESS = "imds-proxy-address.service"
UNITS = (SERVICE, SOCKET, ADDRESS)
RATE = 100
OURS = "/etc /lib /opt /run /usr /var"


class PackagedGateway(UnitGateway):
    """A gateway whose daemon, units and user come with the package."""

    def install_package(self, package: Path) -> str:
        """Install or upgrade, as apt-get does it; return what was said."""
        self.host.run("rm", "-f", "/tmp/imds-proxy.deb")
        self.host.copy(package, "/tmp/imds-proxy.deb")
        words = ("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/tmp/imds-proxy.deb")
        done = self.host.run(*words)
        return done.stdout + done.stderr

    def set_up(self) -> None:
        """Do what the package's README.Debian says."""
        self.configure(self.settings(network={"interfaces": ["eth0"]}))
        self.give_key(self._aws)
        self.host.run(PROGRAM, "render", "network", "--dir", "/etc/systemd/system")
        self.host.run(PROGRAM, "render", "nftables", "--dir", "/etc/imds-proxy")
        self.render_sockets()
        self.host.run("systemctl", "enable", "--now", ADDRESS, SOCKET, SERVICE)

    def find_files(self) -> list[str]:
        """Return all files and folders of the host that have our name, and what is in them."""
        said = self.host.run("find", *OURS.split(), "-xdev", "-path", "*imds[-_]proxy*", check=False).stdout
        return said.splitlines()

    def properties(self, name: str) -> dict[str, str]:
        """Return a property of each unit."""
        return {unit: self.host.show(unit, name)[name] for unit in UNITS}


def role_of(machine: Machine) -> str:
    """Return the role that the machine is told, after a token as SDKs ask for it; empty: it has none."""
    answer = machine.list_role(machine.fetch_token())
    assert answer.status in {200, 404}, answer
    return answer.body.strip() if answer.status == 200 else ""


@pytest.fixture(scope="module")
def package() -> Path:
    return built_package()


@pytest.fixture(scope="module")
def later(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version."""
    return next_package(package, tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="module")
def gateway(lab: Laboratory) -> Iterator[PackagedGateway]:
    """A booted host without imds-proxy."""
    skip_unless_bootable()
    with booted_host(lab) as host:
        yield PackagedGateway(host, lab.aws)


def test_nothing_is_started_unasked(gateway: PackagedGateway, package: Path) -> None:
    """It installs by itself: a user, a closed folder, a configuration that lets nobody in, and no more."""
    assert gateway.find_files() == []
    gateway.install_package(package)
    assert set(gateway.properties("ActiveState").values()) == {"inactive"}
    assert set(gateway.properties("UnitFileState").values()) == {"disabled"}
    folder = gateway.host.run("stat", "--format=%a %U %G", "/etc/imds-proxy").stdout.strip()
    assert folder == "750 root imds-proxy"
    checked = gateway.host.run("imds-proxy", "check", check=False)
    assert checked.returncode == 2
    assert "providers: is required" in checked.stdout + checked.stderr
    assert gateway.host.run("dpkg", "--verify", "imds-proxy").stdout == ""
    shipped = gateway.host.run("dpkg-query", "--show", "--showformat=${Conffiles}", "imds-proxy").stdout
    assert CONFIGURATION in shipped


def test_it_brings_all_it_needs(gateway: PackagedGateway) -> None:
    """Nothing is compiled or written when it runs as root; the extras for directories and speed are there."""
    gateway.host.run("imds-proxy", "--help")
    gateway.host.run("/opt/imds-proxy/bin/python3", "-c", "import ldap, uvloop, imds_proxy.server, boto3")
    assert gateway.host.run("dpkg", "--verify", "imds-proxy").stdout == ""
    fresh = gateway.host.run("find", "/opt/imds-proxy", "-newer", "/var/lib/dpkg/status").stdout
    assert fresh == ""


def test_configured(gateway: PackagedGateway, lab: Laboratory) -> None:
    """After the steps of README.Debian machines have their keys, and doctor finds no fault."""
    gateway.set_up()
    machine = lab.make_machine(gateway, lab.new_name())
    assert role_of(machine) == "roleprefix-tuvfoo"
    gateway.host.run("nft", "--file", "/etc/imds-proxy/imds-proxy.nft")
    said = gateway.host.run("imds-proxy", "doctor", "--json", check=False)
    found = json.loads(said.stdout)["findings"]
    assert [one for one in found if one["level"] == "fault"] == []
    assert ("ok", "active, enabled") in [
        (one["level"], one["fact"]) for one in found if one["title"] == ADDRESS
    ]
    assert role_of(machine) == "roleprefix-tuvfoo"


def test_an_upgrade_under_load(
    gateway: PackagedGateway, lab: Laboratory, later: Path, tmp_path: Path
) -> None:
    """Nothing is lost, the configuration stays, the sockets are not touched, the daemon is another."""
    machine = lab.make_machine(gateway, lab.new_name())
    before, opened = gateway.pid, gateway.host.show(SOCKET, "ActiveEnterTimestampMonotonic")
    configuration = gateway.host.read(CONFIGURATION)
    with load_on(machine, RATE, tmp_path) as load:
        time.sleep(1)
        gateway.install_package(later)
        time.sleep(1)
    print("upgrade:", load.outcome)  # noqa: T201  `pytest -s` shows what install.md quotes
    assert gateway.pid not in (0, before), gateway.log[-3000:]
    assert load.outcome["lost"] == {}, load.outcome
    assert load.outcome["answered"] > RATE
    assert gateway.host.show(SOCKET, "ActiveEnterTimestampMonotonic") == opened
    assert gateway.host.read(CONFIGURATION) == configuration
    version = gateway.host.run("dpkg-query", "--show", "--showformat=${Version}", "imds-proxy").stdout
    assert version.endswith("+next")


def test_it_needs_its_files_only_to_start(gateway: PackagedGateway, lab: Laboratory) -> None:
    """While an upgrade replaces all modules, the daemon that runs serves callers it has never seen."""
    known = lab.make_machine(gateway, lab.new_name())
    assert role_of(known) == "roleprefix-tuvfoo"
    gateway.host.run("mv", "/opt/imds-proxy/lib", "/opt/imds-proxy/elsewhere")
    try:
        before = gateway.pid
        # Never seen before; another role, so STS is asked; one without a name; a reload.
        other = lab.make_machine(gateway, lab.new_name("berbar"))
        stranger = lab.make_machine(gateway)
        assert role_of(known) == "roleprefix-tuvfoo"
        assert role_of(other) == "roleprefix-probar"
        assert role_of(stranger) == ""
        assert gateway.host.run("/bin/kill", "-HUP", str(before)).returncode == 0
        assert role_of(known) == "roleprefix-tuvfoo"
        assert gateway.pid == before
        assert "Traceback" not in gateway.log
        assert "ModuleNotFound" not in gateway.log
    finally:
        gateway.host.run("mv", "/opt/imds-proxy/elsewhere", "/opt/imds-proxy/lib")


def test_an_upgrade_with_a_faulty_configuration(
    gateway: PackagedGateway, lab: Laboratory, later: Path
) -> None:
    """The daemon that runs is left alone, for another would not start; what to mend is told."""
    machine = lab.make_machine(gateway, lab.new_name())
    before, configuration = gateway.pid, gateway.host.read(CONFIGURATION)
    gateway.write(CONFIGURATION, configuration + "no_such_key: 1\n")
    said = gateway.install_package(later)
    assert "no_such_key: unknown key" in said
    assert "systemctl restart imds-proxy" in said
    assert gateway.pid == before
    assert role_of(machine) == "roleprefix-tuvfoo"
    gateway.write(CONFIGURATION, configuration)
    gateway.install_package(later)
    assert gateway.pid not in (0, before)


def test_removed(gateway: PackagedGateway) -> None:
    """Nothing runs any more and nothing would at the next boot; what was configured stays."""
    gateway.host.run("dpkg", "--remove", "imds-proxy")
    assert set(gateway.properties("ActiveState").values()) == {"inactive"}
    assert "enabled" not in gateway.properties("UnitFileState").values()
    assert gateway.host.run("ip", "-o", "address", "show", "to", "169.254.169.254").stdout == ""
    assert "imds_proxy" not in gateway.host.run("nft", "list", "tables").stdout
    files = gateway.find_files()
    assert {CONFIGURATION, KEY_FILE} <= set(files)
    assert [file for file in files if file.startswith(("/opt", "/usr", "/lib/"))] == []


def test_installed_again(gateway: PackagedGateway, package: Path, lab: Laboratory) -> None:
    """With the configuration still there, one command makes it serve."""
    gateway.install_package(package)
    assert set(gateway.properties("ActiveState").values()) == {"inactive"}
    gateway.host.run("systemctl", "enable", "--now", ADDRESS, SOCKET, SERVICE)
    assert role_of(lab.make_machine(gateway, lab.new_name())) == "roleprefix-tuvfoo"


def test_purged(gateway: PackagedGateway) -> None:
    """Nothing is left, rendered units and keys included; a file that somebody else wrote is."""
    own = "/etc/systemd/system/imds-proxy-other.service"
    gateway.host.write(own, "[Service]\nExecStart=/bin/true\n")
    made = "# Made from imds-proxy's configuration by `imds-proxy render network`\n"
    gateway.host.write("/etc/systemd/network/50-imds-proxy.network", made)
    gateway.host.write("/etc/systemd/system/imds-proxy.service.d/people.conf", made)
    gateway.host.write("/etc/nftables.conf", 'include "/etc/imds-proxy/imds-proxy.nft"\n')
    said = gateway.host.run("dpkg", "--purge", "imds-proxy")
    assert "take the line out" in said.stderr
    assert sorted(gateway.find_files()) == ["/etc/imds-proxy", "/etc/imds-proxy/imds-proxy.nft", own]
    gateway.host.run("test", "-d", "/etc/systemd/network")
    assert gateway.host.run("ls", "/etc/systemd/network").stdout == ""
    gateway.host.run("nft", "--check", "--file", "/etc/nftables.conf")
    assert gateway.host.run("systemctl", "--failed", "--no-legend", "--plain").stdout == ""
