"""AWS role credentials for machines that are not on EC2, and for people. What a program may import is here.

Everything is imported at first use: the commands need none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.base_provider import BaseProvider
    from imds_proxy.errors import AWSError, ConfigurationError, FederationError, ProviderError
    from imds_proxy.errors import Refusal as PermissionError  # noqa: A004  it is one
    from imds_proxy.federation_proxy import AWSFederationProxy
    from imds_proxy.model import Credentials, Grant
    from imds_proxy.provider import Provider, ProviderSettings

__version__ = "0.1.0"

__all__ = [
    "AWSError",
    "AWSFederationProxy",
    "BaseProvider",
    "ConfigurationError",
    "Credentials",
    "FederationError",
    "Grant",
    "PermissionError",
    "Provider",
    "ProviderError",
    "ProviderSettings",
    "__version__",
]

_HOMES = {
    "AWSError": "errors.AWSError",
    "AWSFederationProxy": "federation_proxy.AWSFederationProxy",
    "BaseProvider": "base_provider.BaseProvider",
    "ConfigurationError": "errors.ConfigurationError",
    "Credentials": "model.Credentials",
    "FederationError": "errors.FederationError",
    "Grant": "model.Grant",
    "PermissionError": "errors.Refusal",
    "Provider": "provider.Provider",
    "ProviderError": "errors.ProviderError",
    "ProviderSettings": "provider.ProviderSettings",
}


if not TYPE_CHECKING:  # to a type checker every name would be there

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = _HOMES[name].partition(".")
        found = getattr(import_module(f"{__name__}.{module}"), attribute)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
