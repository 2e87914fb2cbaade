"""Who shares credentials: everybody with the same key, endpoint, account, role and name, and nobody else."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_proxy import AWSError, engine
from tests.library.site import ACCOUNT, ACCOUNTS, Counted, proxy_for
from tests.standins.little_sts import running_little_sts
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.aws_process import Aws

ROLE = "shared-role"
_FORK_SECONDS = 30


@pytest.fixture(autouse=True)
def role(aws: Aws) -> None:
    """A role that everybody here asks for."""
    aws.add_roles(ROLE)


def test_one_assume_role_for_fifty_threads(aws: Aws) -> None:
    """Half of them with one instance, half with instances of their own, all at the same moment."""
    shared = proxy_for(ROLE, user="fifty")
    start = threading.Barrier(50)

    def ask(number: int) -> str:
        proxy = shared if number % 2 else proxy_for(ROLE, user="fifty")
        start.wait(30)
        return proxy.get_aws_credentials(ACCOUNT, ROLE).access_key

    with ThreadPoolExecutor(50) as threads:
        keys = list(threads.map(ask, range(50)))
    assert len(set(keys)) == 1
    assert [call.outcome for call in aws.calls()] == ["ok"]


def test_the_provider_is_asked_each_time(aws: Aws) -> None:
    """Credentials are kept, permissions are not: a role that was taken away is gone at once."""
    proxy = proxy_for(ROLE, user="often", class_name="Counted")
    asked = Counted.asked
    first = proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is first
    assert Counted.asked == asked + 2
    assert len(aws.calls()) == 1


def test_users_and_roles_are_told_apart(aws: Aws) -> None:
    """Another user and another role have other credentials."""
    aws.add_roles("shared-other")
    keys = {
        proxy_for(ROLE, user="first").get_aws_credentials(ACCOUNT, ROLE).access_key,
        proxy_for(ROLE, user="second").get_aws_credentials(ACCOUNT, ROLE).access_key,
        proxy_for("shared-other", user="first").get_aws_credentials(ACCOUNT, "shared-other").access_key,
    }
    assert len(keys) == 3
    assert len(aws.calls()) == 3


def test_fresh_ones_are_new(aws: Aws) -> None:
    """`fresh` asks STS whatever is held; from then on everybody has the new ones."""
    proxy = proxy_for(ROLE, user="fresh")
    old = proxy.get_aws_credentials(ACCOUNT, ROLE)
    new = proxy.get_aws_credentials(ACCOUNT, ROLE, fresh=True)
    assert new.access_key != old.access_key
    assert proxy_for(ROLE, user="fresh").get_aws_credentials(ACCOUNT, ROLE) is new
    assert len(aws.calls()) == 2


def test_fresh_ones_that_live_shorter(aws: Aws) -> None:
    """They are what was asked for, and held from then on: the role may have been changed."""
    proxy = proxy_for(ROLE, user="shorter")
    old = proxy.get_aws_credentials(ACCOUNT, ROLE)
    aws.set_faults({"kind": "lifetime", "seconds": 2400, "times": 1})
    new = proxy.get_aws_credentials(ACCOUNT, ROLE, fresh=True)
    assert new.expiry < old.expiry
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is new


def test_fresh_ones_that_can_not_be_had(aws: Aws) -> None:
    """`fresh` fails though others are held, which go on to be served."""
    proxy = proxy_for(ROLE, user="stale")
    held = proxy.get_aws_credentials(ACCOUNT, ROLE)
    aws.set_faults({"kind": "throttling"})
    for _ in range(2):
        with pytest.raises(AWSError):
            proxy.get_aws_credentials(ACCOUNT, ROLE, fresh=True)
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is held
    assert len(aws.calls()) == 3


def test_short_ones_are_not_handed_out_again(aws: Aws) -> None:
    """With less than 25 minutes left the next who asks waits for a renewal."""
    proxy = proxy_for(ROLE, user="short")
    aws.set_faults({"kind": "lifetime", "seconds": 1200, "times": 1})
    first = proxy.get_aws_credentials(ACCOUNT, ROLE)
    second = proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert second.access_key != first.access_key
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is second
    assert len(aws.calls()) == 2


def test_short_ones_are_better_than_none(aws: Aws) -> None:
    """A renewal that fails leaves those that are held."""
    proxy = proxy_for(ROLE, user="better")
    aws.set_faults({"kind": "lifetime", "seconds": 1200, "times": 1})
    first = proxy.get_aws_credentials(ACCOUNT, ROLE)
    aws.set_faults({"kind": "internal_failure"})
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is first


def test_instances_with_other_keys_share_nothing(aws: Aws) -> None:
    """Not even with the same key id: who has not its secret does not get the credentials."""
    own = {"access_key": aws.access_key_id, "secret_key": aws.secret_access_key}
    by_settings = proxy_for(ROLE, user="keys", aws=own).get_aws_credentials(ACCOUNT, ROLE)
    by_environment = proxy_for(ROLE, user="keys").get_aws_credentials(ACCOUNT, ROLE)
    wrong = proxy_for(ROLE, user="keys", aws=own | {"secret_key": "guessed"})
    with pytest.raises(AWSError):
        wrong.get_aws_credentials(ACCOUNT, ROLE)
    again = proxy_for(ROLE, user="keys", aws=own).get_aws_credentials(ACCOUNT, ROLE)
    assert by_settings is again
    assert by_settings.access_key != by_environment.access_key
    assert [call.outcome for call in aws.calls()] == ["ok", "ok", "SignatureDoesNotMatch"]


def test_another_endpoint_shares_nothing(aws: Aws) -> None:
    """Neither by a setting nor by the environment, and no trouble of the one is the other's."""
    with running_little_sts() as other:
        first = proxy_for(ROLE, user="ends").get_aws_credentials(ACCOUNT, ROLE)
        elsewhere = proxy_for(ROLE, user="ends", aws={"sts_endpoint": other.url})
        other.refuse(500, "InternalFailure")
        with pytest.raises(AWSError):
            elsewhere.get_aws_credentials(ACCOUNT, ROLE)
        other.accept()
        second = elsewhere.get_aws_credentials(ACCOUNT, ROLE, fresh=True)
        assert second.access_key != first.access_key
        assert proxy_for(ROLE, user="ends").get_aws_credentials(ACCOUNT, ROLE) is first
    assert len(aws.calls()) == 1


