"""The alert rules, read and evaluated by Prometheus' own promtool."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.manual import ROOT
from tests.system.lab.debian_suites import SUITES, unpack_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

RULES = ROOT / "examples" / "alerts.yaml"
GATEWAY = 'job="imds-proxy", instance="gw1:9338"'


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Return Debian's promtool, not installed: its package would start a server at the next boot."""
    reasons = []
    for suite in SUITES:
        try:
            return unpack_package("prometheus", suite) / "usr" / "bin" / "promtool"
        except ClientUnavailableError as error:
            reasons.append(str(error))
    pytest.skip("; ".join(reasons))


def run(promtool: Path, *arguments: str | Path) -> str:
    """Return what promtool says. Raises AssertionError with it when it is not content."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_rules(promtool: Path) -> None:
    """promtool finds nothing wrong, and each of them."""
    count = sum(len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"])
    assert f"SUCCESS: {count} rules found" in run(promtool, "check", "rules", RULES)


SERIES = {
    "ImdsProxyDown": (f"up{{{GATEWAY}}}", "1x10 0x20"),
    "ImdsProxyReloadFailed": (f"imds_proxy_last_reload_success{{{GATEWAY}}}", "1x10 0x20"),
    "ImdsProxyOwnKeyRefused": (f"imds_proxy_own_key_refused{{{GATEWAY}}}", "0x10 1x20"),
    "ImdsProxyCredentialsEnding": (
        f"imds_proxy_soonest_wanted_expiry_seconds{{{GATEWAY}}}",
        "1800-60x30",
    ),
    "ImdsProxyStsTrouble": (
        f'imds_proxy_sts_calls_total{{{GATEWAY}, outcome="trouble"}}',
        "0x10 0+5x20",
    ),
    "ImdsProxyRenewalsRefused": (f"imds_proxy_renewals_refused_total{{{GATEWAY}}}", "0x20 1x10"),
    "ImdsProxyDnsForgery": (f"imds_proxy_dns_forgery_suspected_total{{{GATEWAY}}}", "0x20 1x10"),
    "ImdsProxyProviderFails": (
        f'imds_proxy_provider_errors_total{{{GATEWAY}, provider="machines"}}',
        "0x10 0+1x20",
    ),
    "ImdsProxyMachinesRefused": (f'imds_proxy_refusals_total{{{GATEWAY}, reason="no_name"}}', "0+10x30"),
    "ImdsProxyAuditBehind": (f"imds_proxy_audit_behind{{{GATEWAY}}}", "0x10 1x20"),
    "ImdsProxyMemoryAttack": (
        f'imds_proxy_connections_dropped_total{{{GATEWAY}, reason="heads"}}',
        "0x10 0+20x20",
    ),
    "ImdsProxyConnectionFlood": (
        f'imds_proxy_connections_dropped_total{{{GATEWAY}, reason="rate"}}',
        "0x10 0+1000x20",
    ),
    "ImdsProxyGuessing": (f'imds_proxy_logins_total{{{GATEWAY}, outcome="refused"}}', "0+20x30"),
}
"""For some alerts a series, a value a minute, that ends in what the alert is for."""


def test_they_fire_when_they_should(promtool: Path, tmp_path: Path) -> None:
    """Each at the end of what it is for and not at its beginning; nothing fires of itself."""
    rules = {
        rule["alert"]: rule
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    }
    tests: list[dict[str, Any]] = []
    for name, (series, values) in SERIES.items():
        alerts = {"eval_time": "1m", "alertname": name, "exp_alerts": []}
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": series, "values": values}],
                "alert_rule_test": [alerts],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                        "eval_time": "29m",
                        "exp_samples": [{"value": 1, "labels": "{}"}],
                    },
                    {
                        "expr": f'count(ALERTS{{alertname!="{name}", alertstate="firing"}})',
                        "eval_time": "29m",
                        "exp_samples": [],
                    },
                ],
            }
        )
    assert SERIES.keys() <= rules.keys()
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    assert "SUCCESS" in run(promtool, "test", "rules", file)
