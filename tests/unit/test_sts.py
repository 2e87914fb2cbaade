"""sts, assume_role: what AWS is asked and what its answers mean. boto3 talks HTTP to the AWS stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import AWSError, Refusal
from imds_proxy.sts import StsThreads
from imds_proxy.sts_settings import StsSettings
from tests.standins.asking_sts import (
    MAIN,
    OTHER,
    ROLE,
    Asking,
    clear_environment,
    session_for,
    settings_for,
)
from tests.standins.aws_process import Aws, running_aws

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


@pytest.fixture
def aws(running: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", running.url)
    running.reset()
    running.add_roles(ROLE)
    return running


@pytest.fixture
def threads() -> Iterator[StsThreads]:
    made = StsThreads(threads=4)
    yield made
    made.close()


@pytest.fixture
def asking(aws: Aws, threads: StsThreads) -> Asking:
    return Asking(settings_for(aws), threads)


# --- what AWS is asked -------------------------------------------------------------------------------


async def test_credentials(asking: Asking, aws: Aws) -> None:
    """The answer's keys, end and request id are what AWS gave; the end is as far away as was asked for."""
    credentials = await asking.sts.assume(session_for())
    (call,) = aws.calls()
    assert credentials.access_key == call.access_key_id
    assert credentials.secret_key
    assert credentials.session_token
    assert credentials.account_id == MAIN
    assert credentials.request_id
    assert 3590 < credentials.expiry - credentials.received <= 3600
    assert credentials.received <= time.time()
    assert (call.signer, call.session_name, call.duration) == (
        aws.access_key_id,
        "tuvfoo42.valid.example",
        3600,
    )
    assert (call.tags, call.policy, call.external_id, call.source_identity) == ({}, None, None, None)
    assert asking.outcomes == {"success": 1}


async def test_all_that_shapes_a_session(asking: Asking, aws: Aws) -> None:
    """Tags, policy, external id, source identity and duration reach AWS as they are in the role session."""
    aws.add_roles("special", account=OTHER, external_id="ext:7", max_session_duration=43200)
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    session = session_for(
        "special",
        OTHER,
        duration=43200,
        tags=(("machine", "tuvfoo42"), ("Net", "10.0.0.5")),
        policy=policy,
        external_id="ext:7",
        source_identity="tuvfoo42.valid.example",
    )
    credentials = await asking.sts.assume(session)
    (call,) = aws.calls()
    assert call.role_arn == f"arn:aws:iam::{OTHER}:role/special"
    assert call.tags == {"machine": "tuvfoo42", "Net": "10.0.0.5"}
    assert (call.policy, call.external_id, call.duration) == (policy, "ext:7", 43200)
    assert call.source_identity == "tuvfoo42.valid.example"
    assert credentials.account_id == OTHER


async def test_no_secret_is_shown(asking: Asking) -> None:
    """Neither keys nor settings show a secret where they are printed."""
    credentials = await asking.sts.assume(session_for())
    assert credentials.secret_key not in repr(credentials)
    assert credentials.session_token not in repr(credentials)
    assert "wJalr" not in repr(StsSettings(region="r", access_key="AKIA", secret_key="wJalr"))


# --- refusals and trouble ----------------------------------------------------------------------------


async def test_no_such_role(asking: Asking) -> None:
    """AccessDenied is a refusal, with AWS's own words."""
    with pytest.raises(Refusal, match=r"^STS: AccessDenied: User: arn:aws:iam::\d+:user/gateway is not"):
        await asking.sts.assume(session_for("missing"))
    assert asking.outcomes == {"refused": 1}
    assert asking.sts.own_key_trouble is None


