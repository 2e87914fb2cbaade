"""A real cloud-init boots a machine from the daemon, with the samples of docs/cloud-init.md: what arrives."""

from __future__ import annotations

import gzip
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from imds_proxy.naming import instance_id
from tests.standins import manual
from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.daemon import REGION
from tests.system.lab.bind import CLOSED_SERVER
from tests.system.lab.debian_suites import SUITES, unpack_package
from tests.system.lab.first_boot import boot
from tests.system.lab.gateway import make_listener, make_settings
from tests.system.lab.machine import METADATA, ROLE_LIST
from tests.system.lab.own_root import BARE_METAL, LIKE_EC2, OwnRoot
from tests.system.verdicts import PROBAR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.first_boot import Boot
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

PAGE = "docs/cloud-init.md"
PYTHON = "/usr/bin/python3"
MODULES = "configobj, jinja2, jsonpatch, jsonschema, oauthlib, requests, serial, yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops@valid.example"
PATIENCE = 30
NO_DNS = """
table inet no_dns {
    chain outgoing { type filter hook output priority 0; meta l4proto { tcp, udp } th dport 53 drop; }
}
"""
PROFILE = "arn:aws:iam::000123456789:instance-profile/roleprefix-probar"


def _sample(beginning: str) -> dict[str, Any]:
    (block,) = [
        each for each in manual.blocks(PAGE) if each.kind == "yaml" and each.text.startswith(beginning)
    ]
    content: dict[str, Any] = yaml.safe_load(block.text)
    return content


@pytest.fixture(scope="module", params=SUITES)
def release(request: pytest.FixtureRequest) -> Path:
    """Debian's cloud-init of a suite, unpacked."""
    imported = subprocess.run(
        [PYTHON, "-c", f"import {MODULES}"], check=False, capture_output=True, text=True
    )
    if imported.returncode:
        pytest.skip(f"{PYTHON} lacks what cloud-init needs: {imported.stderr.strip().splitlines()[-1]}")
    try:
        return unpack_package("cloud-init", request.param)
    except ClientUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gateway(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The page's daemon: IMDSv1 without credentials on port 8775, the role behind a token on port 80."""
    with lab.running_gateway(_settings(lab, tmp_path_factory.mktemp("user-data"))) as gateway:
        yield gateway


def _settings(lab: Laboratory, folder: Path, **more: object) -> dict[str, Any]:
    """Return the page's settings, with its user-data in a folder."""
    (user_data,) = [each for each in manual.blocks(PAGE) if each.kind == "text"]
    (folder / "*.valid.example").write_text(user_data.text)
    sample = _sample("listen:")
    sample["metadata"]["user_data"] = str(folder)
    return make_settings(lab.aws, **sample, **more)


def test_bare_metal_boots(lab: Laboratory, gateway: Gateway, release: Path, tmp_path: Path) -> None:
    """With the page's configuration a machine that nothing marks as EC2's learns all, and no keys."""
    name = _take_name(0, release)
    machine = lab.make_machine(gateway, name)
    booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, _sample("# /etc/cloud"))
    assert booted.is_enabled
    assert booted.result == {"datasource": "DataSourceEc2", "errors": []}
    _assert_crawled(booted)
    assert not [url for url in booted.read_urls if "api/token" in url]
    _assert_identity(booted, name, machine.address)
    assert _network_files(booted) == []
    assert "iam" not in booted.metadata


def test_where_no_token_is_needed_no_keys_are(lab: Laboratory, gateway: Gateway) -> None:
    """The page's two ports: without a token no role at one, nothing at the other; with one the role."""
    machine = lab.make_machine(gateway, lab.new_name("hambar"))
    boot_port = f"{METADATA}:8775"
    for path in (ROLE_LIST, ROLE_LIST + PROBAR):
        assert (machine.ask(path, base=boot_port).status, machine.ask(path).status) == (404, 401), path
    assert machine.ask("/latest/user-data", base=boot_port).status == 200
    assert machine.list_role(machine.fetch_token(boot_port)).body == PROBAR


@pytest.mark.parametrize("by", ["name", "address"])
def test_what_deny_leaves_a_machine(lab: Laboratory, tmp_path: Path, by: str) -> None:
    """No user-data. Denied by name it is the instance that it was; by address nobody asks for its name."""
    name, address = (
        ("hambar21.valid.example", "10.77.82.1") if by == "name" else ("hambar22.valid.example", "10.77.82.2")
    )
    settings = _settings(lab, tmp_path, deny=[name if by == "name" else address])
    with lab.running_gateway(settings) as gateway:
        machine = lab.make_machine(gateway, name, address=address)
        boot_port = f"{METADATA}:8775/latest"
        assert machine.ask("/user-data", base=boot_port).status == 404
        found = machine.ask("/meta-data/instance-id", base=boot_port).body
        assert found == instance_id(name if by == "name" else address)
        assert machine.ask("/meta-data/public-keys/0/openssh-key", base=boot_port).body == KEY


