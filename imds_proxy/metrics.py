"""Every metric and label, in one place. Counting is an addition; the text is made when somebody scrapes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.errors import Refusal, RefusalKind, TroubleKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from imds_proxy.errors import Trouble

STS_SECONDS_BOUNDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
LOOKUP_SECONDS_BOUNDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.6, 1.0, 2.0)


class Tally:
    """A counter with labels. `counts[labels] += 1` is all that the hot path pays."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], values: Iterable[str] = ()
    ) -> None:
        """`values` are all that the one label can have: they are there from the start, as zero.

        What first appears as a one is no increase to Prometheus, so an alert would miss it.
        """
        self.name = name
        self.values = tuple(values)
        self.documentation = f"{documentation} ({', '.join(self.values)})." if self.values else documentation
        self.labels = labels
        self.counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int)

    def add(self, *labels: str) -> None:
        """Count one."""
        self.counts[labels] += 1

    def read(self) -> dict[tuple[str, ...], float]:
        """Return all counts, what has not happened yet included."""
        known = {(value,): 0.0 for value in self.values} if self.labels else {(): 0.0}
        return known | {tuple(map(str, key)): float(n) for key, n in self.counts.items()}


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
    is_slow: bool = False
    """Whether it is read on the thread that renders, because that may take a while."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its values at one moment."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]
    is_counter: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All values at one moment; taken on the event loop, rendered on a thread."""

    families: tuple[Family, ...]
    histograms: tuple[tuple[str, str, tuple[float, ...], list[int], float], ...]
    slow_gauges: tuple[Gauge, ...]


