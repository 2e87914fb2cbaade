"""The library's face: what a person may have in AWS, credentials, a way into the console. All calls block."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy import aws_parts, engine
from imds_proxy.caller import Identities
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.console import Console
from imds_proxy.errors import ConfigurationError, Fault, Refusal
from imds_proxy.federation import Federation
from imds_proxy.library_settings import CONFIGURATION, read_settings
from imds_proxy.model import canonical_address, is_link_local
from imds_proxy.provider import PEOPLE
from imds_proxy.registry import build_provider
from imds_proxy.resolver import DNSResolver

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from imds_proxy.caller import Person
    from imds_proxy.config import DNSSettings
    from imds_proxy.library_settings import LibrarySettings
    from imds_proxy.model import Credentials, Grant, IPAddress
    from imds_proxy.registry import AnyProvider
    from imds_proxy.resolver import AddressAnswer, PointerAnswer

_OUTSPOKEN = (
    "boto3",
    "botocore",
    "botocore.auth",
    "botocore.endpoint",
    "botocore.parsers",
    "urllib3",
    "urllib3.connectionpool",
)
"""At DEBUG these write whole answers of STS, keys included, what is signed, and signed URLs."""


class AWSFederationProxy:
    """What one user may have in AWS. Instances are cheap, may be used by many threads, and work after a fork.

    `user` is a login name (whoever makes the instance has to know who it is), or a machine's address as
    text. `config` has the provider's settings, at its top or under `provider`, and the sections `aws`, `dns`,
    `hosts` and `deny`. `account_config` is {account: {"id": ...}}; an account's other settings are as in the
    daemon. Raises ConfigurationError with everything that is wrong with them.

    Whatever methods raise is a FederationError: PermissionError is a no, AWSError and ProviderError are no
    answer at the moment.
    """

    application_config: Mapping[str, Any]
    """`config` as it was given: it may have a secret in it."""
    account_config: Mapping[str, Any]
    logger: logging.Logger
    provider: AnyProvider
    """What answers; of a class of the old shape it makes an object for each question."""

    def __init__(
        self,
        user: str,
        config: Mapping[str, Any],
        account_config: Mapping[str, Any],
        logger: logging.Logger | None = None,
    ) -> None:
        self._user = _checked_user(user)
        self.application_config = config
        self.account_config = account_config
        self.logger = logger or logging.getLogger(__name__)
        self._settings = read_settings(config, account_config, os.environ)
        self._address = _address_of(user)
        self._provider_name, self.provider = self._build_provider()
        self._parts: _Parts | None = None
        _quieten_aws_logs()
        for warning in self._settings.warnings:
            self.logger.warning("%s", warning)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(user={self.user!r}, provider={self._provider_name!r})"

    @property
    def user(self) -> str:
        """Who it is about; somebody else needs another instance."""
        return self._user

    def get_account_and_role_dict(self) -> dict[str, set[tuple[str, str]]]:
        """Return what the user may have, {account: {(role, reason), ...}}; empty for who has nothing.

        Raises ProviderError, or another FederationError that is trouble.
        """
        parts = self._current_parts()
        try:
            self._check_audience()
            grants = parts.engine.run(parts.federation.grants(parts.person))
        except Refusal as refusal:
            self.logger.info("user %r has no role: %s", self.user, refusal)
            return {}
        roles: dict[str, set[tuple[str, str]]] = {}
        for grant in grants:
            roles.setdefault(grant.account, set()).add((grant.role, grant.reason))
        return roles

    def check_user_permissions(self, account_alias: str, role: str) -> None:
        """Raise PermissionError unless the user may have the role in the account. AWS is not asked."""
        self._grant(account_alias, role)

    def get_aws_credentials(self, account_alias: str, role: str, fresh: bool = False) -> Credentials:  # noqa: FBT001, FBT002  a switch that reads well at the call
        """Return credentials of the role, good for 25 minutes or more where STS gives that much.

        Who asks for the same while they are has the same ones; `fresh` asks STS anew.

        Raises PermissionError when the user may not have the role or STS denies it, ConfigurationError when
        `account_config` has no id for the account, AWSError, ProviderError.
        """
        grant = self._grant(account_alias, role)
        parts = self._current_parts()
        session = parts.federation.session(parts.person, grant)
        engine.load_boto3()
        return parts.engine.run(parts.federation.credentials(session, fresh=fresh))

    def get_console_url(self, credentials: Credentials, callback_url: str) -> str:
        """Return a URL that logs a browser into the console within 15 minutes: a secret.

        `callback_url` is where AWS sends people whose session has ended. Raises AWSError.
        """
        parts = self._current_parts()
        engine.load_boto3()
        return parts.engine.run(parts.federation.console_url(credentials, callback_url, user=self.user))

    def _grant(self, account: str, role: str) -> Grant:
        parts = self._current_parts()
        try:
            self._check_audience()
            grant = parts.engine.run(parts.federation.grant(parts.person, account, role))
        except Refusal as refusal:
            self.logger.warning("user %r may not have role %r in %r: %s", self.user, role, account, refusal)
            raise
        self.logger.info("user %r may have role %r in %r: %s", self.user, role, account, grant.reason)
        return grant

    def _check_audience(self) -> None:
        """Raise Refusal for a person whose provider tells machines apart: it may give a role to all."""
        if self._address is None and PEOPLE not in self.provider.serves:
            raise Refusal(f"{self._provider_name} tells machines apart, and {self.user} is no address")

    def _build_provider(self) -> tuple[str, AnyProvider]:
        settings = self._settings
        name, provider = build_provider(
            settings.provider, settings.account_names, user=self.user, logger=self.logger
        )
        unknown = sorted(settings.outsiders & (provider.settings.model_extra or {}).keys())
        if unknown:
            text = "unknown key; a setting of the provider stands in provider:, where its class is"
            raise ConfigurationError([Fault(CONFIGURATION, key, text) for key in unknown])
        return name, provider

    def _current_parts(self) -> _Parts:
        """Return the working parts: other ones after a fork, or when the environment names other keys."""
        current = engine.current_engine()
        environment = engine.environment_digest(os.environ)
        parts = self._parts
        if parts is None or parts.engine is not current or parts.environment != environment:
            if parts is not None and parts.engine is not current:
                # What a provider has open may be bound to the loop of the process that was forked.
                self._provider_name, self.provider = self._build_provider()
            parts = self._parts = self._open_parts(current, environment)
        return parts

    def _open_parts(self, current: engine.Engine, environment: bytes) -> _Parts:
        settings = self._settings
        workshop = current.workshop(settings.sts, environment)
        return _Parts(
            engine=current,
            environment=environment,
            federation=_open_federation(settings, self._provider_name, self.provider, workshop),
            person=_open_identities(settings).person(
                self.user, self._address, is_machine=self._address is not None
            ),
        )


@dataclass(frozen=True)
class _Parts:
    """The working parts of one instance in one process."""

    engine: engine.Engine
    environment: bytes
    federation: Federation
    person: Person


class _LateResolver:
    """DNS for providers that need host names; most don't, and not every machine has name servers."""

    def __init__(self, settings: DNSSettings) -> None:
        self._settings = settings
        self._resolver: DNSResolver | None = None

    async def names_of(self, address: IPAddress) -> PointerAnswer:
        """Return the PTR names of an address. Raises ResolutionError."""
        return await self._open().names_of(address)

    async def addresses_of(self, name: str, *, version: int) -> AddressAnswer:
        """Return a name's A (version 4) or AAAA (6) addresses. Raises ResolutionError."""
        return await self._open().addresses_of(name, version=version)

    def _open(self) -> DNSResolver:
        if self._resolver is None:
            servers = self._settings.nameservers
            self._resolver = DNSResolver(
                [(server.ip, server.port) for server in servers] if servers else None,
                attempt_timeout=self._settings.attempt_timeout,
                deadline=self._settings.deadline,
            )
        return self._resolver


