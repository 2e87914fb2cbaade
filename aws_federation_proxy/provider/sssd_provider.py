"""Groups by way of SSSD."""

from imds_proxy_providers.sssd import Provider

__all__ = ["Provider"]