class Metrics:
    """The counters of one process, and the gauges that others registered."""

    def __init__(self) -> None:
        self.requests = Tally(
            "imds_proxy_requests", "Requests answered, by kind of path and HTTP status.", ("path", "status")
        )
        self.refusals = Tally(
            "imds_proxy_refusals", "Requests of machines turned away, by why", ("reason",), RefusalKind
        )
        self.troubles = Tally(
            "imds_proxy_troubles",
            "Requests of machines that could not be answered, by what failed",
            ("reason",),
            TroubleKind,
        )
        self.old_workload_tokens = Tally(
            "imds_proxy_old_workload_tokens", "Requests with a workload's token of the old kind.", ()
        )
        self.verdicts = Tally(
            "imds_proxy_verdicts",
            "Decisions made, by outcome",
            ("outcome",),
            ("granted", "stale", "refused", "trouble"),
        )
        self.lookups = Tally(
            "imds_proxy_lookups",
            "Look-ups of names, by outcome",
            ("outcome",),
            ("confirmed", "listed", "refused", "failed", "stale"),
        )
        self.lookup_seconds = Histogram(
            "imds_proxy_lookup_seconds",
            "How long look-ups of names took, waiting for a place included.",
            LOOKUP_SECONDS_BOUNDS,
        )
        self.dns_wrong_answers = Tally(
            "imds_proxy_dns_wrong_answers",
            "Datagrams from a name server's address that are not the answer, by what is wrong",
            ("reason",),
            ("garbage", "id", "question", "case", "no_question"),
        )
        self.dns_forgeries_suspected = Tally(
            "imds_proxy_dns_forgery_suspected",
            "Questions that went over TCP because too many wrong answers came.",
            (),
        )
        self.hand_outs = Tally(
            "imds_proxy_hand_outs", "Access keys handed to a caller for the first time.", ()
        )
        self.sts_calls = Tally(
            "imds_proxy_sts_calls",
            "AssumeRole calls, by outcome",
            ("outcome",),
            ("success", "refused", "throttled", "own_key_refused", "trouble"),
        )
        self.sts_seconds = Histogram(
            "imds_proxy_sts_seconds",
            "How long AssumeRole took, waiting for its turn not included.",
            STS_SECONDS_BOUNDS,
        )
        self.renewals_refused = Tally(
            "imds_proxy_renewals_refused",
            "Role sessions whose renewal STS began to refuse while keys were held.",
            (),
        )
        self.reloads = Tally(
            "imds_proxy_reloads", "Reloads of the configuration, by outcome", ("outcome",), ("done", "faulty")
        )
        self.provider_errors = Tally(
            "imds_proxy_provider_errors", "Exceptions and time-outs of providers.", ("provider",)
        )
        self.people_requests = Tally(
            "imds_proxy_people_requests",
            "Requests answered on the listeners for people, by kind of path and HTTP status.",
            ("path", "status"),
        )
        self.logins = Tally(
            "imds_proxy_logins",
            "Requests by whether it was known who asked, by outcome",
            ("outcome",),
            ("success", "refused", "trouble"),
        )
        self.login_failures = Tally(
            "imds_proxy_login_failures",
            "Requests whose claim of who is asking was refused, by reason",
            ("reason",),
            ("wrong_password", "locked", "throttled", "wrong_proof", "other"),
        )
        self.console_urls = Tally(
            "imds_proxy_console_urls", "Console URLs wanted, by outcome", ("outcome",), ("success", "trouble")
        )
        self.is_reloaded = True
        """Whether the last reload took the configuration that was read."""
        self.configured_at = 0.0
        """When the configuration in force was taken over, seconds UTC since 1970."""
        self.gauges: list[Gauge] = []

    def observe_sts(self, outcome: str, seconds: float) -> None:
        """Count an AssumeRole call."""
        self.sts_calls.add(outcome)
        self.sts_seconds.observe(seconds)

    def observe_lookup(self, outcome: str, seconds: float) -> None:
        """Count a look-up of names."""
        self.lookups.add(outcome)
        self.lookup_seconds.observe(seconds)

    def note_wrong_answer(self, flaw: str, *, is_suspicious: bool) -> None:
        """Count a datagram that is not a name server's answer; `is_suspicious`: one too many."""
        self.dns_wrong_answers.add(flaw)
        if is_suspicious:
            self.dns_forgeries_suspected.add()

    def count_denial(self, error: Refusal | Trouble) -> None:
        """Count a machine's request that is not answered with what it asks for."""
        (self.refusals if isinstance(error, Refusal) else self.troubles).add(error.kind)

    def note_reload(self, outcome: str, now: float) -> None:
        """Count a reload that was `done` or `faulty` at `now` (seconds UTC since 1970)."""
        self.reloads.add(outcome)
        self.is_reloaded = outcome == "done"
        if self.is_reloaded:
            self.configured_at = now

    def tallies(self) -> tuple[Tally, ...]:
        """Return all counters that are kept here."""
        return tuple(value for value in vars(self).values() if isinstance(value, Tally))

    def histograms(self) -> tuple[Histogram, ...]:
        """Return all histograms."""
        return tuple(value for value in vars(self).values() if isinstance(value, Histogram))

    def snapshot(self) -> Snapshot:
        """Return all values as they are now."""
        counters = (
            Family(t.name, t.documentation, t.labels, t.read(), is_counter=True) for t in self.tallies()
        )
        return Snapshot(
            (*counters, *(read_gauge(gauge) for gauge in self.gauges if not gauge.is_slow)),
            tuple((h.name, h.documentation, h.bounds, list(h.buckets), h.total) for h in self.histograms()),
            tuple(gauge for gauge in self.gauges if gauge.is_slow),
        )


def read_gauge(gauge: Gauge) -> Family:
    """Return a gauge with its values as they are now."""
    return Family(gauge.name, gauge.documentation, gauge.labels, dict(gauge.read()), gauge.is_counter)


def render(snapshot: Snapshot) -> bytes:
    """Return the snapshot in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    families = (*snapshot.families, *map(read_gauge, snapshot.slow_gauges))

    class Values(Collector):
        def collect(self) -> Iterable[Metric]:
            for family in families:
                kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
                metric = kind(family.name, family.documentation, labels=family.labels)
                for key, value in sorted(family.values.items()):
                    metric.add_metric(key, value)
                yield metric
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
