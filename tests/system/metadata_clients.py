"""Programs that read all of a machine's metadata, run on a machine: what each of them has understood."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.client_venvs import ClientUnavailableError, client_bin
from tests.system.lab.own_root import OwnRoot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.lab.machine import Machine
    from tests.system.lab.own_root import Hardware

_EC2_METADATA = ["ec2-metadata==3.0.0"]
_BOTO2 = ["boto==2.49.0"]

_EC2_METADATA_PROGRAM = """
import json
from ec2_metadata import EC2Metadata, NetworkInterface, ec2_metadata

def read(thing, kind):
    found = {}
    for name in vars(kind):
        if name.startswith("_") or callable(getattr(kind, name)):
            continue
        try:
            value = getattr(thing, name)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        found[name] = value.decode() if isinstance(value, bytes) else value
    return found

found = read(ec2_metadata, EC2Metadata)
cards = found["network_interfaces"]
if isinstance(cards, dict):
    found["network_interfaces"] = {mac: read(card, NetworkInterface) for mac, card in cards.items()}
found["public_keys"] = {name: key.openssh_key for name, key in found["public_keys"].items()}
if not isinstance(found["tags"], str):
    found["tags"] = dict(found["tags"])
print(json.dumps(found))
"""
_BOTO2_PROGRAM = """
import json, sys
import boto.utils
def read(node):
    return {key: read(node[key]) for key in node.keys()} if isinstance(node, dict) else node
print(json.dumps(read(boto.utils.get_instance_metadata(url=sys.argv[1], num_retries=1))))
"""


def run_ec2_metadata(machine: Machine) -> dict[str, Any]:
    """Return every property of `ec2-metadata` (PyPI), the error's text for one that can't be read."""
    python = _python_of("ec2-metadata", _EC2_METADATA)
    return _read_json(machine.namespace.run(python, "-c", _EC2_METADATA_PROGRAM).stdout)


def run_boto2(machine: Machine, url: str) -> dict[str, Any]:
    """Return what boto 2, which knows IMDSv1 only, makes of the tree."""
    if sys.version_info >= (3, 12):
        pytest.skip("boto 2 does not run on Python 3.12")
    return _read_json(machine.namespace.run(_python_of("boto2", _BOTO2), "-c", _BOTO2_PROGRAM, url).stdout)


def run_ec2metadata(machine: Machine) -> dict[str, str]:
    """Return what Debian's `ec2metadata` prints for each of its options."""
    _require("ec2metadata", "cloud-guest-utils")
    lines = machine.namespace.run("ec2metadata").stdout.splitlines()
    return {key: value for key, mark, value in (line.partition(": ") for line in lines) if mark}


def run_facter(machine: Machine, folder: Path, hardware: Hardware) -> dict[str, Any]:
    """Return facter's facts about EC2. It asks only where it takes the hardware for virtual."""
    _require("facter", "facter")
    done = OwnRoot(machine.namespace, folder, hardware).run("facter --json virtual ec2_metadata ec2_userdata")
    assert done.returncode == 0, done
    return _read_json(done.stdout)


def run_ohai(machine: Machine, folder: Path, hardware: Hardware) -> dict[str, Any]:
    """Return ohai's `ec2`, with the hint that makes it ask on any hardware."""
    _require("ohai", "ohai")
    root = OwnRoot(machine.namespace, folder, hardware)
    hints = root.folder / "etc/chef/ohai/hints"
    hints.mkdir(parents=True)
    (hints / "ec2.json").write_text("{}")
    done = root.run("ohai ec2")
    assert done.returncode == 0, done
    return _read_json(done.stdout)


def _python_of(name: str, requirements: list[str]) -> str:
    try:
        return str(client_bin(name, requirements) / "python")
    except ClientUnavailableError as error:
        pytest.skip(str(error))


def _require(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} (Debian package {package})")


def _read_json(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return content
