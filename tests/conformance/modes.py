"""The ways in which a client finds the daemon, and what is set for each."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """A column of the table; the value is its id."""

    NAMESPACE = "namespace"
    """A machine that reaches 169.254.169.254, with nothing set but a region."""
    NAMESPACE_NO_REGION = "namespace-noregion"
    """The same, without a region: the client asks for it or needs none."""
    ENDPOINT = "endpoint"
    """Another address, by AWS_EC2_METADATA_SERVICE_ENDPOINT or the client's own way."""
    IPV6 = "ipv6"
    """A machine that reaches [fd00:ec2::254] and no IPv4 metadata address."""
    CONTAINER_TOKEN = "container-token"
    """Container credentials by full URI, the token in the environment."""
    CONTAINER_TOKEN_FILE = "container-token-file"
    """Container credentials by full URI, the token in a file."""
    CONTAINER_RELATIVE = "container-relative"
    """Container credentials by relative URI: a machine that reaches 169.254.170.2."""
    V1 = "v1"
    """169.254.169.254 with `imds_v1: true`, for a client that asks without a token."""


WHAT_TO_SET = {
    Mode.NAMESPACE: "nothing",
    Mode.NAMESPACE_NO_REGION: "nothing, not even a region",
    Mode.ENDPOINT: "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    Mode.IPV6: "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6",
    Mode.CONTAINER_TOKEN: "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN",
    Mode.CONTAINER_TOKEN_FILE: "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    Mode.CONTAINER_RELATIVE: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN",
    Mode.V1: "nothing; in the daemon `imds_v1: true`",
}
"""What somebody has to set who uses a client in a mode, unless the client says otherwise.

In all modes but NAMESPACE_NO_REGION there are also AWS_REGION and AWS_DEFAULT_REGION: most clients read one.
"""