@pytest.mark.parametrize(
    ("kind", "code", "outcome"),
    [
        ("throttling", "Throttling", "throttled"),
        ("internal_failure", "InternalFailure", "trouble"),
        ("unavailable", "ServiceUnavailable", "trouble"),
        ("malformed", "MalformedAnswer", "trouble"),
        ("empty", "MalformedAnswer", "trouble"),
        ("reset", "ConnectionClosedError", "trouble"),
    ],
)
async def test_trouble(asking: Asking, aws: Aws, kind: str, code: str, outcome: str) -> None:
    """What is no answer to the question is trouble that names its code; our own key is not to blame."""
    aws.set_faults({"kind": kind})
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert (trouble.value.code, trouble.value.is_own_key) == (code, False)
    assert asking.outcomes == {outcome: 1}
    assert asking.sts.own_key_trouble is None


@pytest.mark.parametrize("kind", ["throttling", "unavailable", "malformed", "access_denied"])
async def test_one_request_for_one_call(asking: Asking, aws: Aws, kind: str) -> None:
    """An answer is an answer: boto3 does not ask again by itself."""
    aws.set_faults({"kind": kind})
    with pytest.raises((AWSError, Refusal)):
        await asking.sts.assume(session_for())
    assert len(aws.calls()) == 1


async def test_a_connection_that_was_closed(asking: Asking, aws: Aws) -> None:
    """A kept connection that the other side has closed meanwhile is replaced at once, one time."""
    aws.set_faults({"kind": "reset", "times": 1})
    assert (await asking.sts.assume(session_for())).access_key
    assert [call.outcome for call in aws.calls()] == ["reset", "ok"]


@pytest.mark.patient
async def test_no_answer_at_all(asking: Asking, aws: Aws) -> None:
    """An answer that does not come is given up after the read time-out, and not asked for again."""
    aws.set_faults({"kind": "hang"})
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert trouble.value.code == "ReadTimeoutError"
    assert len(aws.calls()) == 1


async def test_nobody_listens(aws: Aws, threads: StsThreads) -> None:
    """An endpoint that can't be reached is trouble."""
    asking = Asking(settings_for(aws, sts_endpoint="http://127.0.0.1:9"), threads)
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert trouble.value.code == "EndpointConnectionError"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("expired_token", "ExpiredToken"),
        ("invalid_client_token", "InvalidClientTokenId"),
        ("signature_mismatch", "SignatureDoesNotMatch"),
    ],
)
async def test_our_own_key_is_refused(asking: Asking, aws: Aws, kind: str, code: str) -> None:
    """That STS refuses our own key is trouble, not a refusal of the role; it is known until STS takes it."""
    aws.set_faults({"kind": kind})
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert (trouble.value.code, trouble.value.is_own_key) == (code, True)
    assert asking.outcomes == {"own_key_refused": 1}
    assert code in (asking.sts.own_key_trouble or "")
    aws.set_faults()
    await asking.sts.assume(session_for())
    assert asking.sts.own_key_trouble is None


async def test_a_refused_role_shows_that_our_key_is_good(asking: Asking, aws: Aws) -> None:
    """AccessDenied for a role means that STS took our own key: earlier trouble with it is over."""
    aws.set_faults({"kind": "expired_token"})
    with pytest.raises(AWSError):
        await asking.sts.assume(session_for())
    aws.set_faults()
    with pytest.raises(Refusal):
        await asking.sts.assume(session_for("missing"))
    assert asking.sts.own_key_trouble is None


async def test_a_wrong_secret(aws: Aws, threads: StsThreads) -> None:
    """A real signature with a wrong secret is our own key refused."""
    asking = Asking(settings_for(aws, secret_key="wrong"), threads)
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert trouble.value.is_own_key


async def test_the_request_id_of_an_error(asking: Asking, aws: Aws) -> None:
    """An error of STS carries AWS's request id, which its support asks for."""
    aws.set_faults({"kind": "throttling"})
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert trouble.value.request_id == "00000000-0000-4000-8000-000000000000"


