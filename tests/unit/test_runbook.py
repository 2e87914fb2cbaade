"""The runbook names what there is: commands, options, metrics, settings, texts of the log."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from imds_proxy import cli
from imds_proxy.config import Settings
from imds_proxy.rendering import nftables
from tests.standins import manual
from tests.standins.manual import ROOT

PAGE = "docs/runbook.md"
TEXT = manual.read(PAGE)
SOURCE = "\n".join(
    path.read_text("utf-8")
    for folder in ("imds_proxy", "providers/imds_proxy_providers")
    for path in sorted((ROOT / folder).rglob("*.py"))
)
METRICS_PAGE = manual.read("docs/metrics.md")

OUR_TEXTS = (
    "cannot listen on",
    "(who has it: ss -ltnp)",
    "(this host does not have the address: ip address add ...)",
    "it is configured, but systemd did not pass it",
    "unknown key; known here:",
    "tokens.key_file is not set: tokens end with this process",
    "tokens.workload_key_file is not set: workloads' tokens end with this process",
    "is of the old kind",
    "no listener lets this address in",
    "is link-local",
    "no PTR record",
    "no PTR name is allowed and leads back",
    "is in no allowed domain",
    "does not lead back to",
    "the address is denied",
    "the credentials at hand are served to their end",
    "no trouble known",
    "nothing known of",
    "configuration kept:",
    "is not open yet",
    "is no longer configured",
    "cannot accept a connection:",
    "confirmed:",
    "grant:",
)
"""What the page tells to look for, of the lines that this program writes."""


def test_there_are_twenty_three_entries() -> None:
    """Each entry has its number, in order, and the table at the top leads to what a machine sees."""
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", TEXT, flags=re.MULTILINE)]
    assert numbers == list(range(1, 24))
    table = TEXT.partition("## 1.")[0]
    assert {int(number) for number in re.findall(r"\[(\d+)\]\(#", table)} == {*range(1, 18), 21, 22}


@pytest.mark.parametrize("text", OUR_TEXTS)
def test_the_lines_to_look_for_are_written_by_the_program(text: str) -> None:
    """Each is on the page, and in the source."""
    assert text in TEXT
    assert text in SOURCE


def test_commands_and_options_exist() -> None:
    """Every `imds-proxy ...` on the page, in blocks and in text, is a command with these options."""
    found = re.findall(r"^imds-proxy ([^\n]+)$|`imds-proxy ([^`\n]+)`", TEXT, flags=re.MULTILINE)
    assert len(found) > 14
    for words in (shlex.split(block or inline, comments=True) for block, inline in found):
        command: click.Command = cli.main.commands[words[0]]
        while isinstance(command, click.Group):
            words = words[1:]
            command = command.commands[words[0]]
        known = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, words


def test_metrics_and_their_labels_exist() -> None:
    """Every metric on the page is in docs/metrics.md, which a test holds to the program's own."""
    names = set(re.findall(r"\b(?:imds_proxy|process)_[a-z_]+\b", TEXT)) - {"imds_proxy"}
    assert len(names) > 8
    known = set(re.findall(r"`((?:imds_proxy|process)_[a-z_]+)`", METRICS_PAGE))
    assert names <= known, names - known
    for label, value in re.findall(r'_total\{(\w+)="(\w+)"\}', TEXT):
        assert f"`{label}`" in METRICS_PAGE
        assert f"`{value}`" in METRICS_PAGE, value


def test_counters_of_the_firewall_exist() -> None:
    """Each counter that is to be read is in the rules."""
    counters = set(re.findall(r"`counter (\w+)` grows", TEXT))
    assert len(counters) > 4
    assert counters <= set(nftables.COUNTERS)


def test_settings_exist() -> None:
    """Each dotted setting that is to be changed is one."""
    sections = Settings.model_fields
    dotted = re.findall(r"`(\w+)\.(\w+)(?::[^`]*)?`", TEXT)
    assert len(dotted) > 8
    for section, key in dotted:
        if section in sections:
            model = sections[section].annotation
            assert isinstance(model, type), section
            assert key in getattr(model, "model_fields", {}), (section, key)
