"""Console URLs: a token for keys that STS gave, and a URL with nothing else in it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from imds_proxy import AWSError
from tests.library.site import ACCOUNT, ACCOUNT_ID, proxy_for
from tests.standins.certificates import make_certificate
from tests.standins.sign_in import running_sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy import AWSFederationProxy
    from tests.standins.aws_process import Aws
    from tests.standins.sign_in import SignIn

ROLE = "console-role"
CALLBACK = "https://portal.example/?next=a b&c=ü"


@pytest.fixture(autouse=True)
def role(aws: Aws) -> None:
    """A role that everybody here asks for."""
    aws.add_roles(ROLE)


def _url(proxy: AWSFederationProxy, callback: str = CALLBACK) -> str:
    return proxy.get_console_url(proxy.get_aws_credentials(ACCOUNT, ROLE), callback)


def test_a_url_logs_in(sign_in: SignIn) -> None:
    """Issuer is the callback, Destination the partition's console, the token the one that was given."""
    url = urlsplit(_url(proxy_for(ROLE)))
    [request] = sign_in.requests
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{sign_in.url}/federation"
    assert parse_qs(url.query, strict_parsing=True) == {
        "Action": ["login"],
        "Issuer": [CALLBACK],
        "Destination": ["https://console.aws.amazon.com/"],
        "SigninToken": [request.token],
    }
    assert request.session_arn == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE}/alice"
    assert request.duration is None


def test_endpoints_of_the_settings(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go before the environment's; a slash at the end, or the whole path, is fine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:9")
    for endpoint in (sign_in.url, f"{sign_in.url}/", f"{sign_in.url}/federation"):
        aws = {"signin_endpoint": endpoint, "console_endpoint": "https://console.example/home"}
        url = urlsplit(_url(proxy_for(ROLE, aws=aws)))
        assert url.path == "/federation"
        assert parse_qs(url.query)["Destination"] == ["https://console.example/home"]


def test_without_a_callback_there_is_no_issuer(sign_in: SignIn) -> None:
    """An empty one is left out."""
    assert "Issuer" not in parse_qs(urlsplit(_url(proxy_for(ROLE), "")).query, keep_blank_values=True)
    assert len(sign_in.tokens) == 1


def test_a_duration_is_sent_for_a_users_key(sign_in: SignIn) -> None:
    """As seconds, when it is set."""
    _url(proxy_for(ROLE, aws={"console_duration": "2h"}))
    assert [request.duration for request in sign_in.requests] == [7200]


def test_a_duration_is_not_sent_for_a_roles_key(
    aws: Aws, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS would refuse it: where our own key is a role's, it is left out."""
    own = "console-own"
    aws.add_roles(own)
    credentials = proxy_for(ROLE).get_aws_credentials(ACCOUNT, ROLE)
    key = proxy_for(own).get_aws_credentials(ACCOUNT, own)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", key.session_token)
    proxy_for(ROLE, aws={"console_duration": "2h"}).get_console_url(credentials, CALLBACK)
    [request] = sign_in.requests
    assert request.duration is None
    assert request.token is not None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b""),
        (500, b"oops"),
        (302, b""),
        (307, b""),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, rb'{"SigninToken": "\ud800"}'),
        (200, b'{"SigninToken": ""}'),
        (200, b'{"SigninToken": 7}'),
        (200, b'{"Other": "x"}'),
        (200, b'{"SigninToken": "' + b"x" * 100_000 + b'"}'),
    ],
)
def test_an_endpoint_that_gives_no_token(sign_in: SignIn, status: int, body: bytes) -> None:
    """AWSError; no redirect is followed, no key is in the message or in what caused it."""
    proxy = proxy_for(ROLE)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    sign_in.answer_with(status, body)
    with pytest.raises(AWSError) as caught:
        proxy.get_console_url(credentials, CALLBACK)
    assert sign_in.strayed == []
    error: BaseException | None = caught.value
    assert error is not None
    assert error.__cause__ is None
    assert credentials.secret_key not in str(error)
    sign_in.behave()
    assert proxy.get_console_url(credentials, CALLBACK)


def test_an_endpoint_that_is_not_there(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWSError that names the host and not the keys; credentials still come."""
    del aws
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:9")
    proxy = proxy_for(ROLE)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    with pytest.raises(AWSError, match=r"127\.0\.0\.1") as caught:
        proxy.get_console_url(credentials, CALLBACK)
    assert caught.value.code == "SignIn"


@pytest.mark.patient
def test_an_endpoint_that_is_silent(sign_in: SignIn) -> None:
    """AWSError after the time for a step; also where it goes on dripping bytes, after the time for all."""
    proxy = proxy_for(ROLE)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    sign_in.drip()
    with pytest.raises(AWSError, match="in time"):
        proxy.get_console_url(credentials, CALLBACK)
    sign_in.hold()
    with pytest.raises(AWSError, match="timed out"):
        proxy.get_console_url(credentials, CALLBACK)
    sign_in.behave()
    assert proxy.get_console_url(credentials, CALLBACK)


def test_an_endpoint_behind_a_certificate_of_the_sites_own(aws: Aws, tmp_path: Path) -> None:
    """Is believed with the bundle, and only with it: whoever is in between would get the keys."""
    certificate = make_certificate(tmp_path)
    proxy = proxy_for(ROLE)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    with running_sign_in(aws, certificate.pem) as sign_in:
        settings = {"signin_endpoint": sign_in.url}
        with pytest.raises(AWSError, match="certificate"):
            proxy_for(ROLE, aws=settings).get_console_url(credentials, CALLBACK)
        assert sign_in.requests == []
        trusting = proxy_for(ROLE, aws={**settings, "ca_bundle": certificate.authority})
        assert trusting.get_console_url(credentials, CALLBACK).startswith(sign_in.url)


def test_a_proxy_on_the_way(sign_in: SignIn) -> None:
    """Is what the settings name: nothing is asked past it."""
    credentials = proxy_for(ROLE).get_aws_credentials(ACCOUNT, ROLE)
    with pytest.raises(AWSError, match="can't be reached"):
        proxy_for(ROLE, aws={"https_proxy": "http://127.0.0.1:9"}).get_console_url(credentials, CALLBACK)
    assert sign_in.requests == []


def test_an_unknown_partition_needs_its_endpoints(aws: Aws, sign_in: SignIn) -> None:
    """Its role's ARN is right, and the console's place is a setting that is asked for by name."""
    del aws
    proxy = proxy_for(ROLE)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    elsewhere = proxy_for(ROLE, aws={"partition": "aws-iso"})
    with pytest.raises(Exception, match="console_endpoint: is required in the partition aws-iso"):
        elsewhere.get_console_url(credentials, CALLBACK)
    assert sign_in.tokens == []
