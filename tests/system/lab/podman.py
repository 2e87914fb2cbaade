"""Debian's Podman with a store of its own, and the image built in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.standins.manual import ROOT
from tests.standins.processes import bare_environment

IMAGE = "localhost/imds-proxy"
_BASE = "localhost/python-base:12"
_CACHE = ROOT / ".cache" / "containers"
_PROGRAMS = ("podman", "crun", "iptables", "mmdebstrap", "unshare")
_BRIDGE = Path("/usr/lib/cni/bridge")
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_BUILD_TIME = 600


class PodmanUnavailableError(Exception):
    """The image can't be built here; the text says what failed."""


def find_missing() -> list[str]:
    """Return what is missing here to build and run the image."""
    missing = [] if os.geteuid() == 0 else ["root"]
    missing += [program for program in _PROGRAMS if shutil.which(program) is None]
    return missing + ([] if _BRIDGE.exists() else ["containernetworking-plugins"])


def podman_command(store: Path) -> list[str]:
    """Return the command line up to Podman's own words. All it keeps is below `store`."""
    places = [f"--root={store}/root", f"--runroot={store}/run", f"--network-config-dir={store}/networks"]
    managers = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]
    return ["podman", *places, *managers]


def build_image(store: Path) -> None:
    """Build the Containerfile on a Debian with Python, which stands in for the registry's image.

    The Debian is made once and kept below `.cache`. Raises PodmanUnavailableError without mirrors.
    """
    base = _CACHE / "base.tar"
    if not base.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = base.with_suffix(".new.tar")
        _run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}", "bookworm", str(fresh)])
        fresh.replace(base)
    podman = podman_command(store)
    image = _run([*podman, "import", "--quiet", str(base), _BASE]).strip()
    if not image.startswith("sha256:"):
        image = f"sha256:{image}"
    # pip in the build takes the developer's own settings: a folder of wheels, certificates.
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    paths = [Path(value) for value in pip.values() if Path(value).is_dir()] + [Path("/etc/ssl/certs")]
    options = [f"--volume={path}:{path}:ro" for path in paths]
    options += [f"--env={name}={value}" for name, value in pip.items()]
    fixed = ["--isolation=chroot", "--network=host", "--format=docker", f"--build-arg=BASE={image}"]
    _run([*podman, "build", *fixed, *options, f"--file={ROOT}/Containerfile", f"--tag={IMAGE}", str(ROOT)])


def _run(command: list[str]) -> str:
    # Below /sbin, /usr/sbin: iptables and what packages are configured with.
    environment = bare_environment({"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=_BUILD_TIME, env=environment
    )
    if done.returncode:
        raise PodmanUnavailableError(f"{command[0]} {command[-1]}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