def test_a_machine_like_ec2_boots(lab: Laboratory, gateway: Gateway, release: Path, tmp_path: Path) -> None:
    """A virtual machine with an instance's identifiers needs no address and no IMDSv1: it has a token."""
    name = _take_name(1, release)
    machine = lab.make_machine(gateway, name)
    configuration = {"datasource_list": ["Ec2"], "network": {"config": "disabled"}}
    booted = boot(OwnRoot(machine.namespace, tmp_path / "root", LIKE_EC2), release, configuration)
    assert booted.result["datasource"] in {"DataSourceEc2", "DataSourceEc2Local"}
    assert booted.result["errors"] == []
    _assert_crawled(booted)
    assert booted.read_urls[0] == "http://169.254.169.254/latest/api/token"
    _assert_identity(booted, name, machine.address)
    assert list(booted.metadata["iam"]) == ["info"]
    assert booted.metadata["iam"]["info"]["InstanceProfileArn"] == PROFILE


def test_a_machine_without_a_name_boots(
    lab: Laboratory, gateway: Gateway, release: Path, tmp_path: Path
) -> None:
    """With an id made of its address and its keys: no host name, no user-data."""
    machine = lab.make_machine(gateway)
    booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, _sample("# /etc/cloud"))
    assert booted.result == {"datasource": "DataSourceEc2", "errors": []}
    _assert_crawled(booted)
    assert booted.metadata["instance-id"] == instance_id(machine.address)
    assert "local-hostname" not in booted.metadata
    assert booted.root.read("/home/debian/.ssh/authorized_keys") == f"{KEY}\n"
    assert not (booted.root.folder / "root/booted").exists()


def test_without_sts_a_machine_boots(
    lab: Laboratory, release: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What needs STS has its error below `iam/` alone: all else arrives at the first try."""
    closed = {"sts_endpoint": f"http://{CLOSED_SERVER}:1"}
    settings = _settings(lab, tmp_path_factory.mktemp("user-data"), aws_extra=closed)
    with lab.running_gateway(settings) as gateway:
        name = _take_name(4, release)
        machine = lab.make_machine(gateway, name)
        configuration = {"datasource_list": ["Ec2"], "network": {"config": "disabled"}}
        booted = boot(OwnRoot(machine.namespace, tmp_path / "root", LIKE_EC2), release, configuration)
    assert booted.result["errors"] == []
    _assert_crawled(booted)
    _assert_identity(booted, name, machine.address)
    assert "iam" not in booted.metadata


def test_a_boot_waits_for_dns(lab: Laboratory, release: Path, tmp_path: Path) -> None:
    """While no name server answers a boot asks again; when one does, it is a boot like any other."""
    folder = tmp_path / "user-data"
    folder.mkdir()
    name = _take_name(7, release)
    with lab.running_gateway(_settings(lab, folder)) as gateway, ThreadPoolExecutor(1) as elsewhere:
        gateway.namespace.filter(NO_DNS)
        machine = lab.make_machine(gateway, name)
        root = OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL)
        booting = elsewhere.submit(boot, root, release, _sample("# /etc/cloud"))
        _await_in(root, "503")
        gateway.namespace.run("nft", "delete", "table", "inet", "no_dns")
        booted = booting.result()
    assert booted.result == {"datasource": "DataSourceEc2", "errors": []}
    assert "Failed fetching" not in booted.log
    _assert_identity(booted, name, machine.address)


def test_over_ipv6(lab: Laboratory, release: Path, tmp_path: Path) -> None:
    """A machine whose IPv6 address alone has a name asks at [fd00:ec2::254]; its user-data is compressed."""
    folder = tmp_path / "user-data"
    folder.mkdir()
    settings = _settings(lab, folder)
    listener = make_listener("[fd00:ec2::254]:80", imds_v1=True, credentials=False)
    settings["listen"] = [listener | {"provider": "machines"}]
    (file,) = folder.iterdir()
    file.write_bytes(gzip.compress(file.read_bytes()))
    configuration = _sample("# /etc/cloud")
    configuration["datasource"]["Ec2"]["metadata_urls"] = ["http://[fd00:ec2::254]"]
    with lab.running_gateway(settings) as gateway:
        machine = lab.make_machine(gateway)
        name = _take_name(5, release)
        lab.names.register(machine.address_v6, name)
        booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, configuration)
    assert booted.result == {"datasource": "DataSourceEc2", "errors": []}
    _assert_crawled(booted)
    assert booted.metadata["ipv6"] == machine.address_v6
    assert "local-ipv4" not in booted.metadata
    _assert_arrived(booted, name)


def test_network_card_of_the_settings(lab: Laboratory, release: Path, tmp_path: Path) -> None:
    """Where the settings know a machine's card, cloud-init, when it is let, makes DHCP of it."""
    name = _take_name(6, release)
    folder = tmp_path / "user-data"
    folder.mkdir()
    settings = _settings(lab, folder)
    address = f"10.77.81.{SUITES.index(_suite_of(release)) + 1}"
    mac = "02:00:" + IPv4Address(address).packed.hex(":")  # as the laboratory gives them out
    settings["metadata"]["hosts"] = {name: {"mac": mac}}
    with lab.running_gateway(settings) as gateway:
        machine = lab.make_machine(gateway, name, address=address)
        configuration = _sample("# /etc/cloud")
        del configuration["network"]
        booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, configuration)
    assert booted.result == {"datasource": "DataSourceEc2", "errors": []}
    _assert_crawled(booted)
    _assert_identity(booted, name, address)
    (written,) = [text for text in _network_files(booted) if mac in text]
    assert "dhcp" in written.lower()


