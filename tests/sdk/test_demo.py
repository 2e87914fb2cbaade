"""`imds-proxy demo`: the whole thing in processes of its own, as a proof and as something to look at."""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.sdk

_LIST = "/latest/meta-data/iam/security-credentials/"
_WHOLE_TIME = 90.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder in which the demo makes its own temporary folder."""
    # Not pytest's own, whose path is long: a unix socket below it may have one of 107 bytes.
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)


def _environment(folder: Path) -> dict[str, str]:
    return bare_environment({"TMPDIR": str(folder), "AWS_PROFILE": "foreign", "HOME": str(folder)})


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=_WHOLE_TIME,
    )


@pytest.fixture
def demo(tmp_path: Path, folder: Path) -> Iterator[Child]:
    """Run the interactive demo."""
    command = [sys.executable, "-m", "imds_proxy", "demo"]
    child = Child("demo", command, folder=tmp_path, environment=_environment(folder))
    yield child
    child.kill()


def _ask(url: str, source: str) -> tuple[int, str]:
    """Return status and body of the role list, asked from `source` with a token of its own."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, 10, (source, 0))
    try:
        connection.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        token = connection.getresponse().read().decode()
        connection.request("GET", _LIST, headers={"X-aws-ec2-metadata-token": token})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_proof_is_real_and_leaves_nothing_behind(folder: Path) -> None:
    """Plain boto3 gets the identity of the machine's role; a foreign AWS profile changes nothing."""
    result = _run(folder, "-m", "imds_proxy", "demo", "--once")
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    role, name = "roleprefix-tuvfoo", "tuvfoo42.valid.example"
    assert lines["address"] == "127.0.0.1"
    assert lines["name"].startswith(name)
    assert lines["role"].startswith(f"{role} in account 000123456789: ")
    assert lines["assume-role"].startswith(f"arn:aws:iam::000123456789:role/{role}, session {name}, key ASIA")
    assert lines["caller-identity"] == f"arn:aws:sts::000123456789:assumed-role/{role}/{name}"
    assert lines["s3"] == "s3://demo-bucket/hello.txt: Hello from a bucket that only a role may read."
    assert lines["spoofed"].startswith("127.0.0.3 refused: ")
    assert list(folder.iterdir()) == []


def test_without_the_extra_it_names_the_extra(folder: Path) -> None:
    """An installation without moto is told what to install, in one line."""
    program = (
        "import sys; sys.modules['moto'] = None;"
        "from imds_proxy.demo import run_demo; sys.exit(run_demo(once=True))"
    )
    result = _run(folder, "-c", program)
    hint = "the demo needs moto's server: pip install 'imds-proxy[demo]'\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", hint)


def test_a_visitor_can_try_every_machine(demo: Child, folder: Path) -> None:
    """Two machines get their own roles, the third nothing, which the audit shows; SIGTERM ends it all."""
    [url] = demo.await_lines(r"  metadata service +(\S+) .*", on="stdout")
    assert _ask(url, "127.0.0.1") == (200, "roleprefix-tuvfoo")
    assert _ask(url, "127.0.0.2") == (200, "roleprefix-probar")
    assert _ask(url, "127.0.0.3") == (404, "")
    [record] = demo.await_lines(r"audit: (.*127\.0\.0\.3.*)", on="stdout")
    assert '"refused"' in record
    assert demo.stop() == 0
    assert list(folder.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        _ask(url, "127.0.0.1")
