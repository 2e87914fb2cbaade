"""README's "Five minutes to a real gateway", walked command by command on a booted host and a machine.

Three things are not as they stand there. The package was built before, by the script that `make deb` runs, so
what fetches its sources and tools is left out. The names of this laboratory take the place of README's: its
gateway's address and interface, its key. And a second file in /etc/imds-proxy says where this AWS is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.standins import manual
from tests.standins.client_venvs import client_bin
from tests.system.lab.booted import BootedHost, booted_host, skip_unless_bootable
from tests.system.lab.packaged import built_package
from tests.system.lab.unit_gateway import CONFIGURATION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine

pytestmark = pytest.mark.system

HEADING = "Five minutes to a real gateway"
MACHINE = "10.77.0.5"
NAME = "tuvfoo42.valid.example"
BEFORE = ("apt-get install git ", "git clone ", "make deb")
"""How the commands begin that the build of the package stands for."""
_STEP = re.compile(r"^\*\*(\d\. [^*]*)\*\*([^\n]*)|^`(/[^`]+)`[^\n]*:$|^```(\w+)\n(.*?)^```$", re.M | re.S)
_QUIETLY = ["env", "--chdir=/root", "DEBIAN_FRONTEND=noninteractive"]


@dataclass(frozen=True)
class Step:
    """A block of the section: where it belongs (`gateway`, `machine`), its kind, the file it is, its text."""

    place: str
    kind: str
    file: str
    text: str


def read_steps() -> list[Step]:
    """Return the section's blocks in their order."""
    _, _, rest = manual.read("README.md").partition(f"## {HEADING}\n")
    section = rest.partition("\n## ")[0]
    steps, place, file = [], "", ""
    for heading, tail, path, kind, text in _STEP.findall(section):
        if heading:
            place = "machine" if "machine" in heading else "gateway" if "gateway" in heading + tail else "aws"
        elif path:
            file = path
        else:
            steps.append(Step(place, kind, file if kind in {"yaml", "ini"} else "", text))
    return steps


class Walk:
    """Somebody who types what README says."""

    def __init__(self, lab: Laboratory, host: BootedHost, machine: Machine, package: Path) -> None:
        self._lab, self._host, self._machine, self._package = lab, host, machine, package
        self.said = ""
        """What the last block of commands wrote, stdout and stderr together."""
        self._words = {
            "lan0": "eth0",
            "10.77.0.1\n": f"{host.address}\n",
            "AKIA...": lab.aws.access_key_id,
            "aws_secret_access_key = ...": f"aws_secret_access_key = {lab.aws.secret_access_key}",
        }

    def prepare(self) -> None:
        """Have the package where `make deb` puts it, and say where AWS is."""
        self._host.copy(self._package, f"/root/imds-proxy/dist/deb/{self._package.name}")
        where = yaml.safe_dump({"aws": {"sts_endpoint": self._lab.aws.url}})
        self._host.write("/etc/imds-proxy/laboratory.yaml", where)
        self._machine.namespace.configure("route delete 169.254.169.254/32")

    def do(self, step: Step) -> None:
        """Type the commands, or write the file. Raises CommandError with what a command said."""
        text = step.text
        for word, ours in self._words.items():
            text = text.replace(word, ours)
        if step.kind in {"yaml", "ini"}:
            self._host.write(step.file, text, 0o600 if step.kind == "ini" else 0o644)
            return
        commands = [line for line in text.splitlines() if not line.startswith(BEFORE)]
        script = "\n".join(["exec 2>&1", "set -eu", *commands])
        if step.place == "machine":
            self.said = self._machine.namespace.run(*self._environment(), "sh", "-c", script).stdout
        else:
            self.said = self._host.run(*_QUIETLY, "sh", "-c", script, stdin="y\n").stdout  # apt-get asks

    def take_out_of_configuration(self, key: str) -> None:
        """Take a line out of the configuration, as an editor would."""
        self._host.run("sed", "-i", f"/^{key}:/d", CONFIGURATION)

    def _environment(self) -> list[str]:
        path = f"{client_bin('awscli', ['awscli<2'])}:/usr/sbin:/usr/bin:/sbin:/bin"
        # No key, no profile: nothing but the metadata service can give it one.
        return ["env", f"PATH={path}", "HOME=/nonexistent", f"AWS_ENDPOINT_URL_STS={self._lab.aws.url}"]


def as_pattern(line: str) -> str:
    """Return a line of README as a pattern: keys and times are others each time."""
    pattern = re.escape(line)
    pattern = re.sub(r"ASIA[A-Z0-9]+", "ASIA[A-Z0-9]{16}", pattern)
    return re.sub(r"\d{4}\\-\d\d\\-\d\dT[\d:]+Z", r"[\\d:T-]+Z", pattern)


def test_the_steps_are_found() -> None:
    """The walk has something to walk: files, commands in both places, and what they are to say."""
    steps = read_steps()
    assert [(step.place, step.kind) for step in steps] == [
        ("gateway", "sh"),
        ("gateway", "yaml"),
        ("gateway", "ini"),
        ("gateway", "sh"),
        ("gateway", "text"),
        ("gateway", "sh"),
        ("machine", "sh"),
        ("machine", "text"),
        ("gateway", "sh"),
    ]


def test_five_minutes(lab: Laboratory) -> None:
    """Each command succeeds, and says what README shows; at its end DNS alone says who the machine is."""
    skip_unless_bootable()
    with booted_host(lab) as host:
        machine = lab.make_machine(host, NAME, address=MACHINE)
        walk = Walk(lab, host, machine, built_package())
        walk.prepare()
        steps = read_steps()
        for number, step in enumerate(steps):
            if number == len(steps) - 1:
                walk.take_out_of_configuration("hosts")
            if step.kind != "text":
                walk.do(step)
                continue
            for line in step.text.splitlines():
                assert re.search(f"^{as_pattern(line)}$", walk.said, re.MULTILINE), (line, walk.said)
        assert f"confirmed: {NAME}" in walk.said
        assert "from hosts" not in walk.said
        assert "granted: " in walk.said