def test_nothing_runs_unasked(lab: Laboratory, gateway: Gateway, release: Path, tmp_path: Path) -> None:
    """Without a configuration bare metal is no machine for cloud-init, which then does not run at all."""
    machine = lab.make_machine(gateway, _take_name(2, release))
    booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, {})
    assert not booted.is_enabled
    assert booted.log == ""


def test_no_token_no_data(lab: Laboratory, gateway: Gateway, release: Path, tmp_path: Path) -> None:
    """Bare metal that asks where a token is needed gets nothing, and no instance of it is made."""
    machine = lab.make_machine(gateway, _take_name(3, release))
    source = {"strict_id": False, "metadata_urls": ["http://169.254.169.254"], "max_wait": 3, "timeout": 2}
    configuration = {"datasource_list": ["Ec2"], "datasource": {"Ec2": source}}
    booted = boot(OwnRoot(machine.namespace, tmp_path / "root", BARE_METAL), release, configuration)
    assert "DataSourceEc2" not in str(booted.result["datasource"])
    assert booted.failed_urls
    assert booted.read_urls == []


def _await_in(root: OwnRoot, text: str) -> None:
    """Return once cloud-init's log has the text. Raises AssertionError when it never comes."""
    deadline = time.monotonic() + PATIENCE
    while text not in root.read("/var/log/cloud-init.log"):
        assert time.monotonic() < deadline, root.read("/var/log/cloud-init.log")
        time.sleep(0.1)


def _take_name(number: int, release: Path) -> str:
    # Names belong to one test each; all of them give the same role.
    return f"hambar{10 * SUITES.index(_suite_of(release)) + number:02}.valid.example"


def _suite_of(release: Path) -> str:
    return release.name.rpartition("-")[2]


def _assert_crawled(booted: Boot) -> None:
    """All that was listed was there at the first try, and no key of AWS has reached the machine's files."""
    assert booted.failed_urls == []
    assert "Failed fetching" not in booted.log
    assert not [url for url in booted.read_urls if "security-credentials" in url]
    texts = [file.read_bytes() for file in _files(booted.root.folder)]
    assert [text for text in texts if b"SecretAccessKey" in text] == []


def _network_files(booted: Boot) -> list[str]:
    """Return the texts of the configurations that Debian's ways of making a network read."""
    etc = booted.root.folder / "etc"
    folders = [etc / "network", etc / "netplan", etc / "systemd/network"]
    return [file.read_text("utf-8") for folder in folders for file in folder.rglob("*") if file.is_file()]


def _files(root: Path) -> list[Path]:
    written = ("etc", "home", "root", "run", "var")
    return [file for folder in written for file in (root / folder).rglob("*") if file.is_file()]


def _assert_identity(booted: Boot, name: str, address: str) -> None:
    assert booted.metadata["local-ipv4"] == address
    _assert_arrived(booted, name)


def _assert_arrived(booted: Boot, name: str) -> None:
    assert booted.metadata["instance-id"] == instance_id(name)
    assert booted.metadata["local-hostname"] == name
    known = booted.instance_data["v1"]
    assert known["instance_id"] == instance_id(name)
    assert (known["region"], known["availability_zone"]) == (REGION, f"{REGION}a")
    host = name.partition(".")[0]
    assert booted.metadata["hostname"] == name
    assert booted.metadata["tags"]["instance"] == {"Name": host, "site": "ham"}
    assert booted.root.read("/etc/hostname") == booted.root.read("/run/hostname") == f"{host}\n"
    assert known["public_ssh_keys"] == [KEY]
    assert booted.root.read("/home/debian/.ssh/authorized_keys") == f"{KEY}\n"
    (root_key,) = booted.root.read("/root/.ssh/authorized_keys").splitlines()
    assert root_key.endswith(KEY)
    assert "command=" in root_key
    assert booted.root.read("/etc/site") == f"ham {REGION} {host}\n"
    assert (booted.root.folder / "root/booted").exists()
