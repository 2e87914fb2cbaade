"""The doctor on the firewall: tables are compared by what they do, not by numbers and counters."""

from __future__ import annotations

import json

import pytest

from imds_proxy.doctor.firewall import judge_table, parse_ruleset
from imds_proxy.doctor.programs import UnavailableError

TABLE = ("inet", "imds_proxy")


def listed(*verdicts: str, handle: int = 0, packets: int = 0, members: object = None) -> str:
    """Return what `nft -j list table` prints: a set, a chain, a rule for each verdict."""
    family = {"family": "inet", "table": "imds_proxy"}
    entries: list[object] = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "imds_proxy", "handle": handle}},
        {"set": {**family, "name": "seen", "flags": ["timeout"], "handle": handle, "elem": members}},
        {"chain": {**family, "name": "callers", "handle": handle, "hook": "input"}},
    ]
    for number, verdict in enumerate(verdicts):
        rule = [{"counter": {"packets": packets, "bytes": packets * 40}}, {verdict: None}]
        entries.append({"rule": {**family, "chain": "callers", "handle": handle + number, "expr": rule}})
    return json.dumps({"nftables": entries})


def test_equal() -> None:
    """Handles, counters and what packets put into a set make no difference."""
    wanted = parse_ruleset(listed("accept", "drop"))
    loaded = parse_ruleset(listed("accept", "drop", handle=7, packets=99, members=["10.0.0.1"]))
    assert judge_table(TABLE, wanted, loaded).level == "ok"


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (("drop",), "lacks something in chain callers"),
        (("accept", "drop", "return"), "has more in chain callers"),
        (("drop", "accept"), "another order"),
        ((), "lacks something in chain callers"),
    ],
)
def test_different(verdicts: tuple[str, ...], words: str) -> None:
    """A rule too few, too many or out of order is a fault; the chain is named."""
    found = judge_table(TABLE, parse_ruleset(listed("accept", "drop")), parse_ruleset(listed(*verdicts)))
    assert (found.level, words in found.fact) == ("fault", True)
    assert found.remedy


def test_not_loaded() -> None:
    """No table at all is a fault."""
    found = judge_table(TABLE, parse_ruleset(listed("drop")), {})
    assert (found.level, "is not loaded" in found.fact) == ("fault", True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": [{"rule": {}}]}', '{"nftables": [1]}'])
def test_unreadable(text: str) -> None:
    """What is no list of nft is told apart from an empty one."""
    with pytest.raises(UnavailableError):
        parse_ruleset(text)
