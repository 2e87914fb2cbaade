"""The AWS stand-in as boto3 sees it: signatures, roles, faults, records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tests.standins.aws_process import Aws, running_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE_ARN = "arn:aws:iam::000123456789:role/demo"
ONE_TRY = Config(retries={"total_max_attempts": 1}, read_timeout=2, s3={"addressing_style": "path"})


@pytest.fixture(scope="module")
def aws_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """AWS, shared by the tests of this module."""
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        aws.add_roles("demo", "other")
        aws.add_roles("far", account="210987654321", external_id="far/id", max_session_duration=7200)
        yield aws


@pytest.fixture
def aws(aws_process: Aws) -> Aws:
    """AWS with no calls counted and no faults on."""
    aws_process.reset()
    return aws_process


def client(aws: Aws, service: str, keys: dict[str, str] | None = None, secret: str | None = None) -> Any:
    """Return a boto3 client with the gateway's key, or with keys that AssumeRole gave."""
    keys = keys or {"AccessKeyId": aws.access_key_id, "SecretAccessKey": aws.secret_access_key}
    session: Any = boto3.session.Session(
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=secret or keys["SecretAccessKey"],
        aws_session_token=keys.get("SessionToken"),
        region_name="eu-central-1",
    )
    return session.client(service, endpoint_url=aws.url, config=ONE_TRY)


def assume(aws: Aws, role_arn: str = ROLE_ARN, **more: object) -> dict[str, Any]:
    """Return the credentials of a role."""
    answer = client(aws, "sts").assume_role(RoleArn=role_arn, RoleSessionName="host.example", **more)
    credentials: dict[str, Any] = answer["Credentials"]
    return credentials


def error_code(error: pytest.ExceptionInfo[ClientError]) -> str:
    """Return AWS's code of an error."""
    return str(error.value.response["Error"]["Code"])


def test_session_reads_its_own_folder_only(aws: Aws) -> None:
    """Credentials are the role session's, open the role's object and no other role's."""
    keys = assume(aws)
    arn = client(aws, "sts", keys).get_caller_identity()["Arn"]
    assert arn == "arn:aws:sts::000123456789:assumed-role/demo/host.example"
    s3 = client(aws, "s3", keys)
    read = s3.get_object(Bucket="objects-000123456789", Key="demo/hello.txt")["Body"].read()
    assert read == b"hello from 000123456789/demo"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="objects-000123456789", Key="other/hello.txt")
    assert error_code(error) == "AccessDenied"


def test_role_of_another_account_wants_its_external_id(aws: Aws) -> None:
    """moto looks at trust policies within one account only; the front looks at all of them."""
    far = "arn:aws:iam::210987654321:role/far"
    with pytest.raises(ClientError) as error:
        assume(aws, far)
    assert error_code(error) == "AccessDenied"
    keys = assume(aws, far, ExternalId="far/id", DurationSeconds=7200)
    assert client(aws, "sts", keys).get_caller_identity()["Account"] == "210987654321"
    assert [call.outcome for call in aws.calls()] == ["AccessDenied", "ok"]


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("sts", "get_caller_identity", {}),
        ("s3", "get_object", {"Bucket": "objects-000123456789", "Key": "demo/hello.txt"}),
    ],
)
def test_wrong_signature_is_refused(
    service: str, operation: str, parameters: dict[str, str], aws: Aws
) -> None:
    """A request that another secret signed is refused by every service."""
    forged = client(aws, service, assume(aws), secret="x" * 40)
    with pytest.raises(ClientError) as error:
        getattr(forged, operation)(**parameters)
    assert error_code(error) == "SignatureDoesNotMatch"


def test_forged_assume_role_is_refused(aws: Aws) -> None:
    """AssumeRole wants the gateway's own secret, and a key that somebody was given."""
    for keys, code in (
        ({"AccessKeyId": aws.access_key_id, "SecretAccessKey": "x" * 40}, "SignatureDoesNotMatch"),
        ({"AccessKeyId": "AKIAAAAAAAAAAAAAAAAA", "SecretAccessKey": "x" * 40}, "InvalidClientTokenId"),
    ):
        with pytest.raises(ClientError) as error:
            client(aws, "sts", keys).assume_role(RoleArn=ROLE_ARN, RoleSessionName="host.example")
        assert error_code(error) == code
    assert [call.outcome for call in aws.calls()] == ["SignatureDoesNotMatch", "InvalidClientTokenId"]


