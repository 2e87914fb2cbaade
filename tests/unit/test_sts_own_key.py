"""sts, assume_role: what the AWS stand-in says to boto3 of our own key, and how far the clock is off."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from imds_proxy.sts import Sts, StsThreads
from tests.standins.asking_sts import MAIN, Asking, clear_environment, settings_for
from tests.standins.aws_process import Aws, running_aws
from tests.standins.clocks import HandClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_proxy.sts_settings import StsSettings


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


@pytest.fixture
def aws(running: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    clear_environment(monkeypatch, tmp_path)
    return running


@pytest.fixture
def threads() -> Iterator[StsThreads]:
    made = StsThreads(threads=1)
    yield made
    made.close()


def sts_ahead(settings: StsSettings, threads: StsThreads, seconds: float) -> Sts:
    """Return an Sts whose clock is ahead of this machine's, which is the stand-in's."""
    clock = HandClock(wall=time.time() + seconds).clock()
    return Sts(settings, threads, clock=clock, warn=lambda _: None, observe=lambda *_: None)


async def test_whose_key(aws: Aws, threads: StsThreads) -> None:
    """The ARN is the key's; it is no AssumeRole, and none is counted."""
    asking = Asking(settings_for(aws), threads)
    own_key = await asking.sts.own_key()
    assert (own_key.arn, own_key.trouble, own_key.is_refused) == (
        f"arn:aws:iam::{MAIN}:user/gateway",
        None,
        False,
    )
    assert asking.outcomes == {}
    assert aws.secret_access_key not in repr(own_key)


async def test_a_user_who_may_do_nothing(aws: Aws, threads: StsThreads) -> None:
    """GetCallerIdentity needs no permission."""
    nobody = aws.add_user("nobody", MAIN)
    own_key = await Asking(settings_for(nobody), threads).sts.own_key()
    assert own_key.arn == f"arn:aws:iam::{MAIN}:user/nobody"


@pytest.mark.parametrize("seconds", [300, -90, 0])
async def test_clock(seconds: float, aws: Aws, threads: StsThreads) -> None:
    """The offset is what our clock is ahead by. STS tells whole seconds, and the answer takes its time."""
    own_key = await sts_ahead(settings_for(aws), threads, seconds).own_key()
    assert own_key.clock_offset is not None
    assert seconds - 20 <= own_key.clock_offset <= seconds + 2


async def test_a_wrong_secret(aws: Aws, threads: StsThreads) -> None:
    """A refusal tells the time as well: a clock that is wrong is why most signatures are refused."""
    own_key = await sts_ahead(settings_for(aws, secret_key="wrong/secret"), threads, 300).own_key()
    assert (own_key.arn, own_key.is_refused) == (None, True)
    assert "SignatureDoesNotMatch" in str(own_key.trouble)
    assert "wrong/secret" not in repr(own_key)
    assert own_key.clock_offset is not None


async def test_no_key(aws: Aws, threads: StsThreads) -> None:
    """No key at all counts as refused: STS was not the trouble."""
    own_key = await Asking(settings_for(aws, access_key=None, secret_key=None), threads).sts.own_key()
    assert (own_key.arn, own_key.is_refused, own_key.clock_offset) == (None, True, None)


async def test_out_of_reach(aws: Aws, threads: StsThreads) -> None:
    """Nobody there is trouble with the way; a proxy's password is not told."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings = settings_for(aws, https_proxy=f"http://user:pass-word@127.0.0.1:{port}")
    own_key = await Asking(settings, threads).sts.own_key()
    assert (own_key.arn, own_key.is_refused, bool(own_key.trouble)) == (None, False, True)
    assert "pass-word" not in repr(own_key)
