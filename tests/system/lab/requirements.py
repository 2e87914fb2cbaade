"""What the laboratory needs of the machine it runs on."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.system.lab.namespaces import CommandError, Namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

# Program -> the Debian package that has it; `install-packages` installs these.
_PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "named": "bind9",
    "rndc": "bind9-utils",
    "dig": "bind9-dnsutils",
    "nsupdate": "bind9-dnsutils",
    "curl": "curl",
}


def find_missing(programs: Iterable[str] = _PROGRAMS) -> list[str]:
    """Return what is missing here, each in words that say what to do; empty: all is there.

    `programs` are those of the laboratory that are needed.
    """
    missing = [] if os.geteuid() == 0 else ["root (network namespaces)"]
    missing += [
        f"{program} (Debian package {_PROGRAMS[program]})"
        for program in programs
        if shutil.which(program) is None
    ]
    return missing or _try_namespace()


def _try_namespace() -> list[str]:
    # Root in a container often may not: that shows only when it is tried.
    try:
        namespace = Namespace.make("probe")
    except CommandError as error:
        return [f"the right to make network namespaces ({error})"]
    namespace.remove()
    return []
