"""The old program's providers."""

from aws_federation_proxy.provider.base_provider import (
    BaseProvider,
    GroupTestProvider,
    ProviderByGroups,
    SimpleTestProvider,
)

__all__ = ["BaseProvider", "GroupTestProvider", "ProviderByGroups", "SimpleTestProvider"]
