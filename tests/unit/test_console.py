"""Where the console of a partition is, and where its sign-in tokens come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy.console import Console, ConsoleSettings
from imds_proxy.errors import ConfigurationError
from imds_proxy.model import Credentials
from tests.standins.certificates import make_certificate
from tests.standins.little_sign_in import running_little_sign_in

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = {"AWS_ENDPOINT_URL_SIGNIN": "https://signin.example"}


@pytest.mark.parametrize(
    ("partition", "endpoint", "destination"),
    [
        ("aws", "https://signin.aws.amazon.com/federation", "https://console.aws.amazon.com/"),
        ("aws-cn", "https://signin.amazonaws.cn/federation", "https://console.amazonaws.cn/"),
        (
            "aws-us-gov",
            "https://signin.amazonaws-us-gov.com/federation",
            "https://console.amazonaws-us-gov.com/",
        ),
    ],
)
def test_every_partition_has_its_own(partition: str, endpoint: str, destination: str) -> None:
    """Keys of one are never sent to another's endpoint."""
    settings = ConsoleSettings(partition)
    assert settings.endpoint({}) == endpoint
    assert settings.destination() == destination


def test_settings_go_before_the_environment() -> None:
    """And that before the partition's."""
    assert ConsoleSettings("aws").endpoint(VARIABLE) == "https://signin.example/federation"
    settings = ConsoleSettings("aws", signin_endpoint="https://other.example", console_endpoint="https://c/")
    assert settings.endpoint(VARIABLE) == "https://other.example/federation"
    assert settings.destination() == "https://c/"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://signin.example", "signin.example", "/federation", "http://[x", "http:///x"],
)
def test_an_environment_that_names_no_url(url: str) -> None:
    """Nothing but http and https is opened."""
    with pytest.raises(ConfigurationError, match="is not a URL of http or https"):
        ConsoleSettings("aws").endpoint({"AWS_ENDPOINT_URL_SIGNIN": url})


def test_a_partition_that_nobody_knows() -> None:
    """Its endpoints have to be set: no guess sends keys anywhere."""
    settings = ConsoleSettings("aws-iso")
    with pytest.raises(ConfigurationError, match="signin_endpoint: is required in the partition aws-iso"):
        settings.endpoint({})
    with pytest.raises(ConfigurationError, match="console_endpoint: is required in the partition aws-iso"):
        settings.destination()
    assert settings.endpoint(VARIABLE) == "https://signin.example/federation"


def test_authorities_are_read_once(tmp_path: Path) -> None:
    """Not for every person who asks: it takes much longer than anything else here."""
    bundle = make_certificate(tmp_path).authority
    credentials = Credentials("ASIAEXAMPLE", "secret", "token", expiry=2e9, received=1e9, account_id="0" * 12)
    with running_little_sign_in() as sign_in:
        settings = ConsoleSettings("aws", signin_endpoint=sign_in.url, ca_bundle=bundle)
        console = Console(settings, {})
        assert console.url(credentials, "", duration=None)
        bundle.unlink()
        assert console.url(credentials, "", duration=None)
    assert len(sign_in.paths) == 2