async def test_a_broken_answer_goes_nowhere(asking: Asking, aws: Aws) -> None:
    """botocore puts an answer that it can't read into its exception: nothing of it goes on."""
    aws.set_faults({"kind": "malformed"})
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for())
    assert "AssumeRoleResult" not in str(trouble.value)
    assert trouble.value.__cause__ is None


# --- durations ---------------------------------------------------------------------------------------


async def test_a_duration_that_the_role_does_not_allow(asking: Asking, aws: Aws) -> None:
    """The duration is asked for once more with an hour; a warning names role and setting, once per role."""
    for _ in range(2):
        credentials = await asking.sts.assume(session_for(duration=7200))
        assert credentials.expiry - credentials.received <= 3600
    assert [call.duration for call in aws.calls()] == [7200, 3600, 7200, 3600]
    (warning,) = asking.warnings
    assert f":role/{ROLE} does not allow sessions of 7200 s" in warning
    assert "aws.session_duration" in warning
    assert asking.outcomes == {"success": 2}


async def test_a_refusal_is_no_matter_of_duration(asking: Asking, aws: Aws) -> None:
    """AccessDenied is not asked about again with another duration."""
    with pytest.raises(Refusal):
        await asking.sts.assume(session_for("missing", duration=7200))
    assert [call.duration for call in aws.calls()] == [7200]


async def test_other_validation_errors(asking: Asking, aws: Aws) -> None:
    """A ValidationError for anything else is trouble at once, without a second try."""
    with pytest.raises(AWSError) as trouble:
        await asking.sts.assume(session_for(duration=7200, session_name="not allowed"))
    assert trouble.value.code == "ValidationError"
    assert len(aws.calls()) == 1
    assert asking.warnings == [str(trouble.value)]


async def test_trouble_is_told_once(asking: Asking) -> None:
    """Trouble with STS is in the log, but not once for every caller."""
    for name in ("not allowed", "not this either", "nor this"):
        with pytest.raises(AWSError):
            await asking.sts.assume(session_for(session_name=name))
    assert len(asking.warnings) == 1


# --- why a role was refused --------------------------------------------------------------------------


async def test_diagnosis_of_a_missing_role(asking: Asking) -> None:
    """Where `iam:GetRole` is allowed, a role that does not exist is told apart ..."""
    said = await asking.sts.diagnose_refusal(session_for("missing"))
    assert said == f"there is no role missing in account {MAIN}"


async def test_diagnosis_of_a_trust_policy(asking: Asking) -> None:
    """... from one that does not trust us."""
    assert "its trust policy" in await asking.sts.diagnose_refusal(session_for())


async def test_diagnosis_in_another_account(asking: Asking) -> None:
    """`iam:GetRole` sees our own account only, and says so."""
    said = await asking.sts.diagnose_refusal(session_for("missing", OTHER))
    assert said == f"iam:GetRole sees roles of {MAIN} only, the role is in {OTHER}"


@pytest.mark.parametrize("change", [{"sts_endpoint": "http://127.0.0.1:9"}, {"secret_key": "wrong"}], ids=str)
async def test_diagnosis_in_trouble(aws: Aws, threads: StsThreads, change: dict[str, object]) -> None:
    """When AWS can't be asked the diagnosis says that it could not tell more."""
    asking = Asking(settings_for(aws, **change), threads)
    assert "could not tell more" in await asking.sts.diagnose_refusal(session_for())


# --- loading -----------------------------------------------------------------------------------------


def test_boto3_is_imported_late() -> None:
    """Importing `sts` imports no boto3: that takes a quarter of a second, and callers are waiting."""
    script = "import imds_proxy.sts, sys; sys.exit(any(m in sys.modules for m in ('boto3', 'botocore')))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


async def test_loading_ahead(asking: Asking, aws: Aws) -> None:
    """Loading imports boto3 and makes the client, and asks AWS nothing."""
    loaded = [asking.sts.is_loaded]
    await asking.sts.load()
    loaded.append(asking.sts.is_loaded)
    assert loaded == [False, True]
    assert aws.counts() == {}
