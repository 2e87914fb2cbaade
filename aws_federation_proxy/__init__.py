"""The import names of the old AWS Federation Proxy; each leads to the object that took its place."""

from imds_proxy import AWSError, AWSFederationProxy, ConfigurationError, PermissionError  # noqa: A004  it is one

__all__ = ["AWSError", "AWSFederationProxy", "ConfigurationError", "PermissionError"]
