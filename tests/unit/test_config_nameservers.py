"""Name servers among callers: the system's at `check`, and none in what we show as a sample."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from imds_proxy import cli
from imds_proxy.config.network_checks import check, warn_of_system_nameservers
from imds_proxy.yaml_source import read_source
from tests.standins import manual

if TYPE_CHECKING:
    from pathlib import Path

WIDE = """
listen: [{address: 127.0.0.1:0, callers: [0.0.0.0/0, "::/0"]}]
provider: {type: simple, grants: [{account: main, role: demo-role}]}
accounts: {main: {id: "000123456789"}}
aws: {region: eu-central-1}
"""
RESOLV_CONF = """
# nameserver 10.1.1.1
search valid.example
nameserver 10.77.0.3
nameserver
nameserver fe80::3%lan0
nameserver 127.0.0.53
nameserver nonsense
options edns0
"""


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    """Return a file with that text."""
    file = folder / name
    file.write_text(text)
    return file


def test_the_systems_servers_are_looked_at(tmp_path: Path) -> None:
    """Each that is among callers has a warning at its line; loopback has none, nor what is no address."""
    source = read_source(write(tmp_path, WIDE))
    file = write(tmp_path, RESOLV_CONF, "resolv.conf")
    assert [str(fault) for fault in warn_of_system_nameservers(source, file)] == [
        f"{file}:{line}: dns.nameservers: warning: not set, so {server} is asked; it is in "
        "listen[0].callers: any of those could forge its answers; ask one on another network"
        for line, server in ((4, "10.77.0.3"), (6, "fe80::3%lan0"))
    ]


@pytest.mark.parametrize("more", ["dns: {nameservers: [127.0.0.53]}", "deny: []"])
def test_they_are_asked_only_where_no_others_are_set(tmp_path: Path, more: str) -> None:
    """With `dns.nameservers` the system's do not matter, and a missing file names none."""
    source = read_source(write(tmp_path, WIDE + more))
    file = write(tmp_path, RESOLV_CONF, "resolv.conf")
    assert bool(list(warn_of_system_nameservers(source, file))) is (more == "deny: []")
    assert list(warn_of_system_nameservers(source, tmp_path / "missing")) == []


def test_check_says_so(tmp_path: Path) -> None:
    """Of the system that the tests run on, whatever its servers are."""
    file = write(tmp_path, WIDE)
    result = CliRunner().invoke(cli.main, ["check", "--config", str(file)])
    assert result.exit_code == 0
    warnings = [str(fault) for fault in warn_of_system_nameservers(read_source(file))]
    assert [line for line in result.stderr.splitlines() if "dns.nameservers" in line] == warnings


SAMPLES = {
    **{
        str(path.relative_to(manual.ROOT)): path.read_text("utf-8")
        for path in sorted((manual.ROOT / "examples").rglob("*.yaml"))
    },
    "packaging/deb": re.sub(
        r"^# (?=\S+:| )", "", manual.read("packaging/deb/imds-proxy.yaml"), flags=re.MULTILINE
    ),
    **{
        str(block): block.text
        for page in manual.PAGES
        for block in manual.blocks(page)
        if block.kind == "yaml"
    },
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_sample_has_one(tmp_path: Path, sample: str) -> None:
    """Whoever begins with one of ours does not begin with that."""
    source = read_source(write(tmp_path, SAMPLES[sample]))
    assert [fault.key for fault in check(source) if fault.key.startswith("dns.")] == []


def test_there_are_samples_with_name_servers() -> None:
    """The test before this one has something to look at."""
    assert len([text for text in SAMPLES.values() if "nameservers:" in text]) >= 4
