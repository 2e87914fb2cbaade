"""The values that are read when somebody scrapes: sizes, queues, the soonest expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy import __version__
from imds_proxy.metrics import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.site import Site, Workshop

_PREFIX = "imds_proxy_"


def register_gauges(
    workshop: Workshop, current_site: Callable[[], Site], count_connections: Callable[[], int]
) -> None:
    """Add the gauges to the workshop's metrics. The site is asked for anew each time: reloads replace it."""

    def one(name: str, text: str, read: Callable[[], float], *, is_counter: bool = False) -> None:
        gauge = Gauge(_PREFIX + name, text, (), lambda: {(): read()}, is_counter=is_counter)
        workshop.metrics.gauges.append(gauge)

    def soonest_expiry() -> float:
        expiry = workshop.cache.soonest_expiry()
        return float("nan") if expiry is None else expiry - workshop.clock.wall()

    def known_identities() -> float:
        return current_site().decisions.identities.size

    def lookup_flights() -> float:
        return current_site().decisions.identities.flights

    def known_standings() -> float:
        return sum(broker.size for broker in current_site().brokers.values())

    cache, audit, limits = workshop.cache, workshop.audit, workshop.limits
    one("credentials_held", "Role sessions in the cache.", lambda: cache.size)
    one("assume_role_flights", "AssumeRole calls under way or waiting.", lambda: cache.flights)
    one("soonest_expiry_seconds", "Time until the first credentials held end.", soonest_expiry)
    one("identities_known", "Identities in the cache.", known_identities)
    one("lookup_flights", "Look-ups of names under way or waiting.", lookup_flights)
    one("standings_known", "Callers with a verdict.", known_standings)
    one("allowances_known", "Callers whose requests are counted.", lambda: limits.size)
    one("connections_open", "Open connections of callers.", count_connections)
    one(
        "requests_over_limit",
        "Requests beyond their caller's limits.",
        lambda: limits.denied_requests,
        is_counter=True,
    )
    workshop.metrics.gauges.append(
        Gauge(
            _PREFIX + "connections_dropped",
            "Connections that we ended, by why (excess, idle, silent, unread).",
            ("reason",),
            lambda: {(reason,): n for reason, n in limits.dropped.items()},
            is_counter=True,
        )
    )
    one("audit_waiting", "Audit records that wait to be written.", lambda: audit.waiting)
    one("audit_written", "Audit records written.", lambda: audit.written, is_counter=True)
    one("audit_dropped", "Audit records of refusals dropped.", lambda: audit.dropped, is_counter=True)
    workshop.metrics.gauges.append(
        Gauge(
            _PREFIX + "lookups",
            "Look-ups of names, by outcome (confirmed, refused, failed, stale), since the last reload.",
            ("outcome",),
            lambda: {(outcome,): n for outcome, n in current_site().decisions.identities.outcomes.items()},
            is_counter=True,
        )
    )
    workshop.metrics.gauges.append(
        Gauge(_PREFIX + "build_info", "The version that runs.", ("version",), lambda: {(__version__,): 1.0})
    )
