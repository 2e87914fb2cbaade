"""From the settings of AWS to the values that its parts take: the daemon and the library need the same."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from imds_proxy.console import ConsoleSettings
from imds_proxy.role_sessions import RoleSessions
from imds_proxy.sts_settings import StsSettings
from imds_proxy.verdict import Denied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from imds_proxy.config import AWSSettings
    from imds_proxy.model import IPAddress
    from imds_proxy.sts import Sts


def sts_settings(aws: AWSSettings, secret_key: SecretStr | None) -> StsSettings:
    """Return where STS is and whose key signs; `secret_key` is from the settings or from a file."""
    return StsSettings(
        region=aws.region,
        access_key=aws.access_key,
        secret_key=secret_key.get_secret_value() if secret_key else None,
        profile=aws.profile,
        sts_endpoint=aws.sts_endpoint,
        https_proxy=aws.https_proxy,
        ca_bundle=aws.ca_bundle,
        use_instance_metadata=aws.use_instance_metadata,
    )


def console_settings(aws: AWSSettings) -> ConsoleSettings:
    """Return where the console is and how it is reached."""
    return ConsoleSettings(
        partition=aws.partition,
        signin_endpoint=aws.signin_endpoint,
        console_endpoint=aws.console_endpoint,
        duration=aws.console_duration,
        https_proxy=aws.https_proxy,
        ca_bundle=aws.ca_bundle,
    )


def role_sessions(aws: AWSSettings, sts: Sts) -> RoleSessions:
    """Return what all role sessions have in common that `sts` is asked for."""
    return RoleSessions(
        signer=sts.signer,
        endpoint=sts.endpoint,
        partition=aws.partition,
        duration=int(aws.session_duration),
        is_shared=aws.session == "shared",
        gateway=socket.gethostname(),
    )


def denied(deny: Iterable[IPAddress | str]) -> Denied:
    """Return what `deny:` cuts off."""
    listed = tuple(deny)
    return Denied(
        addresses=frozenset(one for one in listed if isinstance(one, IPv4Address | IPv6Address)),
        names=frozenset(one for one in listed if isinstance(one, str)),
    )
