"""Groups of an LDAP directory."""

from imds_proxy_providers.ldap import Provider

__all__ = ["Provider"]
