"""docs/metrics.md, the dashboard and the alerts: the metrics of a running daemon, with their labels."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from imds_proxy.metrics import Metrics
from imds_proxy.web.container import ContainerKind
from imds_proxy.web.edge.open_connections import DROP_REASONS
from imds_proxy.web.people_paths import PeopleKind
from imds_proxy.web.tree import Kind
from tests.standins import manual, promql
from tests.standins.daemon import running_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = "docs/metrics.md"
HEADINGS = {"Counters": "counter", "Gauges": "gauge", "Histograms": "histogram"}
ROWS = {
    row[0].strip("`"): (kind, row[1], row[2])
    for heading, kind in HEADINGS.items()
    for row in manual.rows(manual.section(PAGE, heading))
}
ALERTS: dict[str, Any] = yaml.safe_load((manual.ROOT / "examples" / "alerts.yaml").read_text("utf-8"))
DASHBOARD: dict[str, Any] = json.loads(
    (manual.ROOT / "examples" / "grafana-dashboard.json").read_text("utf-8")
)
MANUAL = "https://github.com/imds-proxy/imds-proxy/blob/main/"
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")

SETTINGS = {
    "listen": [{"address": "127.0.0.1:0"}],
    "provider": {"type": "simple", "grants": [{"account": "main", "role": "demo-role"}]},
    "accounts": {"main": {"id": "000123456789"}},
    "aws": {"region": "eu-central-1", "access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "none"},
    "admin": {"address": "127.0.0.1:0"},
}


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what a daemon that nobody has asked anything shows at /metrics."""
    folder: Path = tmp_path_factory.mktemp("daemon")
    with running_daemon(SETTINGS, folder) as daemon:
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{daemon.admin_url}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


def test_page_and_daemon_have_the_same_metrics(scrape: str) -> None:
    """Names and kinds, in both directions."""
    shown = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape, re.MULTILINE))
    assert {name: kind for name, (kind, _, _) in ROWS.items()} == shown


def test_labels_are_the_daemons(scrape: str) -> None:
    """Those of counters as they are declared, those of gauges as they are shown."""
    labels = {f"{tally.name}_total": list(tally.labels) for tally in Metrics().tallies()}
    for name, shown in re.findall(r"^(\w+)\{(.*)\} ", scrape, re.MULTILINE):
        labels[name] = re.findall(r'(\w+)="', shown)
    for name, (kind, cell, _) in ROWS.items():
        if kind != "histogram":
            assert re.findall(r"`(\w+)`", cell) == labels.get(name, []), name


def test_values_of_labels_are_explained() -> None:
    """Every kind of path, and every outcome that the metrics' own texts name."""
    _, _, of_requests = ROWS["imds_proxy_requests_total"]
    assert [kind for kind in (*Kind, *ContainerKind) if f"`{kind}`" not in of_requests] == []
    _, _, of_people = ROWS["imds_proxy_people_requests_total"]
    assert [kind for kind in PeopleKind if f"`{kind}`" not in of_people] == []
    for tally in Metrics().tallies():
        if tally.labels in {("outcome",), ("reason",)}:
            _, _, text = ROWS[f"{tally.name}_total"]
            assert tally.values
            assert [one for one in tally.values if f"`{one}`" not in text] == []


def test_reasons_of_drops_are_explained() -> None:
    """Each has a sentence, in order, and no other has one."""
    rows = manual.rows(manual.section(PAGE, "Why connections are dropped"))
    assert [row[0].strip("`") for row in rows] == list(DROP_REASONS)


def test_caches_are_explained(scrape: str) -> None:
    """Every cache whose size is shown."""
    _, _, text = ROWS["imds_proxy_cache_entries"]
    shown = re.findall(r'^imds_proxy_cache_entries{cache="(\w+)"}', scrape, re.MULTILINE)
    assert len(shown) >= 12
    assert [one for one in shown if f"`{one}`" not in text] == []


def test_every_name_is_a_metric() -> None:
    """No page names a metric that is not there."""
    known = {
        *ROWS,
        *(name + end for name, (kind, _, _) in ROWS.items() for end in OF_A_HISTOGRAM if kind == "histogram"),
    }
    for page in manual.PAGES:
        assert set(re.findall(r"\bimds_proxy_(?!providers\b)[a-z_]*[a-z]\b", manual.read(page))) <= known | {
            "imds_proxy_providers"
        }


# --- expressions -----------------------------------------------------------------------------------


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where an expression stands, and the expression."""
    for row in manual.rows(manual.section(PAGE, "What to watch")):
        yield PAGE, row[0].strip("`")
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def test_expressions_ask_for_what_is_there(scrape: str) -> None:
    """Metrics, their labels, and the values of labels that are there from the start."""
    offered = promql.offered(scrape)
    for tally in Metrics().tallies():
        offered.setdefault(f"{tally.name}_total", {label: set() for label in tally.labels})
    found = list(expressions())
    assert len(found) > 80
    for where, expression in found:
        asked = promql.read_expression(expression)
        assert asked, where
        for selector in asked:
            labels = {**offered.get(selector.metric, {}), "job": set(), "instance": set()}
            if selector.metric != "up":
                assert selector.metric in offered, f"{where}: {selector.metric}"
            for label, values in selector.labels.items():
                assert label in labels, f"{where}: {selector.metric} has no {label}"
                missing = values - labels[label] if labels[label] and label != "le" else set()
                assert missing == set(), f"{where}: {label} is never {missing}"


def test_a_reader_of_expressions_that_finds_faults() -> None:
    """What the test above would miss is no expression: unknown functions, braces that are not closed."""
    (one,) = promql.read_expression('sum by (path) (rate(x_total{status=~"4.."}[5m])) > 0')
    assert (one.metric, one.labels) == ("x_total", {"status": {"4.."}, "path": set()})
    (one,) = promql.read_expression('x{a="b|c", d=~"e|f"}')
    assert one.labels == {"a": {"b|c"}, "d": {"e", "f"}}
    for faulty in ("summ(x)", "sum(x", 'x{a="b"', "x)", "x{a}", 'x{a="b"} y'):
        with pytest.raises(ValueError, match="expression"):
            promql.read_expression(faulty)


def test_every_metric_is_on_the_dashboard() -> None:
    """The dashboard leaves nothing out that is measured."""
    shown = {
        re.sub("_(bucket|sum|count)$", "", selector.metric)
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        for selector in promql.read_expression(target["expr"])
    }
    assert sorted(ROWS.keys() - shown) == []


def test_the_dashboard_can_be_imported() -> None:
    """Panels have numbers of their own, do not overlap, and take their data from the variable."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        fields = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not fields & taken, panel["title"]
        taken |= fields
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "job", "instance"}


def test_alerts_say_what_to_do() -> None:
    """Each has a name of its own, how bad it is, what it means, and where to read on."""
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 20
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        page, _, anchor = rule["annotations"]["runbook_url"].removeprefix(MANUAL).partition("#")
        assert anchor in manual.anchors(page), rule["alert"]
    assert sum("runbook.md#" in rule["annotations"]["runbook_url"] for rule in rules) > len(rules) / 2


def test_reasons_of_dropped_connections() -> None:
    """The page explains each reason for which the daemon ends a connection, and no other."""
    rows = manual.rows(manual.section("docs/metrics.md", "Why connections are dropped"))
    assert [reason.strip("`") for reason, _ in rows] == sorted(DROP_REASONS)
