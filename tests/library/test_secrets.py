"""No secret gets into a log or a text, whatever logs at DEBUG and whatever goes wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest

from imds_proxy import AWSError, FederationError
from tests.library.site import ACCOUNT, proxy_for
from tests.standins.sts_faults import SECRET_IN_MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.aws_process import Aws
    from tests.standins.sign_in import SignIn

ROLE = "secret-role"
TALKATIVE = ("boto3", "botocore", "botocore.auth", "botocore.endpoint", "botocore.parsers", "urllib3")


@pytest.fixture
def untouched_levels() -> Iterator[None]:
    """The loggers as they are before anybody has made an instance; put back afterwards."""
    names = (*TALKATIVE, "urllib3.connectionpool")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def _forms(secret: str) -> set[str]:
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.replace("/", "\\/")}


@pytest.mark.usefixtures("untouched_levels")
def test_debug_logs_have_no_secret(
    aws: Aws, sign_in: SignIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything at DEBUG: our own key's secret and token, the role's, the sign-in token; also in errors."""
    aws.add_roles(ROLE)
    secrets = {aws.secret_access_key, SECRET_IN_MALFORMED}
    with caplog.at_level(logging.DEBUG):
        proxy = proxy_for(ROLE, user="secretive")
        credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
        url = proxy.get_console_url(credentials, "https://portal.example/")
        secrets |= {credentials.secret_key, credentials.session_token}
        secrets |= set(parse_qs(urlsplit(url).query)["SigninToken"])
        for kind in ("malformed", "throttling", "access_denied", "reset"):
            aws.set_faults({"kind": kind})
            with pytest.raises(FederationError) as caught:
                proxy.get_aws_credentials(ACCOUNT, ROLE, fresh=True)
            logging.getLogger("site").debug("%s", proxy, exc_info=caught.value)
        aws.set_faults()
        sign_in.answer_with(500, b"oops")
        with pytest.raises(AWSError) as failed:
            proxy.get_console_url(credentials, "")
        logging.getLogger("site").debug("%r", credentials, exc_info=failed.value)
        sign_in.behave()
        # Our own key as a role's: its token is sent with every request.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_key)
        monkeypatch.setenv("AWS_SESSION_TOKEN", credentials.session_token)
        with pytest.raises(Exception, match="AccessDenied"):
            proxy.get_aws_credentials(ACCOUNT, ROLE)
    text = caplog.text
    assert "may have role 'secret-role'" in text
    assert f"{sign_in.url}/federation" not in text
    assert sorted(secret for secret in secrets for form in _forms(secret) if form in text) == []


@pytest.mark.usefixtures("untouched_levels")
def test_levels_that_somebody_has_set_stay(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets the level of one of these loggers gets what it says; the others say nothing below INFO."""
    aws.add_roles(ROLE)
    logging.getLogger("botocore.parsers").setLevel(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    proxy_for(ROLE)
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    assert levels.pop("botocore.parsers") == logging.DEBUG
    assert levels.pop("urllib3") == logging.ERROR
    assert set(levels.values()) == {logging.INFO}
    with caplog.at_level(logging.DEBUG):
        credentials = proxy_for(ROLE, user="outspoken").get_aws_credentials(ACCOUNT, ROLE)
    assert credentials.secret_key in caplog.text


def test_nothing_shows_a_secret_in_its_repr(aws: Aws) -> None:
    """Neither the instance nor what it has made, nor credentials."""
    aws.add_roles(ROLE)
    own = {"access_key": aws.access_key_id, "secret_key": aws.secret_access_key}
    proxy = proxy_for(ROLE, user="repr", aws=own)
    credentials = proxy.get_aws_credentials(ACCOUNT, ROLE)
    shown = [repr(proxy), str(proxy), repr(credentials), repr(proxy._settings), repr(proxy._parts)]
    for secret in (aws.secret_access_key, credentials.secret_key, credentials.session_token):
        assert not any(secret in text for text in shown)


def test_an_error_does_not_have_a_providers_password() -> None:
    """What a site's class raises may quote its settings."""
    with pytest.raises(Exception, match="directory") as caught:
        proxy_for(class_name="Indiscreet", password="hunter2hunter2").get_account_and_role_dict()
    assert "hunter2" not in str(caught.value)
