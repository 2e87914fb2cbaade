"""The admin pages: /healthz, /readyz, /metrics, and what only the admin socket has."""

from __future__ import annotations

import json
import platform
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.standins.daemon import running_daemon
from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.processes import REPOSITORY
from tests.standins.wire import PATIENCE, ROLES_PATH, WireAnswer, WireCaller, WireConnection
from tests.web.machines import DENIED, FOO, NAMELESS, OUTSIDE, caller_of, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from tests.standins.daemon import Daemon


class Administered:
    """A daemon with admin pages, and its STS."""

    def __init__(self, daemon: Daemon, sts: LittleSts, path: Path) -> None:
        self.daemon = daemon
        self.sts = sts
        self.path = path
        host, _, port = daemon.admin_url.removeprefix("http://").rpartition(":")
        self.pages = WireCaller((host, int(port)))

    def ask_socket(self, target: str) -> WireAnswer:
        """Return the answer to a GET over the admin socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.path))
            sock.sendall(self.pages.render("GET", target))
            return WireConnection(sock).read_answer()

    def metrics(self) -> dict[str, Metric]:
        """Return what Prometheus' own parser makes of /metrics, by name."""
        return {
            family.name: family for family in text_string_to_metric_families(self.pages.get("/metrics").text)
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a sample; 0 where it is not there yet."""
        samples = [sample for family in self.metrics().values() for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and one.labels == labels)


@pytest.fixture(scope="module")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    """A daemon for the tests of this module."""
    folder = tmp_path_factory.mktemp("administered")
    path = folder / "admin.sock"
    with running_little_sts() as sts:
        admin = {"address": "127.0.0.1:0", "socket": str(path)}
        with running_daemon(site_settings(sts, admin=admin), folder) as daemon:
            yield Administered(daemon, sts, path)


def test_healthz(administered: Administered) -> None:
    """200 as long as the process lives."""
    answer = administered.pages.get("/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")


def test_readyz(administered: Administered) -> None:
    """200 while it listens and is configured, DNS and STS being details."""
    answer = administered.pages.get("/readyz")
    assert answer.status == 200
    assert json.loads(answer.body) == {"status": "ready", "own_key": "no trouble known"}


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_readyz_with_a_key_that_is_refused(code: str, administered: Administered) -> None:
    """Our own key refused is in the detail, and no reason to empty a balancer; it goes with its cause."""
    administered.sts.refuse(403, code)
    try:
        assert administered.ask_socket(f"/explain?address={FOO}&assume=1").status == 200
        answer = administered.pages.get("/readyz")
        assert answer.status == 200
        assert code in json.loads(answer.body)["own_key"]
        assert administered.pages.get("/healthz").status == 200
    finally:
        administered.sts.accept()
    assert administered.ask_socket(f"/explain?address={FOO}&assume=1").status == 200
    assert json.loads(administered.pages.get("/readyz").body)["own_key"] == "no trouble known"


def test_metrics_are_what_prometheus_reads(administered: Administered) -> None:
    """The text format with its version; every metric has a known prefix, a help text, and a type."""
    answer = administered.pages.get("/metrics")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    families = administered.metrics()
    assert len(families) >= 15
    for name, family in families.items():
        assert re.fullmatch("(imds_proxy|process)_[a-z_]+", name)
        assert family.documentation.strip()
        assert family.type in {"counter", "gauge", "histogram"}


def test_metrics_are_in_the_manual(administered: Administered) -> None:
    """Every metric's name stands in the manual."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    manual = "\n".join(page.read_text() for page in pages)
    if "imds_proxy_requests" not in manual:
        pytest.skip("the manual has no list of metrics")
    assert [name for name in administered.metrics() if name not in manual] == []


def test_requests_are_counted(administered: Administered) -> None:
    """By what the path asks for and by status; no label is anything that a caller sent."""
    caller = caller_of(administered.daemon)
    token = caller.fetch_token()
    role = caller.fetch_role(token)

    def counts() -> list[float]:
        return [
            administered.value("imds_proxy_requests_total", path=path, status=status)
            for path, status in (("role", "200"), ("role", "404"), ("unknown", "404"), ("unknown", "403"))
        ]

    before = counts()
    caller.get(ROLES_PATH + role, token)
    caller.get(ROLES_PATH + "another", token)
    caller.get("/nothing?secret=1", token)
    caller_of(administered.daemon, OUTSIDE).put_token("60")
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 1, 1, 1]
    assert "secret" not in administered.pages.get("/metrics").text


