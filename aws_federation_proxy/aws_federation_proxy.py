"""The module in which the old program had its class and its errors."""

from imds_proxy import AWSError, AWSFederationProxy, ConfigurationError, PermissionError  # noqa: A004  it is one

__all__ = ["AWSError", "AWSFederationProxy", "ConfigurationError", "PermissionError"]
