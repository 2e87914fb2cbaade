"""The values that are read when somebody scrapes: sizes, queues, the soonest expiry."""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING

from imds_proxy import __version__
from imds_proxy.metrics import Gauge
from imds_proxy.process_facts import process_gauges
from imds_proxy.web.basic import BasicSignOn
from imds_proxy.web.edge.guard import host_of
from imds_proxy.web.tree import count_remembered_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imds_proxy.audit import Audit
    from imds_proxy.metrics import Metrics
    from imds_proxy.site import Site, Workshop
    from imds_proxy.web.edge.open_connections import OpenConnections

_PREFIX = "imds_proxy_"


def register_gauges(
    workshop: Workshop,
    current_site: Callable[[], Site],
    *,
    count_connections: Callable[[], int],
    crl_end: Callable[[], float | None],
) -> None:
    """Add the gauges to the workshop's metrics. The site is asked for anew each time: reloads replace it.

    Called on the event loop that serves.
    """
    gauges, cache = workshop.metrics.gauges, workshop.cache

    def lookup_flights() -> float:
        return current_site().decisions.identities.flights

    def own_key_refused() -> float:
        return current_site().decisions.sts.own_key_trouble is not None

    def time_left(*, is_wanted: bool) -> float:
        return until(cache.soonest_expiry(is_wanted=is_wanted))

    def until(end: float | None) -> float:
        return float("nan") if end is None else end - workshop.clock.wall()

    gauges += [
        _one("credentials_held", "Role sessions in the cache.", lambda: cache.size),
        _one("assume_role_flights", "AssumeRole calls under way or waiting.", lambda: cache.flights),
        *_gauges_of_queues(workshop),
        _one("own_key_refused", "Whether STS refuses our own key, as of the last call.", own_key_refused),
        _one(
            "soonest_expiry_seconds",
            "Time until the first credentials held end.",
            lambda: time_left(is_wanted=False),
        ),
        _one(
            "soonest_wanted_expiry_seconds",
            "Time until the first credentials end that are still asked for.",
            lambda: time_left(is_wanted=True),
        ),
        _one(
            "client_crl_seconds",
            "Time until the first CRL for client certificates ends.",
            lambda: until(crl_end()),
        ),
        _one("lookup_flights", "Look-ups of names under way or waiting.", lookup_flights),
        _by("cache", "cache_entries", "What is remembered.", lambda: _cache_sizes(workshop, current_site())),
        _one("connections_open", "Open connections of callers.", count_connections),
        *_gauges_of_connections(workshop.connections),
        *_gauges_of_audit(workshop.audit),
        *_gauges_of_reloads(workshop.metrics),
        _build_info(),
        *process_gauges(),
    ]


def _one(name: str, text: str, read: Callable[[], float], *, is_counter: bool = False) -> Gauge:
    return Gauge(_PREFIX + name, text, (), lambda: {(): read()}, is_counter=is_counter)


def _by(
    label: str, name: str, text: str, read: Callable[[], Mapping[str, float]], *, is_counter: bool = False
) -> Gauge:
    def values() -> Mapping[tuple[str, ...], float]:
        return {(key,): value for key, value in read().items()}

    return Gauge(_PREFIX + name, text, (label,), values, is_counter=is_counter)


def _cache_sizes(workshop: Workshop, site: Site) -> dict[str, float]:
    sign_on = site.people.sign_on if site.people is not None else None
    throttle = workshop.sign_on_state.throttle
    return {
        "identities": site.decisions.identities.size,
        "standings": sum(broker.size for broker in site.brokers.values()),
        "credentials": workshop.cache.size,
        "pages": workshop.pages.size,
        "metadata": site.tree.values.size,
        "allowances": workshop.connections.limits.size,
        "denials": workshop.audit.collapsed,
        "workloads": sum(secrets.size for secrets in site.workload_secrets.values()),
        "logins": sign_on.size if isinstance(sign_on, BasicSignOn) else 0,
        "login_tries": throttle.tries,
        "login_addresses": throttle.addresses,
        "login_users": throttle.users,
        "login_known_users": throttle.known_users,
        "paths": count_remembered_paths(),
        "hosts": host_of.cache_info().currsize,
    }


def _gauges_of_connections(connections: OpenConnections) -> list[Gauge]:
    return [
        _one(
            "requests_over_limit",
            "Requests beyond their caller's limits.",
            lambda: connections.limits.denied_requests,
            is_counter=True,
        ),
        _by(
            "reason",
            "connections_dropped",
            f"Connections that we ended, by why ({', '.join(connections.dropped)}).",
            lambda: dict(connections.dropped),
            is_counter=True,
        ),
        _one(
            "held_head_bytes",
            "Bytes of requests that are unfinished or not answered yet.",
            lambda: connections.heads.total,
        ),
        _one(
            "unsent_bytes",
            "Bytes of answers that callers have not taken yet.",
            lambda: connections.unsent.total,
        ),
    ]


def _gauges_of_queues(workshop: Workshop) -> list[Gauge]:
    cache, queue = workshop.cache, workshop.cache.queue
    return [
        _one(
            "sts_line",
            "Calls of STS on a thread or waiting for one.",
            lambda: workshop.sts_threads.line + sum(queue.waiting.values()),
        ),
        _by(
            "kind",
            "sts_waiting",
            f"AssumeRole calls that wait for their turn, by kind ({', '.join(queue.waiting)}).",
            lambda: dict(queue.waiting),
        ),
        _by(
            "reason",
            "sts_dropped",
            f"AssumeRole calls dropped unasked, by whose queue was full ({', '.join(queue.dropped)}).",
            lambda: dict(queue.dropped),
            is_counter=True,
        ),
        _one(
            "sign_in_line",
            "Calls of the console's sign-in endpoint on a thread or waiting for one.",
            lambda: workshop.sign_in_threads.line,
        ),
        _one(
            "sessions_evicted",
            "Role sessions that made room for others.",
            lambda: cache.evicted,
            is_counter=True,
        ),
    ]


def _gauges_of_audit(audit: Audit) -> list[Gauge]:
    return [
        _one("audit_waiting", "Audit records that wait to be written.", lambda: audit.waiting),
        _one("audit_behind", "Whether no new key can be recorded now.", lambda: audit.is_behind),
        _one("audit_written", "Audit records written.", lambda: audit.written, is_counter=True),
        _one("audit_dropped", "Audit records of refusals dropped.", lambda: audit.dropped, is_counter=True),
        _one(
            "audit_not_copied",
            "Audit records in the file that did not get into the journal.",
            lambda: audit.not_copied,
            is_counter=True,
        ),
    ]


def _gauges_of_reloads(metrics: Metrics) -> list[Gauge]:
    return [
        _one(
            "last_reload_success", "Whether the last reload took what it read.", lambda: metrics.is_reloaded
        ),
        _one(
            "configured_time_seconds",
            "When the configuration in force was taken over, seconds UTC since 1970.",
            lambda: metrics.configured_at,
        ),
    ]


def _build_info() -> Gauge:
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    values = (__version__, platform.python_version(), loop)
    return Gauge(
        _PREFIX + "build_info",
        "What runs: the version, Python's, and the event loop.",
        ("version", "python", "event_loop"),
        lambda: {values: 1.0},
    )