def test_decisions_are_counted(administered: Administered) -> None:
    """Verdicts by outcome, hand-outs, AssumeRoles with their outcome and how long they took."""
    for source in (DENIED, NAMELESS):
        caller = caller_of(administered.daemon, source)
        caller.get(ROLES_PATH, caller.fetch_token())
    caller = caller_of(administered.daemon)
    token = caller.fetch_token()
    caller.get(ROLES_PATH + caller.fetch_role(token), token)
    for outcome in ("granted", "refused", "trouble"):
        assert administered.value("imds_proxy_verdicts_total", outcome=outcome) >= 1
    assert administered.value("imds_proxy_hand_outs_total") >= 1
    assert administered.value("imds_proxy_sts_calls_total", outcome="success") >= 1
    calls = sum(
        one.value
        for one in administered.metrics()["imds_proxy_sts_calls"].samples
        if one.name.endswith("_total")
    )
    assert administered.value("imds_proxy_sts_seconds_count") == calls
    assert administered.value("imds_proxy_credentials_held") >= 1
    (build,) = administered.metrics()["imds_proxy_build_info"].samples
    assert build.labels["version"] == "0.1.0"
    assert build.labels["python"] == platform.python_version()
    assert build.labels["event_loop"] in {"asyncio", "uvloop"}


def test_the_admin_address_is_not_for_explanations(administered: Administered) -> None:
    """Whoever may see metrics may not ask about callers, let alone call STS."""
    calls = len(administered.sts.calls)
    answer = administered.pages.get(f"/explain?address={FOO}&assume=1")
    assert answer.status == 404
    assert len(administered.sts.calls) == calls


def test_the_admin_address_makes_no_tokens(administered: Administered) -> None:
    """Whoever may see metrics may not become a workload; callers may not either."""
    order = '{"workload": "web", "networks": [], "seconds": 60}'
    for caller in (administered.pages, caller_of(administered.daemon)):
        head = caller.render("POST", "/token", ("Content-Length", str(len(order))))
        assert caller.exchange(head + order.encode()).status in {404, 405}
    assert "minted" not in administered.daemon.log


def test_the_admin_address_serves_no_metadata(administered: Administered) -> None:
    """The pages are for operators, the tree for callers, and neither is found at the other's address."""
    assert administered.pages.put_token("60").status in {404, 405}
    assert administered.pages.get(ROLES_PATH).status == 404
    caller = caller_of(administered.daemon)
    for page in ("/healthz", "/readyz", "/metrics", "/explain"):
        assert caller.get(page, caller.fetch_token()).status == 404


@pytest.mark.parametrize("query", ["", "?address=", "?address=tuvfoo42", "?address=10.0.0.0/8", "?assume=1"])
def test_explain_without_an_address(query: str, administered: Administered) -> None:
    """400 in words."""
    answer = administered.ask_socket(f"/explain{query}")
    assert (answer.status, answer.text) == (400, "address: not an IP address\n")


def test_a_scrape_under_load(administered: Administered) -> None:
    """Metrics are consistent while callers come and go: no scrape fails."""
    caller = caller_of(administered.daemon)
    with caller.connected() as connection:
        for _ in range(20):
            connection.send(caller.render("GET", "/latest/"))
            assert administered.value("imds_proxy_connections_open") >= 1
            assert connection.read_answer().status == 401