def test_missing_role_is_refused(aws: Aws) -> None:
    """moto would hand out keys; and iam:GetRole tells what AssumeRole does not."""
    with pytest.raises(ClientError) as error:
        assume(aws, "arn:aws:iam::000123456789:role/nobody")
    assert error_code(error) == "AccessDenied"
    iam = client(aws, "iam")
    assert iam.get_role(RoleName="demo")["Role"]["Arn"] == ROLE_ARN
    with pytest.raises(ClientError) as error:
        iam.get_role(RoleName="nobody")
    assert error_code(error) == "NoSuchEntity"


def test_role_is_replaced_and_taken_away(aws: Aws) -> None:
    """A role that is added again is the new one alone; one that is taken away is missing."""
    arn = "arn:aws:iam::000123456789:role/changing"
    aws.add_roles("changing", external_id="first")
    assert aws.add_roles("changing") == [arn]
    assume(aws, arn)
    aws.remove_role("changing", "000123456789")
    with pytest.raises(ClientError) as error:
        assume(aws, arn)
    assert error_code(error) == "AccessDenied"


def test_calls_are_recorded_with_all_that_shapes_them(aws: Aws) -> None:
    """What was asked, by whom and what came of it can be read and forgotten."""
    policy = '{"Version": "2012-10-17", "Statement": []}'
    keys = assume(aws, Tags=[{"Key": "host", "Value": "h 1"}], Policy=policy, DurationSeconds=900)
    (call,) = aws.calls()
    assert (call.signer, call.role_arn, call.session_name) == (aws.access_key_id, ROLE_ARN, "host.example")
    assert (call.duration, call.tags, call.policy, call.external_id) == (900, {"host": "h 1"}, policy, None)
    assert (call.outcome, call.access_key_id) == ("ok", keys["AccessKeyId"])
    assert aws.counts() == {"AssumeRole": 1}
    aws.reset()
    assert (aws.calls(), aws.counts()) == ([], {})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttling", "Throttling"),
        ("internal_failure", "InternalFailure"),
        ("unavailable", "ServiceUnavailable"),
        ("access_denied", "AccessDenied"),
        ("expired_token", "ExpiredToken"),
        ("invalid_client_token", "InvalidClientTokenId"),
        ("signature_mismatch", "SignatureDoesNotMatch"),
    ],
)
def test_errors_on_demand(kind: str, code: str, aws: Aws) -> None:
    """A fault that is an error shows its code, for its role and its number of times."""
    aws.set_faults({"kind": kind, "role": "demo", "times": 1})
    assume(aws, "arn:aws:iam::000123456789:role/other")
    with pytest.raises(ClientError) as error:
        assume(aws)
    assert error_code(error) == code
    assume(aws)
    assert [call.outcome for call in aws.calls()] == ["ok", kind, "ok"]


@pytest.mark.parametrize("kind", ["malformed", "reset", "hang"])
def test_broken_answers_on_demand(kind: str, aws: Aws) -> None:
    """A fault that breaks the answer is no error of AWS's to the client."""
    aws.set_faults({"kind": kind})
    with pytest.raises((BotoCoreError, ResponseParserError)):
        assume(aws)
    assert [call.outcome for call in aws.calls()] == [kind]


def test_credentials_end_at_their_time(aws: Aws) -> None:
    """Credentials with a life of their own: expired ones are refused, which moto does not do."""
    aws.set_faults({"kind": "lifetime", "seconds": -1, "times": 1}, {"kind": "delay", "seconds": 0.1})
    expired, good = assume(aws), assume(aws)
    with pytest.raises(ClientError) as error:
        client(aws, "sts", expired).get_caller_identity()
    assert error_code(error) == "ExpiredToken"
    client(aws, "sts", good).get_caller_identity()
    assert good["Expiration"] > expired["Expiration"]


def test_unknown_fault_is_an_error(aws: Aws) -> None:
    """A test that misspells its fault hears of it."""
    with pytest.raises(HTTPError, match="400"):
        aws.set_faults({"kind": "slow"})
