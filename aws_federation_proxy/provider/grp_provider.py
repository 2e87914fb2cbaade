"""Groups of the machine's own files and whatever else NSS has."""

from imds_proxy_providers.grp import Provider

__all__ = ["Provider"]
