"""What is in the daemon's memory stays there: no core dump, no reader of the same user."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.standins.daemon import write_settings
from tests.standins.processes import bare_environment
from tests.standins.wire import ROLES_PATH, WireCaller
from tests.web.machines import FOO_ROLE, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.little_sts import LittleSts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")

MARK = "NOT_TO_BE_READ"
NAMES = ("environ", "maps", "auxv")


@pytest.fixture(autouse=True)
def cores(tmp_path: Path) -> Iterator[None]:
    """Allow core dumps to processes that are started from here; skip where none would be made."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with started([sys.executable, "-c", "import os; os.abort()"], tmp_path) as (process, _):
            if not os.WCOREDUMP(end_of(process)):
                pytest.skip("this machine makes no core dumps")
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a program in `folder`; what it writes to stderr is in the file."""
    log = folder / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=bare_environment({MARK: "swordfish"}),
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        for core in folder.glob("core*"):
            core.unlink()


@contextmanager
def daemon(
    sts: LittleSts, folder: Path, *before: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path, tuple[str, int]]]:
    """Start the daemon, `before` being words in front of its command; its first listener comes along."""
    file = write_settings(site_settings(sts), folder / "imds-proxy.yaml")
    command = [*before, sys.executable, "-m", "imds_proxy", "serve", "--config", str(file)]
    with started(command, folder) as (process, log):
        end = time.monotonic() + 60
        while not (found := re.search(r"listening (127\.0\.0\.1):(\d+)", log.read_text())):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield process, log, (found[1], int(found[2]))


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Return how the kernel says it ended, the bit for a core dump included."""
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return status


def test_a_watchdog_s_signal(sts: LittleSts, tmp_path: Path) -> None:
    """SIGABRT ends it without a core dump; stderr says where each thread was, and no value."""
    with daemon(sts, tmp_path) as (process, log, address):
        caller = WireCaller(address)
        document = json.loads(caller.get(ROLES_PATH + FOO_ROLE, caller.fetch_token()).body)
        process.send_signal(signal.SIGABRT)
        status = end_of(process)
        assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)
        assert not list(tmp_path.glob("core*"))
        said = log.read_text()
    stack = said.partition("Fatal Python error: Aborted")[2]
    frames = [line for line in stack.splitlines() if line.startswith("  ")]
    assert frames
    assert all(re.fullmatch(r'  File ".*", line \d+ in [\w<>]+', line) for line in frames)
    assert "most recent call first" in stack
    # The thread that writes the audit log is another than the one that answers.
    assert "audit.py" in stack
    for secret in (document["SecretAccessKey"], document["Token"], "our/own/secret/key", "swordfish"):
        assert secret not in said


def test_other_ends(sts: LittleSts, tmp_path: Path) -> None:
    """Nor is there one when it crashes, or somebody asks for one."""
    for number in (signal.SIGSEGV, signal.SIGQUIT):
        with daemon(sts, tmp_path) as (process, _, _):
            process.send_signal(number)
            assert not os.WCOREDUMP(end_of(process))


@pytest.fixture
def powerless() -> list[str]:
    """Words in front of a command that is to have no capability: with all of them root reads anything."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def test_readers_of_the_same_user(sts: LittleSts, tmp_path: Path, powerless: list[str]) -> None:
    """A process of the same user can't read the environment or the memory's map."""

    def can_read(pid: int, name: str) -> bool:
        words = [*powerless, "cat", f"/proc/{pid}/{name}"]
        return bool(subprocess.run(words, capture_output=True, check=False).stdout)

    with started([*powerless, sys.executable, "-c", "import time; time.sleep(60)"], tmp_path) as (process, _):
        # So the question is a good one. `exec` of a program takes its time.
        end = time.monotonic() + 20
        while not all(can_read(process.pid, name) for name in NAMES):
            assert time.monotonic() < end
    with daemon(sts, tmp_path, *powerless) as (process, _, _):
        assert not [name for name in NAMES if can_read(process.pid, name)]


def test_the_limit_for_programs_that_it_starts(sts: LittleSts, tmp_path: Path) -> None:
    """The limit is 0 as well, which helpers of PAM and `credential_process` inherit."""
    with daemon(sts, tmp_path) as (process, _, _):
        soft, _ = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert soft == 0
