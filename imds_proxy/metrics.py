"""Every metric and label, in one place. Counting is an addition; the text is made when somebody scrapes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

STS_SECONDS_BOUNDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


class Tally:
    """A counter with labels. `counts[labels] += 1` is all that the hot path pays."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = labels
        self.counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int)

    def add(self, *labels: str) -> None:
        """Count one."""
        self.counts[labels] += 1


class Histogram:
    """How long calls took, in seconds."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.documentation = documentation
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count a call of that length."""
        self.total += seconds
        for index, bound in enumerate(self.bounds):
            if seconds <= bound:
                self.buckets[index] += 1
                return
        self.buckets[-1] += 1


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read when somebody scrapes: labels -> value."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[], Mapping[tuple[str, ...], float]]
    is_counter: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All values at one moment; taken on the event loop, rendered on a thread."""

    counters: tuple[tuple[str, str, tuple[str, ...], dict[tuple[str, ...], float]], ...]
    gauges: tuple[tuple[str, str, tuple[str, ...], dict[tuple[str, ...], float]], ...]
    histograms: tuple[tuple[str, str, tuple[float, ...], list[int], float], ...]


@dataclass
class Metrics:
    """The counters of one process, and the gauges that others registered."""

    requests: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_requests", "Requests answered, by kind of path and HTTP status.", ("path", "status")
        )
    )
    verdicts: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_verdicts",
            "Decisions made, by outcome (granted, stale, refused, trouble).",
            ("outcome",),
        )
    )
    hand_outs: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_hand_outs", "Access keys handed to a caller for the first time.", ()
        )
    )
    sts_calls: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_sts_calls",
            "AssumeRole calls, by outcome (success, refused, throttled, own_key_refused, trouble).",
            ("outcome",),
        )
    )
    sts_seconds: Histogram = field(
        default_factory=lambda: Histogram(
            "imds_proxy_sts_seconds",
            "How long AssumeRole took, waiting for a thread included.",
            STS_SECONDS_BOUNDS,
        )
    )
    renewals_refused: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_renewals_refused",
            "Role sessions whose renewal STS began to refuse while keys were held.",
            (),
        )
    )
    reloads: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_reloads", "Reloads of the configuration, by outcome (done, faulty).", ("outcome",)
        )
    )
    provider_errors: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_provider_errors", "Exceptions and time-outs of providers.", ("provider",)
        )
    )
    people_requests: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_people_requests",
            "Requests answered on the listeners for people, by kind of path and HTTP status.",
            ("path", "status"),
        )
    )
    logins: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_logins",
            "Requests by whether it was known who asked, by outcome (success, refused, trouble).",
            ("outcome",),
        )
    )
    console_urls: Tally = field(
        default_factory=lambda: Tally(
            "imds_proxy_console_urls", "Console URLs wanted, by outcome (success, trouble).", ("outcome",)
        )
    )
    gauges: list[Gauge] = field(default_factory=list)

    def observe_sts(self, outcome: str, seconds: float) -> None:
        """Count an AssumeRole call."""
        self.sts_calls.add(outcome)
        self.sts_seconds.observe(seconds)

    def tallies(self) -> tuple[Tally, ...]:
        """Return all counters that are kept here."""
        return (
            self.requests,
            self.verdicts,
            self.hand_outs,
            self.sts_calls,
            self.renewals_refused,
            self.reloads,
            self.provider_errors,
            self.people_requests,
            self.logins,
            self.console_urls,
        )

    def snapshot(self) -> Snapshot:
        """Return all values as they are now."""
        counters = [
            (
                t.name,
                t.documentation,
                t.labels,
                {tuple(map(str, key)): float(n) for key, n in t.counts.items()},
            )
            for t in self.tallies()
        ]
        read = [(g, g.name, g.documentation, g.labels, dict(g.read())) for g in self.gauges]
        counters += [(name, text, labels, values) for g, name, text, labels, values in read if g.is_counter]
        gauges = [(name, text, labels, values) for g, name, text, labels, values in read if not g.is_counter]
        seconds = self.sts_seconds
        histogram = (
            seconds.name,
            seconds.documentation,
            seconds.bounds,
            list(seconds.buckets),
            seconds.total,
        )
        return Snapshot(tuple(counters), tuple(gauges), (histogram,))


def render(snapshot: Snapshot) -> bytes:
    """Return the snapshot in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    class Values(Collector):
        def collect(self) -> Iterable[Metric]:
            for name, text, labels, counts in snapshot.counters:
                counter = CounterMetricFamily(name, text, labels=labels)
                for key, value in sorted(counts.items()):
                    counter.add_metric(key, value)
                yield counter
            for name, text, labels, values in snapshot.gauges:
                gauge = GaugeMetricFamily(name, text, labels=labels)
                for key, value in sorted(values.items()):
                    gauge.add_metric(key, value)
                yield gauge
            for name, text, bounds, buckets, total in snapshot.histograms:
                histogram = HistogramMetricFamily(name, text)
                histogram.add_metric([], _cumulate(bounds, buckets), total)
                yield histogram

    registry = CollectorRegistry()
    registry.register(Values())
    return generate_latest(registry)


def _cumulate(bounds: tuple[float, ...], buckets: list[int]) -> list[tuple[str, float]]:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    sums = [float(sum(buckets[: index + 1])) for index in range(len(buckets))]
    return list(zip(names, sums, strict=True))
