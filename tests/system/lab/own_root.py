"""A root of its own for programs that write all over the machine or look at its hardware."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.lab.namespaces import ENVIRONMENT

if TYPE_CHECKING:
    from tests.system.lab.namespaces import Namespace

_SCRIPT = Path(__file__).with_suffix(".sh")
_RUN_TIME = 240
_ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:998:998::/:/usr/sbin/nologin\n",
    "shadow": "root:*:19000:0:99999:7:::\nsystemd-network:!*:19000::::::\n",
    "group": "root:x:0:\nsystemd-network:x:998:\n",
    "gshadow": "root:*::\nsystemd-network:!*::\n",
}
# Without these no program starts, or no account is made.
_COPIED = (
    "alternatives",
    "debian_version",
    "ld.so.cache",
    "login.defs",
    "nsswitch.conf",
    "os-release",
    "pam.d",
)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the firmware says of the machine, in words of `/sys/class/dmi/id`."""

    product_uuid: str
    product_serial: str
    sys_vendor: str
    product_name: str


BARE_METAL = Hardware("4c4c4544-0042-3510-8050-b7c04f4d3332", "B5PM2M3", "Example Inc.", "Rack Server 7")
_UUID_OF_EC2 = "ec2e1916-9099-7caf-fd21-012345abcdef"
LIKE_EC2 = Hardware(_UUID_OF_EC2, _UUID_OF_EC2, "Example Inc.", "KVM")
"""A virtual machine whose host gives it identifiers as an instance has them."""


class OwnRoot:
    """A folder that programs see as `/`, and a namespace that they take for the machine's network."""

    def __init__(self, namespace: Namespace, folder: Path, hardware: Hardware) -> None:
        self._namespace = namespace
        self.folder = folder
        for path in ("etc", "root", "home", "var/log", "var/lib", "tmp", "run", "sys/class/dmi/id"):
            (folder / path).mkdir(parents=True)
        for name, text in _ACCOUNTS.items():
            (folder / "etc" / name).write_text(text)
        for source in map(Path("/etc").joinpath, _COPIED):
            if source.is_dir():
                shutil.copytree(source, folder / "etc" / source.name, symlinks=True)
            elif source.exists():
                shutil.copy(source, folder / "etc" / source.name)
        for name, text in asdict(hardware).items():
            (folder / "sys/class/dmi/id" / name).write_text(f"{text}\n")

    def run(self, script: str, added: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script of sh as root in a new process and host name namespace, once; return how it ended.

        `added` is a folder that the script finds at /opt/added.
        """
        (nothing := self.folder / "opt/nothing").mkdir(parents=True)
        own_namespaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        program = ["sh", str(_SCRIPT), str(self.folder), str(added or nothing), script]
        return subprocess.run(
            self._namespace.command(*own_namespaces, *program),
            check=False,
            capture_output=True,
            text=True,
            timeout=_RUN_TIME,
            env=ENVIRONMENT,
        )

    def read(self, path: str) -> str:
        """Return the text of a file below the root; "" where there is none."""
        file = self.folder / path.lstrip("/")
        return file.read_text("utf-8") if file.is_file() else ""
