"""The image, built from the Containerfile and run with Debian's Podman: what it may, and who gets which role.

No registry is asked: a Debian with Python stands in for the image it is made from.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.manual import ROOT
from tests.system.lab import podman

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Any]]:
    """What containers of the image saw, by what it is (tests/system/lab/podman_trial.py)."""
    if missing := podman.find_missing():
        pytest.skip(f"missing: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="imds-podman-") as folder:
        store = Path(folder, "store")
        try:
            podman.build_image(store)
        except podman.PodmanUnavailableError as error:
            pytest.skip(f"no image: {error}")
        program = [sys.executable, "-m", "tests.system.lab.podman_trial", str(store), folder]
        done = subprocess.run(
            ["unshare", "--mount", "--net", *program],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)


def assert_role(seen: dict[str, Any], container: str, role: str) -> None:
    """The container was told the role, and STS gave its key for that role."""
    told = seen[container]
    assert told["role"] == role, (told, seen["log"])
    assert seen["arns"][told["key"]] == f"arn:aws:iam::000123456789:role/{role}"


def test_it_runs_with_next_to_nothing(seen: dict[str, Any]) -> None:
    """Read-only, as a user of its own without capabilities, it is healthy on port 80 and ends with 0."""
    assert seen["health"] == 0, seen["log"]
    assert (seen["uid"], int(seen["capabilities"], 16)) == ("10077", 0)
    assert seen["writes"] != 0
    assert seen["exit_status"] == "0"
    assert "Traceback" not in seen["log"]


def test_fixed_addresses_lead_to_roles(seen: dict[str, Any]) -> None:
    """With Podman, whose DNS is no help, `hosts` gives each container its own role."""
    assert_role(seen, "tuvfoo", "roleprefix-tuvfoo")
    assert_role(seen, "berbar", "roleprefix-probar")


def test_others_get_nothing(seen: dict[str, Any]) -> None:
    """An address without a name has no role, the host not even a token; nobody asks STS.

    Whether the host has an address on an internal network at all depends on Podman's network program.
    """
    assert seen["unknown"]["key"] is None
    assert seen["unknown"]["role"] in {404, 503}
    assert seen["on_the_host"] in ({"role": 403, "key": None}, {"role": None, "key": None})
    assert seen["refused_calls"] == 0
    assert (
        "169.254.169.254:80: 169.254.169.1 is not in its callers, or in callers_except" in seen["explained"]
    )


def test_a_token_says_which_workload_it_is(seen: dict[str, Any]) -> None:
    """At a container endpoint the token decides, whatever the address; a wrong one is a 401."""
    assert_role(seen, "workload", "pods-web")
    assert seen["wrong_token"] == {"role": 401, "key": None}
    assert seen["wrong_token_calls"] == 0
