"""Roles by host name: the base of a site's own classes, and the one with the rule that came along."""

from imds_proxy_providers.by_host_name import Provider, ProviderByIP

__all__ = ["Provider", "ProviderByIP"]
