"""web/token_desk: what is an order for a workload's token, and what is not."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from imds_proxy.web.token_desk import parse_order

NOW = 1_800_000_000.7
GOOD = {"workload": "Web.pods.example", "networks": ["10.77.0.0/16", "::ffff:10.0.0.5"], "seconds": 60}


def test_an_order() -> None:
    """The name in lower case, mapped addresses as IPv4, the end in whole seconds."""
    claims = parse_order(json.dumps(GOOD), NOW)
    assert (claims.workload, claims.end) == ("web.pods.example", 1_800_000_060)
    assert claims.networks == (ip_network("10.77.0.0/16"), ip_network("10.0.0.5/32"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"workload": "10.0.0.5"}, "workload: reads like a host name"),
        ({"workload": 7}, "workload: reads like a host name"),
        ({"networks": "10.0.0.0/8"}, "networks: not a list of texts"),
        ({"networks": [10]}, "networks: not a list of texts"),
        ({"networks": ["10.0.0.1/8"]}, "bits set behind its mask"),
        ({"networks": ["10.0.0.1"] * 17}, "networks: 16 at most"),
        ({"seconds": 59}, "seconds: 60 to 31536000"),
        ({"seconds": 365 * 86400 + 1}, "seconds: 60 to 31536000"),
        ({"seconds": 60.0}, "seconds: 60 to 31536000"),
        ({"seconds": True}, "seconds: 60 to 31536000"),
        ({"seconds": "60"}, "seconds: 60 to 31536000"),
    ],
)
def test_what_is_none(changes: dict[str, object], text: str) -> None:
    """Each fault says what to write instead."""
    with pytest.raises(ValueError, match=text):
        parse_order(json.dumps(GOOD | changes), NOW)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '"x"', "{", '{"workload": "web"}'])
def test_garbage(text: str) -> None:
    """What is no order at all."""
    with pytest.raises(ValueError, match="not a JSON object with workload, networks and seconds"):
        parse_order(text, NOW)
