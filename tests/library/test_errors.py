"""Every kind of no and of trouble is an error of its own, and says what is needed to mend it."""

from __future__ import annotations

import builtins
import copy
import itertools
import pickle
from typing import TYPE_CHECKING

import pytest

import imds_proxy
from imds_proxy import (
    AWSError,
    AWSFederationProxy,
    ConfigurationError,
    FederationError,
    PermissionError,  # noqa: A004
    ProviderError,
)
from imds_proxy.errors import Fault, OverloadError, Refusal, ResolutionError, Trouble
from tests.library.site import ACCOUNT, ACCOUNTS, proxy_for

if TYPE_CHECKING:
    from tests.standins.aws_process import Aws
    from tests.standins.sign_in import SignIn

ROLE = "error-role"
_numbers = itertools.count()


@pytest.fixture
def proxy(aws: Aws) -> AWSFederationProxy:
    """Somebody who may have a role that AWS has, each time somebody else: nothing is held for them."""
    aws.add_roles(ROLE)
    return proxy_for(ROLE, user=f"user{next(_numbers)}")


def test_the_tree() -> None:
    """One base; PermissionError is the builtin as well; the rest is no answer."""
    assert imds_proxy.PermissionError is Refusal
    assert issubclass(PermissionError, builtins.PermissionError)
    for kind in (ConfigurationError, PermissionError, AWSError, ProviderError):
        assert issubclass(kind, FederationError)
    assert not issubclass(PermissionError, Trouble)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError([Fault("a.yaml:3", "aws.region", "no region")]),
        Refusal("no", request_id="r"),
        AWSError("failed", code="Throttling", request_id="r", is_own_key=True),
        ProviderError("failed"),
        ResolutionError("failed"),
        OverloadError("full"),
    ],
)
def test_errors_can_be_copied_and_sent_to_another_process(error: FederationError) -> None:
    """With all that they have: a pool of processes hands its workers' errors on."""
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_a_role_that_aws_denies(proxy: AWSFederationProxy, aws: Aws) -> None:
    """PermissionError with AWS's request id; it is believed for a moment."""
    aws.remove_role(ROLE, "000123456789")
    for _ in range(3):
        with pytest.raises(PermissionError, match="AccessDenied") as caught:
            proxy.get_aws_credentials(ACCOUNT, ROLE)
        assert isinstance(caught.value, builtins.PermissionError)
    assert [call.outcome for call in aws.calls()] == ["AccessDenied"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttling", "Throttling"),
        ("internal_failure", "InternalFailure"),
        ("unavailable", "ServiceUnavailable"),
        ("expired_token", "ExpiredToken"),
        ("invalid_client_token", "InvalidClientTokenId"),
        ("signature_mismatch", "SignatureDoesNotMatch"),
        ("malformed", "MalformedAnswer"),
        ("reset", None),
    ],
)
def test_trouble_with_aws(proxy: AWSFederationProxy, aws: Aws, kind: str, code: str | None) -> None:
    """AWSError with AWS's code, never PermissionError, our own refused key included."""
    aws.set_faults({"kind": kind})
    with pytest.raises(AWSError) as caught:
        proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert not isinstance(caught.value, builtins.PermissionError)
    assert caught.value.code == code or (code is None and caught.value.code)


def test_an_own_key_that_nobody_has(proxy: AWSFederationProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWSError that says so."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AWSError) as caught:
        proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert (caught.value.code, caught.value.request_id) == ("NoCredentialsError", None)
    assert caught.value.is_own_key


def test_an_endpoint_that_is_not_there(proxy: AWSFederationProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWSError with the name of botocore's exception."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(AWSError) as caught:
        proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert caught.value.code == "EndpointConnectionError"


def test_aws_says_who_it_answered(proxy: AWSFederationProxy, aws: Aws) -> None:
    """Its request id is in the error."""
    aws.set_faults({"kind": "throttling"})
    with pytest.raises(AWSError) as caught:
        proxy.get_aws_credentials(ACCOUNT, ROLE)
    assert caught.value.request_id


def test_a_provider_that_fails(aws: Aws, sign_in: SignIn) -> None:
    """ProviderError, with what it raised as the cause; nobody upstream is asked."""
    proxy = proxy_for(class_name="Broken")
    for ask in (
        proxy.get_account_and_role_dict,
        lambda: proxy.check_user_permissions(ACCOUNT, ROLE),
        lambda: proxy.get_aws_credentials(ACCOUNT, ROLE),
    ):
        with pytest.raises(ProviderError, match="the directory is down") as caught:
            ask()
        assert isinstance(caught.value.__cause__, LookupError)
    assert aws.counts() == {}
    assert sign_in.requests == []


def test_a_provider_that_hangs(aws: Aws) -> None:
    """ProviderError after its time; a time-out is the cause."""
    proxy = proxy_for(class_name="Hanging")
    with pytest.raises(ProviderError, match="5 s") as caught:
        proxy.get_account_and_role_dict()
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert aws.counts() == {}


def test_a_provider_that_exits(aws: Aws) -> None:
    """ProviderError; the program goes on, and so do other instances."""
    with pytest.raises(ProviderError) as caught:
        proxy_for(class_name="Exiting").get_account_and_role_dict()
    assert isinstance(caught.value.__cause__, SystemExit)
    assert proxy_for("r1").get_account_and_role_dict()
    assert aws.counts() == {}


def test_an_account_without_an_id(aws: Aws) -> None:
    """Only whoever is granted a role there learns of it: ConfigurationError with the account's name."""
    nowhere: list[dict[str, object]] = [{}, {ACCOUNT: {}}, {ACCOUNT: None}, {ACCOUNT: {"path": "/people/"}}]
    for accounts in nowhere:
        proxy = proxy_for("r1", accounts=accounts)
        assert proxy.get_account_and_role_dict()
        proxy.check_user_permissions(ACCOUNT, "r1")
        with pytest.raises(ConfigurationError, match=rf"\b{ACCOUNT}\b"):
            proxy.get_aws_credentials(ACCOUNT, "r1")
        with pytest.raises(PermissionError):
            proxy.get_aws_credentials(ACCOUNT, "r2")
    assert aws.counts() == {}


def test_a_role_that_iam_can_not_have(aws: Aws) -> None:
    """Refused here: a slash would lead to another path, a colon into another ARN."""
    for role in ("a/b", "a:b", "ä", "x" * 65, "a b"):
        with pytest.raises(PermissionError):
            proxy_for(role).get_aws_credentials(ACCOUNT, role)
    assert aws.counts() == {}


def test_a_class_that_can_not_be_made() -> None:
    """Seen when the instance is made, as in the old program, with the class and what it raised."""
    with pytest.raises(ConfigurationError, match=r"site\.Unmakable.*no directory is set"):
        proxy_for(class_name="Unmakable")


@pytest.mark.parametrize("user", ["fe80::5", "fe80::5%eth0"])
def test_a_link_local_machine(user: str) -> None:
    """It is one machine on each link: it has no answer, with the scope or without."""
    with pytest.raises(ConfigurationError, match=r"user: fe80::5.* is link-local"):
        AWSFederationProxy(user, {"type": "simple", "grants": []}, ACCOUNTS)


@pytest.mark.parametrize("user", ["", None, b"alice", 7])
def test_nobody(user: object) -> None:
    """There is no answer for no user."""
    with pytest.raises(ConfigurationError, match="user"):
        AWSFederationProxy(user, {"type": "simple", "grants": []}, ACCOUNTS)  # type: ignore[arg-type]  # on purpose