def _open_identities(settings: LibrarySettings) -> Identities:
    dns = settings.dns
    return Identities(
        _LateResolver(dns), settings.hosts, deadline=dns.deadline, stale=dns.stale, clock=SYSTEM_CLOCK
    )


def _open_federation(
    settings: LibrarySettings, name: str, provider: AnyProvider, workshop: engine.Workshop
) -> Federation:
    aws = settings.aws
    return Federation(
        name,
        provider,
        accounts=settings.accounts,
        denied=aws_parts.denied(settings.deny),
        role_sessions=aws_parts.role_sessions(aws, workshop.sts),
        cache=workshop.cache,
        sts=workshop.sts,
        console=Console(aws_parts.console_settings(aws), os.environ),
        sign_in_threads=workshop.sign_in_threads,
        metrics=workshop.metrics,
    )


def _checked_user(user: object) -> str:
    if not isinstance(user, str) or not user:
        raise ConfigurationError([Fault("user", "", "must be a text that is not empty")])
    return user


def _address_of(user: str) -> IPAddress | None:
    try:
        address = canonical_address(user)
    except ValueError:
        return None
    if is_link_local(address):
        text = f"{user} is link-local: a machine on another link may have the same address; use another one"
        raise ConfigurationError([Fault("user", "", text)])
    return address


def _quieten_aws_logs() -> None:
    """Keep keys out of the logs of a program that logs at DEBUG, unless it has set these levels itself."""
    for name in _OUTSPOKEN:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