def test_the_environment_counts_as_it_is_when_it_is_used(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that was made before asks where the environment says now."""
    proxy = proxy_for(ROLE, user="env")
    with running_little_sts() as other:
        first = proxy.get_aws_credentials(ACCOUNT, ROLE)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", other.url)
        assert proxy.get_aws_credentials(ACCOUNT, ROLE).access_key != first.access_key
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
        assert proxy.get_aws_credentials(ACCOUNT, ROLE) is first


def test_a_key_that_was_changed_in_its_file(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one signs from then on, and brings credentials of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    proxy = proxy_for(ROLE, user="file")
    with pytest.raises(AWSError, match="NoCredentialsError"):
        proxy.get_aws_credentials(ACCOUNT, ROLE)
    keys = f"aws_access_key_id={aws.access_key_id}\naws_secret_access_key={aws.secret_access_key}\n"
    file.write_text(f"[default]\n{keys}")
    assert proxy.get_aws_credentials(ACCOUNT, ROLE).access_key
    file.write_text(f"[default]\n{keys}".replace(aws.secret_access_key, "x" * 40))
    with pytest.raises(AWSError) as caught:
        proxy_for(ROLE, user="file").get_aws_credentials(ACCOUNT, ROLE)
    assert caught.value.is_own_key


def test_a_hanging_endpoint_holds_nobody_else_up(aws: Aws) -> None:
    """Whoever asks another one is answered meanwhile."""
    with running_little_sts() as other:
        other.hold()
        slow = proxy_for(ROLE, user="slow", aws={"sts_endpoint": other.url})
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(slow.get_aws_credentials, ACCOUNT, ROLE)
            proxy_for(ROLE, user="quick").get_aws_credentials(ACCOUNT, ROLE)
            assert not waiting.done()
            other.release()
            assert waiting.result(30).account_id == ACCOUNTS[ACCOUNT]["id"]
    assert len(aws.calls()) == 1


def _in_a_child(work: Callable[[], None]) -> int:
    """Return the exit status of a forked child that does `work`: 1 after an exception, -14 when it hangs."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        # Where it hangs is in the test's captured output; 2 is stderr, whatever sys.stderr is in pytest.
        faulthandler.register(signal.SIGALRM, file=2, chain=True)
        signal.alarm(_FORK_SECONDS)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  a child must not come back into pytest
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_works_and_so_does_its_parent(aws: Aws) -> None:
    """With an instance of its parent's and with one of its own; the child's child as well."""
    proxy = proxy_for(ROLE, user="fork")
    held = proxy.get_aws_credentials(ACCOUNT, ROLE)

    def work() -> None:
        mine = proxy.get_aws_credentials(ACCOUNT, ROLE)
        assert mine.access_key != held.access_key
        assert proxy_for(ROLE, user="fork").get_aws_credentials(ACCOUNT, ROLE) is mine
        assert proxy.get_account_and_role_dict()
        assert _in_a_child(lambda: (proxy.get_aws_credentials(ACCOUNT, ROLE), None)[1]) == 0

    assert _in_a_child(work) == 0
    assert proxy.get_aws_credentials(ACCOUNT, ROLE) is held
    assert len(aws.calls()) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_it_all(aws: Aws) -> None:
    """While other threads make instances, ask and wait: no lock is left held in the child."""
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            proxy_for(ROLE, user=f"busy{number}").get_aws_credentials(ACCOUNT, ROLE, fresh=True)

    with ThreadPoolExecutor(4) as threads:
        busy = [threads.submit(ask, number) for number in range(4)]
        try:
            children = [
                _in_a_child(lambda: (proxy_for(ROLE).get_aws_credentials(ACCOUNT, ROLE), None)[1])
                for _ in range(5)
            ]
        finally:
            stop.set()
        for one in busy:
            one.result(30)
    assert children == [0] * 5
    assert aws.calls()


def test_engines_are_bounded() -> None:
    """What nobody uses any more is dropped, what somebody uses is not, however many come after it."""
    current = engine.current_engine()
    settings = proxy_for("r")._settings.sts
    used = current.workshop(settings, b"used")
    for number in range(engine.MOST_WORKSHOPS * 2):
        current.workshop(settings, str(number).encode())
    assert current.workshop(settings, b"used") is used
    gc.collect()
    assert len(current._in_use) <= engine.MOST_WORKSHOPS + 1


def _run(
    script: str, tmp_path: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "program.py"
    file.write_text(script)
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(file), *arguments],
        cwd=REPOSITORY,
        env=bare_environment({"PYTHONPATH": str(REPOSITORY), **environment}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENDS = """
import threading
from tests.library.site import proxy_for
threading.Thread(target=proxy_for(class_name="Hanging").get_account_and_role_dict, daemon=True).start()
held = proxy_for("r", aws={"sts_endpoint": SILENT, "access_key": "AKIA", "secret_key": "s"})
threading.Thread(target=held.get_aws_credentials, args=("main", "r"), daemon=True).start()
import time
time.sleep(2)
print("done", flush=True)
"""


def test_a_program_ends_though_a_provider_and_sts_hang(tmp_path: Path) -> None:
    """At once, with status 0 and nothing on stderr, also in Python's development mode."""
    with running_little_sts() as silent:
        silent.hold()
        outcome = _run(ENDS.replace("SILENT", repr(silent.url)), tmp_path)
        calls: list[dict[str, Any]] = silent.calls
    # On a busy machine asyncio's debug mode says there how long a step took; that is no matter of ours.
    said = [line for line in outcome.stderr.splitlines() if not line.startswith("Executing <")]
    assert (outcome.returncode, outcome.stdout, said) == (0, "done\n", [])
    assert len(calls) == 1


INTERRUPTED = """
from tests.library.site import proxy_for
proxy = proxy_for("r", aws={"sts_endpoint": SILENT, "access_key": "AKIA", "secret_key": "s"})
try:
    proxy.get_aws_credentials("main", "r")
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(input(), flush=True)
print(proxy.get_aws_credentials("main", "r").account_id)
"""


def test_an_interrupted_wait_breaks_nothing(tmp_path: Path) -> None:
    """Ctrl-C comes back at once; STS's answer is kept for the next who asks."""
    with running_little_sts() as sts:
        sts.hold()
        file = tmp_path / "program.py"
        file.write_text(INTERRUPTED.replace("SILENT", repr(sts.url)))
        program = subprocess.Popen(
            [sys.executable, str(file)],
            cwd=REPOSITORY,
            env=bare_environment({"PYTHONPATH": str(REPOSITORY)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            asyncio.run(wait_until(lambda: bool(sts.calls), "a call of STS"))
            program.send_signal(signal.SIGINT)
            assert program.stdout is not None
            assert program.stdout.readline() == "interrupted\n"
            sts.release()
            out, _ = program.communicate("go on\n", 60)
        finally:
            program.kill()
            program.wait(10)
        assert out == "go on\n000123456789\n"
        assert len(sts.calls) == 1
