"""The bases of a site's own classes, and the samples."""

from imds_proxy_providers.by_groups import ProviderByGroups
from imds_proxy_providers.samples import (
    GroupTestProvider,
    NoAccountNoRoleProvider,
    SimpleTestProvider,
    SingleAccountSingleRoleProvider,
)

from imds_proxy import BaseProvider

__all__ = [
    "BaseProvider",
    "GroupTestProvider",
    "NoAccountNoRoleProvider",
    "ProviderByGroups",
    "SimpleTestProvider",
    "SingleAccountSingleRoleProvider",
]
