"""The doctor on what gives a host the metadata addresses: unit or networkd's files against the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from imds_proxy.doctor.carriers import (
    ADDRESS_UNIT,
    extended_network_file,
    judge_networkd_files,
    judge_unit,
    read_networkd_files,
)
from imds_proxy.doctor.units import Unit

if TYPE_CHECKING:
    from pathlib import Path

RENDERED = """\
[Service]
Type=oneshot
ExecStart=/sbin/ip address replace 169.254.169.254/32 dev lo
"""
GOOD = Unit(ADDRESS_UNIT, "loaded", "active", "enabled", fragment="# a comment\n" + RENDERED)
NETWORK = "[Match]\nName=lo\n[Network]\nAddress=169.254.169.254/32\n"
DROP_IN = "10-lan0.network.d/imds-proxy.conf"


def test_all_well() -> None:
    """A unit as the settings make it is well, comments aside."""
    (finding,) = judge_unit(GOOD, RENDERED)
    assert (finding.level, finding.fact) == ("ok", "active, enabled")


@pytest.mark.parametrize(
    "unit",
    [
        replace(GOOD, load="not-found", active="inactive", enabled=""),
        replace(GOOD, active="inactive", enabled="disabled", fragment="ExecStart=/bin/true"),
    ],
)
def test_a_unit_that_is_not_used(unit: Unit) -> None:
    """The addresses may come another way: nothing is said."""
    assert judge_unit(unit, RENDERED) == []


@pytest.mark.parametrize(
    ("unit", "rendered", "fact", "remedy"),
    [
        (replace(GOOD, fragment=RENDERED.replace("lo", "lan0")), RENDERED, "ExecStart", "render network"),
        (replace(GOOD, active="inactive", fragment="[Service]\n"), RENDERED, "ExecStart, Type", "restart"),
        (replace(GOOD, enabled="disabled"), RENDERED, "does not start at boot", "systemctl enable"),
        (GOOD, None, "the settings make no such unit", "disable --now"),
    ],
)
def test_a_unit_that_is_not_right(unit: Unit, rendered: str | None, fact: str, remedy: str) -> None:
    """What differs is named, and what to type."""
    (finding,) = judge_unit(unit, rendered)
    assert finding.level == "warning"
    assert fact in finding.fact
    assert remedy in (finding.remedy or "")


def test_files_of_networkd(tmp_path: Path) -> None:
    """Only files that `render network` makes are looked at; each is told of by its path."""
    (tmp_path / "10-lan0.network.d").mkdir()
    for name, text in (("50-imds-proxy.network", NETWORK), (DROP_IN, "[Address]\n"), ("10-lan0.network", "")):
        (tmp_path / name).write_text(text)
    present = read_networkd_files(tmp_path)
    assert present == {"50-imds-proxy.network": NETWORK, DROP_IN: "[Address]\n"}
    assert extended_network_file(present) == "10-lan0.network"
    assert extended_network_file(["50-imds-proxy.network"]) is None
    rendered = {"50-imds-proxy.network": NETWORK, DROP_IN: "[Address]\nAddress=fd00:ec2::254/128\n"}
    drop_in, network = judge_networkd_files(present, rendered)
    assert (network.level, network.title) == ("ok", "/etc/systemd/network/50-imds-proxy.network")
    assert (drop_in.level, "Address" in drop_in.fact) == ("warning", True)
    assert "--network-file 10-lan0.network" in (drop_in.remedy or "")
    (stale,) = judge_networkd_files({"50-imds-proxy.netdev": "[NetDev]\n"}, rendered)
    assert (stale.level, (stale.remedy or "").startswith("rm ")) == ("warning", True)


def test_no_folder(tmp_path: Path) -> None:
    """A host without networkd has no such files."""
    assert read_networkd_files(tmp_path / "missing") == {}
