"""docs/metrics.md: the metrics of a running daemon, all of them and no others, with their labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

import pytest

from imds_proxy.metrics import Metrics
from imds_proxy.web.container import ContainerKind
from imds_proxy.web.people_paths import PeopleKind
from imds_proxy.web.tree import Kind
from tests.standins import manual
from tests.standins.daemon import running_daemon

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/metrics.md"
HEADINGS = {"Counters": "counter", "Gauges": "gauge", "Histograms": "histogram"}
ROWS = {
    row[0].strip("`"): (kind, row[1], row[2])
    for heading, kind in HEADINGS.items()
    for row in manual.rows(manual.section(PAGE, heading))
}
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


def test_caches_are_explained(scrape: str) -> None:
    """Every cache whose size is shown."""
    _, _, text = ROWS["imds_proxy_cache_entries"]
    shown = re.findall(r'^imds_proxy_cache_entries{cache="(\w+)"}', scrape, re.MULTILINE)
    assert len(shown) >= 12
    assert [one for one in shown if f"`{one}`" not in text] == []


def test_expressions_name_metrics_that_are_there() -> None:
    """What the page suggests to watch can be watched."""
    known = {
        *ROWS,
        *(name + end for name, (kind, _, _) in ROWS.items() for end in OF_A_HISTOGRAM if kind == "histogram"),
    }
    for page in manual.PAGES:
        assert set(re.findall(r"\bimds_proxy_(?!providers\b)[a-z_]*[a-z]\b", manual.read(page))) <= known | {
            "imds_proxy_providers"
        }
