"""From a configuration to its working parts. A reload makes a new site; the workshop stays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from imds_proxy import aws_parts, metadata_parts
from imds_proxy.broker import Broker
from imds_proxy.caller import Identities
from imds_proxy.config import ListenSettings
from imds_proxy.config.people_values import origin_of
from imds_proxy.console import Console
from imds_proxy.explain import Door
from imds_proxy.federation import Federation
from imds_proxy.imds_tokens import TokenKeys
from imds_proxy.resolver import DNSResolver
from imds_proxy.sign_in_threads import SignInThreads
from imds_proxy.sts import Sts, StsThreads, Threads
from imds_proxy.verdict import Judge
from imds_proxy.web.container import ContainerService
from imds_proxy.web.edge.guard import CONTAINER_HOSTS, Guard
from imds_proxy.web.edge.limits import Rates
from imds_proxy.web.imds import MetadataService
from imds_proxy.web.people import PeopleService
from imds_proxy.web.sign_on import build_sign_on
from imds_proxy.workload_tokens import WorkloadTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imds_proxy.audit import Audit
    from imds_proxy.cache import CredentialCache
    from imds_proxy.clock import Clock
    from imds_proxy.config import (
        AdminSettings,
        Configuration,
        ContainerSettings,
        LimitSettings,
        NetworkSettings,
        PeopleListenSettings,
        PeopleSettings,
        Settings,
        TokenSettings,
    )
    from imds_proxy.metrics import Metrics
    from imds_proxy.registry import AnyProvider
    from imds_proxy.role_sessions import RoleSessions
    from imds_proxy.verdict import Denied
    from imds_proxy.web.documents import CredentialPages
    from imds_proxy.web.edge.open_connections import OpenConnections
    from imds_proxy.web.edge.service import Service
    from imds_proxy.web.sign_on import SignOn, SignOnState
    from imds_proxy.workload_secrets import WorkloadSecrets


@dataclass(frozen=True)
class Workshop:
    """What outlives a reload: what is held, counted and written."""

    cache: CredentialCache
    sts_threads: StsThreads
    sign_in_threads: SignInThreads
    audit: Audit
    metrics: Metrics
    connections: OpenConnections
    pages: CredentialPages
    sign_on_state: SignOnState
    clock: Clock


@dataclass(frozen=True)
class Decisions:
    """The part of a site that decides, for `explain` without a daemon."""

    identities: Identities
    role_sessions: RoleSessions
    denied: Denied
    judges: Mapping[str, Judge]
    doors: tuple[Door, ...]
    sts: Sts


@dataclass(frozen=True)
class People:
    """The part of a site that is for people."""

    settings: PeopleSettings
    federation: Federation
    sign_on: SignOn


@dataclass(frozen=True)
class Site:
    """The working parts of one configuration."""

    decisions: Decisions
    brokers: Mapping[str, Broker]
    people: People | None
    tokens: TokenKeys
    workload_tokens: WorkloadTokens
    takes_workload_tokens: bool
    """Whether any listener does."""
    workload_secrets: Mapping[Path, WorkloadSecrets]
    tree: metadata_parts.TreeSettings
    network: NetworkSettings
    workshop: Workshop

    def service_for(self, listen: ListenSettings | PeopleListenSettings) -> Service:
        """Return what answers on a listener with these settings. Raises KeyError without its provider."""
        if isinstance(listen, ListenSettings):
            if listen.container is not None:
                return self._container_service(listen, listen.container)
            return self._metadata_service(listen)
        if self.people is None:
            raise KeyError("people")
        return self._people_service(listen, self.people)

    def _metadata_service(self, listen: ListenSettings) -> MetadataService:
        return MetadataService(
            guard=_guard(listen, self.network),
            broker=self.brokers[listen.provider],
            tokens=self.tokens,
            imds_v1=listen.imds_v1,
            has_credentials=listen.credentials,
            list_without_token=listen.list_without_token,
            base_path=listen.base_path,
            hop_limit=listen.hop_limit,
            metadata=self.tree,
            limits=self.workshop.connections.limits,
            credential_pages=self.workshop.pages,
            metrics=self.workshop.metrics,
            clock=self.workshop.clock,
        )

    def _container_service(self, listen: ListenSettings, container: ContainerSettings) -> ContainerService:
        return ContainerService(
            guard=_guard(listen, self.network),
            broker=self.brokers[listen.provider],
            path=container.path,
            tokens=self.workload_tokens if container.token else None,
            secrets=self.workload_secrets[container.secrets] if container.secrets else None,
            is_by_workload=container.identity == "workload",
            denied=self.decisions.denied.names,
            limits=self.workshop.connections.limits,
            metrics=self.workshop.metrics,
            clock=self.workshop.clock,
        )

    def _people_service(self, listen: PeopleListenSettings, people: People) -> PeopleService:
        return PeopleService(
            guard=_people_guard(listen, people.settings),
            federation=people.federation,
            sign_on=people.sign_on,
            identities=self.decisions.identities,
            base_path=people.settings.base_path,
            public_url=people.settings.public_url,
            callback_urls=people.settings.callback_urls,
            limits=self.workshop.connections.limits,
            audit=self.workshop.audit,
            metrics=self.workshop.metrics,
            clock=self.workshop.clock,
        )

    def retire(self) -> None:
        """Let go of identities and verdicts: another site decides from now on."""
        for broker in self.brokers.values():
            broker.retire()

    async def close(self) -> None:
        """End what is under way."""
        for broker in self.brokers.values():
            await broker.close()


def build_decisions(
    configuration: Configuration,
    providers: Mapping[str, AnyProvider],
    *,
    sts_threads: Threads,
    metrics: Metrics,
    clock: Clock,
    warn: Callable[[str], None],
) -> Decisions:
    """Return the parts that decide. Raises ResolutionError when the system has no name servers."""
    settings = configuration.settings
    nameservers = settings.dns.nameservers
    identities = Identities(
        DNSResolver(
            [(server.ip, server.port) for server in nameservers] if nameservers else None,
            attempt_timeout=settings.dns.attempt_timeout,
            deadline=settings.dns.deadline,
            note=metrics.note_wrong_answer,
        ),
        settings.hosts,
        deadline=settings.dns.deadline,
        stale=settings.dns.stale,
        clock=clock,
        observe=metrics.observe_lookup,
    )
    sts = Sts(
        aws_parts.sts_settings(settings.aws, configuration.secret_key),
        sts_threads,
        clock=clock,
        warn=warn,
        observe=metrics.observe_sts,
    )
    role_sessions = aws_parts.role_sessions(settings.aws, sts)
    denied = aws_parts.denied(settings.deny)
    judges = {
        name: Judge(
            name,
            provider,
            accounts=configuration.accounts,
            identities=identities,
            role_sessions=role_sessions,
            denied=denied,
            stale=settings.dns.stale,
            metrics=metrics,
            clock=clock,
        )
        for name, provider in providers.items()
    }
    for name in judges:
        metrics.provider_errors.counts.setdefault((name,), 0)
    doors = tuple(
        Door(
            str(listen.address),
            _guard(listen, settings.network).admits_peer,
            judges[listen.provider],
            is_for_containers=listen.container is not None,
            is_by_workload=listen.container is not None and listen.container.identity == "workload",
        )
        for listen in settings.listen
    )
    return Decisions(identities, role_sessions, denied, judges, doors, sts)


def build_site(
    configuration: Configuration,
    providers: Mapping[str, AnyProvider],
    *,
    token_keys: tuple[bytes, ...],
    workload_token_keys: tuple[bytes, ...],
    workshop: Workshop,
    warn: Callable[[str], None],
) -> Site:
    """Return the working parts of a configuration. Raises ResolutionError without name servers."""
    settings = configuration.settings
    decisions = build_decisions(
        configuration,
        providers,
        sts_threads=workshop.sts_threads,
        metrics=workshop.metrics,
        clock=workshop.clock,
        warn=warn,
    )
    brokers = {
        name: Broker(
            judge,
            recheck=settings.dns.recheck,
            cache=workshop.cache,
            sts=decisions.sts,
            audit=workshop.audit,
            metrics=workshop.metrics,
            clock=workshop.clock,
        )
        for name, judge in decisions.judges.items()
    }
    people = _build_people(configuration, providers, decisions, workshop)
    return Site(
        decisions=decisions,
        brokers=brokers,
        people=people,
        tokens=TokenKeys(token_keys),
        workload_tokens=_workload_tokens(settings.tokens, workload_token_keys, old_keys=token_keys),
        takes_workload_tokens=takes_workload_tokens(settings),
        workload_secrets=configuration.workload_secrets,
        tree=metadata_parts.tree_settings(settings),
        network=settings.network,
        workshop=workshop,
    )


def _build_people(
    configuration: Configuration,
    providers: Mapping[str, AnyProvider],
    decisions: Decisions,
    workshop: Workshop,
) -> People | None:
    settings = configuration.settings.people
    if settings is None:
        return None
    federation = Federation(
        settings.provider,
        providers[settings.provider],
        accounts=configuration.accounts,
        denied=decisions.denied.with_names(settings.deny),
        role_sessions=decisions.role_sessions,
        cache=workshop.cache,
        sts=decisions.sts,
        console=Console(aws_parts.console_settings(configuration.settings.aws), os.environ),
        sign_in_threads=workshop.sign_in_threads,
        metrics=workshop.metrics,
    )
    secret = configuration.people_secret
    sign_on = build_sign_on(
        settings.identity, secret.get_secret_value() if secret else None, state=workshop.sign_on_state
    )
    return People(settings, federation, sign_on)


def takes_workload_tokens(settings: Settings) -> bool:
    """Tell whether any listener takes tokens of workloads."""
    return any(one.container is not None and one.container.token for one in settings.listen)


def _workload_tokens(
    tokens: TokenSettings, keys: tuple[bytes, ...], *, old_keys: tuple[bytes, ...]
) -> WorkloadTokens:
    old_until = datetime.combine(tokens.old_workload_tokens_until, time(), UTC)
    return WorkloadTokens(
        keys,
        old_keys=old_keys,
        old_until=old_until.timestamp(),
        any_network=tokens.any_network,
        revoked=frozenset(tokens.revoked),
    )


def rates_of(limits: LimitSettings) -> Rates:
    """Return what the settings let one caller take."""
    return Rates(
        connections=limits.connections,
        requests_per_second=limits.requests_per_second,
        new_connections_per_second=limits.new_connections_per_second,
        tls_handshakes_per_second=limits.tls_handshakes_per_second,
    )


def admin_guard(admin: AdminSettings) -> Guard:
    """Return who may ask for admin pages by the admin address."""
    hosts = {str(host) for host in admin.hosts}
    if admin.address is not None:
        hosts |= {str(admin.address.ip)} | ({"localhost"} if admin.address.ip.is_loopback else set())
    return Guard(admin.callers, (), frozenset(hosts))


def _guard(listen: ListenSettings, network: NetworkSettings) -> Guard:
    hosts = {str(host) for host in listen.hosts} | {str(listen.address.ip)}
    hosts |= {str(taken.ip) for taken in network.taken_over_by(listen.address)}
    if listen.address.ip.is_loopback:
        # RFC 6761 section 6.3: the one name that nobody else can make lead somewhere.
        hosts.add("localhost")
    if listen.container is not None:
        hosts |= CONTAINER_HOSTS
    return Guard(listen.callers, listen.callers_except, frozenset(hosts))


def _people_guard(listen: PeopleListenSettings, people: PeopleSettings) -> Guard:
    hosts = {str(host) for host in listen.hosts}
    if people.public_url is not None:
        hosts.add(origin_of(people.public_url)[1])
    if listen.address is not None:
        hosts.add(str(listen.address.ip))
    if listen.address is None or listen.address.ip.is_loopback:
        hosts.add("localhost")
    return Guard(listen.callers, listen.callers_except, frozenset(hosts))
