"""metrics: what a scrape reads, as prometheus_client's own parser sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from imds_proxy.errors import Refusal, RefusalKind, ResolutionError, Trouble
from imds_proxy.metrics import STS_SECONDS_BOUNDS, Gauge, Metrics, render

if TYPE_CHECKING:
    from collections.abc import Mapping


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return all samples by name and labels."""
    text = render(metrics.snapshot()).decode("utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters() -> None:
    """A counter has a sample per combination of labels, and one for no labels."""
    metrics = Metrics()
    metrics.requests.add("token", "200")
    metrics.requests.add("token", "200")
    metrics.requests.add("role", "404")
    metrics.hand_outs.add()
    samples = scrape(metrics)
    assert samples["imds_proxy_requests_total", (("path", "token"), ("status", "200"))] == 2
    assert samples["imds_proxy_requests_total", (("path", "role"), ("status", "404"))] == 1
    assert samples["imds_proxy_hand_outs_total", ()] == 1


def test_all_counters_are_scraped() -> None:
    """Every tally that the program counts in is in the text, with its documentation."""
    metrics = Metrics()
    for tally in metrics.tallies():
        tally.add(*("x" for _ in tally.labels))
    text = render(metrics.snapshot()).decode()
    for tally in metrics.tallies():
        assert f"# HELP {tally.name}_total {tally.documentation}" in text
    assert len(metrics.tallies()) == len({tally.name for tally in metrics.tallies()}) == 17


def test_what_can_happen_is_there_from_the_start() -> None:
    """A counter whose label's values are known begins with zeros: the first one is an increase."""
    metrics = Metrics()
    samples = scrape(metrics)
    for kind in RefusalKind:
        assert samples["imds_proxy_refusals_total", (("reason", kind),)] == 0
    assert samples["imds_proxy_hand_outs_total", ()] == 0
    assert samples["imds_proxy_sts_calls_total", (("outcome", "own_key_refused"),)] == 0
    assert not any(name == "imds_proxy_requests_total" for name, _ in samples)


def test_denials() -> None:
    """Refusals and troubles by their kinds; a refusal of a provider's own is one of its rules."""
    metrics = Metrics()
    for error in (
        Refusal("none of yours"),
        Refusal("x", kind=RefusalKind.STS),
        ResolutionError("y"),
        Trouble("z"),
    ):
        metrics.count_denial(error)
    samples = scrape(metrics)
    assert samples["imds_proxy_refusals_total", (("reason", "no_grant"),)] == 1
    assert samples["imds_proxy_refusals_total", (("reason", "sts"),)] == 1
    assert samples["imds_proxy_troubles_total", (("reason", "dns"),)] == 1
    assert samples["imds_proxy_troubles_total", (("reason", "other"),)] == 1


def test_reloads() -> None:
    """A faulty one leaves the time of the configuration in force; a good one mends what it spoiled."""
    metrics = Metrics()
    metrics.configured_at = 5.0
    metrics.note_reload("faulty", 7.0)
    assert (metrics.is_reloaded, metrics.configured_at) == (False, 5.0)
    metrics.note_reload("done", 9.0)
    assert (metrics.is_reloaded, metrics.configured_at) == (True, 9.0)


def test_nothing_happened_yet() -> None:
    """A scrape before the first request is well-formed."""
    samples = scrape(Metrics())
    assert samples["imds_proxy_sts_seconds_count", ()] == 0


@given(st.lists(st.floats(0, 60)))
def test_a_histogram(lengths: list[float]) -> None:
    """Buckets are cumulated: each has the calls that took so long at most; the sum is that of all."""
    metrics = Metrics()
    for seconds in lengths:
        metrics.observe_sts("success", seconds)
    samples = scrape(metrics)
    for bound in (*STS_SECONDS_BOUNDS, math.inf):
        label = "+Inf" if bound == math.inf else str(bound)
        counted = samples["imds_proxy_sts_seconds_bucket", (("le", label),)]
        assert counted == sum(seconds <= bound for seconds in lengths)
    assert samples["imds_proxy_sts_seconds_count", ()] == len(lengths)
    assert math.isclose(samples["imds_proxy_sts_seconds_sum", ()], sum(lengths), abs_tol=1e-6)
    assert samples.get(("imds_proxy_sts_calls_total", (("outcome", "success"),)), 0) == len(lengths)


def test_gauges_are_read_at_the_scrape() -> None:
    """A gauge is what its function says when somebody scrapes; a counter kept elsewhere is a counter."""
    metrics = Metrics()
    value = 1.0

    def read() -> Mapping[tuple[str, ...], float]:
        return {("1.2.3",): value}

    metrics.gauges.append(Gauge("imds_proxy_info", "The version.", ("version",), read))
    metrics.gauges.append(Gauge("imds_proxy_written", "Lines.", (), lambda: {(): 7.0}, is_counter=True))
    metrics.gauges.append(Gauge("process_threads", "Threads.", (), lambda: {(): value}, is_slow=True))
    value = 2.0
    samples = scrape(metrics)
    assert samples["imds_proxy_info", (("version", "1.2.3"),)] == 2
    assert samples["imds_proxy_written_total", ()] == 7
    assert samples["process_threads", ()] == 2


def test_a_snapshot_stands_still() -> None:
    """What is counted after the snapshot was taken is not in it: it is rendered on a thread."""
    metrics = Metrics()
    metrics.hand_outs.add()
    metrics.observe_sts("success", 1)
    snapshot = metrics.snapshot()
    before = render(snapshot)
    metrics.hand_outs.add()
    metrics.observe_sts("success", 1)
    assert render(snapshot) == before
    assert render(metrics.snapshot()) != before


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label(text: str) -> None:
    """Whatever a label's value is, the text is well-formed and has the value."""
    metrics = Metrics()
    metrics.provider_errors.add(text)
    labels = {labels for name, labels in scrape(metrics) if name == "imds_proxy_provider_errors_total"}
    assert labels == {(("provider", text),)}
