"""The first boot of a machine with a real cloud-init, every stage of it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.system.lab.own_root import OwnRoot

_READ = re.compile(r"Read from (http\S+) \((\d+), \d+b\)")
_FAILED = re.compile(r"\d{3} (?:Client|Server) Error: .* for url: (http[^\s\]']+)")

# What else Debian's cloud-init would do needs disks, services or a package mirror, and asks no metadata.
_MODULES = {
    "cloud_init_modules": ["write-files", "set_hostname", "update_hostname", "users-groups", "ssh"],
    "cloud_config_modules": ["runcmd"],
    "cloud_final_modules": ["scripts-user"],
    "ssh_genkeytypes": [],
    "ssh_deletekeys": False,
}
_STAGES = """
export PYTHONPATH=/opt/added/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1
/opt/added/usr/lib/cloud-init/ds-identify || exit 0
echo enabled
for stage in "init --local" "init" "modules --mode=config" "modules --mode=final"; do
    /usr/bin/python3 /opt/added/usr/bin/cloud-init $stage
done
hostname >/run/hostname
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot has left behind."""

    root: OwnRoot
    output: str

    @property
    def is_enabled(self) -> bool:
        """Whether ds-identify, which decides so at each boot, has let cloud-init run at all."""
        return "enabled" in self.output.splitlines()

    @property
    def log(self) -> str:
        """What cloud-init has logged."""
        return self.root.read("/var/log/cloud-init.log")

    @property
    def result(self) -> dict[str, Any]:
        """The data source and the errors."""
        content: dict[str, Any] = json.loads(self.root.read("/run/cloud-init/result.json"))["v1"]
        return content

    @property
    def instance_data(self) -> dict[str, Any]:
        """What `cloud-init query` knows, with what it shows to root alone."""
        content: dict[str, Any] = json.loads(self.root.read("/run/cloud-init/instance-data-sensitive.json"))
        return content

    @property
    def metadata(self) -> dict[str, Any]:
        """The tree below `meta-data/` as the data source has crawled it."""
        content: dict[str, Any] = self.instance_data["ds"]["meta-data"]
        return content

    @property
    def read_urls(self) -> list[str]:
        """Every URL that was answered with 200, in the order of the log."""
        return [url for url, status in _READ.findall(self.log) if status == "200"]

    @property
    def failed_urls(self) -> list[str]:
        """Every URL that was answered with anything else."""
        read = [url for url, status in _READ.findall(self.log) if status != "200"]
        return read + _FAILED.findall(self.log)


def boot(root: OwnRoot, release: Path, configuration: Mapping[str, object]) -> Boot:
    """Boot for the first time with `release`, an unpacked cloud-init, and return what came of it.

    `configuration` is what the administrator has put into /etc/cloud/cloud.cfg.d.
    """
    shutil.copytree(release / "etc/cloud", root.folder / "etc/cloud")
    for name, content in (("90_imds", configuration), ("99_modules", _MODULES)):
        # Lists on one line: ds-identify reads these files line by line.
        text = yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None)
        (root.folder / f"etc/cloud/cloud.cfg.d/{name}.cfg").write_text(text)
    done = root.run(_STAGES, release)
    output = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, output
    return Boot(root, output)
