"""Where the console of a partition is, and where its sign-in tokens come from."""

from __future__ import annotations

import pytest

from imds_proxy.console import ConsoleSettings
from imds_proxy.errors import ConfigurationError

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
