"""The configuration: read, checked and typed. What others need is here, how it is made in the modules."""

from imds_proxy.config.files import parse_token_keys
from imds_proxy.config.listen import CertificateSettings, ContainerSettings, ListenSettings
from imds_proxy.config.load import DEFAULT_PATH, Configuration, Reading, default_path, read_configuration
from imds_proxy.config.network import NetworkSettings
from imds_proxy.config.people import IdentitySettings, PeopleListenSettings, PeopleSettings, TLSSettings
from imds_proxy.config.sections import CLASS_KEYS, ProviderSection, read_section
from imds_proxy.config.sections import names as provider_names
from imds_proxy.config.settings import (
    AccountSettings,
    AdminSettings,
    AuditSettings,
    AWSSettings,
    DNSSettings,
    LimitSettings,
    LogSettings,
    Settings,
    TokenSettings,
)
from imds_proxy.config.values import SocketAddress, format_duration

__all__ = [
    "CLASS_KEYS",
    "DEFAULT_PATH",
    "AWSSettings",
    "AccountSettings",
    "AdminSettings",
    "AuditSettings",
    "CertificateSettings",
    "Configuration",
    "ContainerSettings",
    "DNSSettings",
    "IdentitySettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "NetworkSettings",
    "PeopleListenSettings",
    "PeopleSettings",
    "ProviderSection",
    "Reading",
    "Settings",
    "SocketAddress",
    "TLSSettings",
    "TokenSettings",
    "default_path",
    "format_duration",
    "parse_token_keys",
    "provider_names",
    "read_configuration",
    "read_section",
]
