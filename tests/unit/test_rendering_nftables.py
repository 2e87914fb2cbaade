"""The firewall's text: what is made of which settings. What the kernel does is in the system tests."""

from __future__ import annotations

import re

import pytest

from imds_proxy.config import Settings
from imds_proxy.rendering import nftables
from imds_proxy.rendering.files import RenderingError

CALLERS = ["10.77.0.0/16", "fd77::/32"]
FORGED_DNS = (
    'iifname {{ "lan0" }} fib daddr type local meta l4proto {{ tcp, udp }} th sport {{ {ports} }} '
    "fib saddr . iif oif missing counter name forged_dns drop"
)


def rules_of(*listen: dict[str, object], **sections: object) -> dict[str, list[str]]:
    """Return each chain's rules. The listeners' callers are on lan0 unless the settings say otherwise."""
    listeners = [{"provider": "machines", "callers": CALLERS, **listener} for listener in listen]
    tree = {"listen": listeners, "network": {"interfaces": ["lan0"]}, **sections}
    text = nftables.render_table(Settings.model_validate(tree))
    chains = re.findall(r"^    chain (\w+) \{.*?\n(.*?)^    \}", text, flags=re.MULTILINE | re.DOTALL)
    return {name: [line.strip() for line in rules.splitlines()] for name, rules in chains}


def test_the_file_replaces_its_own_table_and_nothing_else() -> None:
    """It names one table, makes sure that it exists, deletes it and makes it anew, in one go."""
    settings = Settings.model_validate(
        {
            "listen": [{"address": "169.254.169.254", "callers": CALLERS, "provider": "machines"}],
            "network": {"interfaces": ["lan0"]},
        }
    )
    (file,) = nftables.render(settings)
    assert (file.name, file.mode) == ("imds-proxy.nft", 0o644)
    lines = [line for line in file.text.splitlines() if "table" in line and not line.startswith("#")]
    assert lines == ["table inet imds_proxy", "delete table inet imds_proxy", "table inet imds_proxy {"]
    assert "flush" not in file.text


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"listen": [{"address": "169.254.169.254", "callers": [], "provider": "m"}]}, "network.interfaces"),
        ({"network": {"interfaces": ["lan0"]}}, "listen"),
    ],
)
def test_what_is_missing_is_named(sections: dict[str, object], key: str) -> None:
    """Without interfaces, or without a listener for machines, there is no firewall, and the key is named."""
    with pytest.raises(RenderingError, match=rf"^{re.escape(key)}\b"):
        nftables.render(Settings.model_validate(sections))


def test_a_packet_is_judged_in_this_order() -> None:
    """First by which interface it came and whether it belongs there, then who sent it and from how far."""
    rules = rules_of({"address": "169.254.169.254", "callers_except": ["10.77.0.9"]})["listener_1"]
    assert rules == [
        'iifname != { "lan0" } counter name wrong_interface drop',
        "fib saddr . iif oif missing counter name forged_source drop",
        "ip saddr { 10.77.0.9/32 } counter name excepted drop",
        "ip saddr != { 10.77.0.0/16 } counter name not_a_caller drop",
        "ip ttl != { 64, 128, 255 } counter name too_far drop",
        "counter name let_in accept",
    ]


@pytest.mark.parametrize("callers", [[], ["fd77::/32"]])
def test_without_callers_nobody_is_let_in(callers: list[str]) -> None:
    """A list that is empty, or has nothing of the listener's family, allows nobody."""
    rules = rules_of({"address": "169.254.169.254", "callers": callers})["listener_1"]
    assert "meta nfproto ipv4 counter name not_a_caller drop" in rules


def test_everybody_and_overlaps_can_be_callers() -> None:
    """nft knows no set that has everything, and takes no network inside another."""
    everybody = rules_of({"address": "169.254.169.254", "callers": ["0.0.0.0/0"]})["listener_1"]
    assert not [rule for rule in everybody if "saddr !=" in rule]
    overlapping = rules_of({"address": "169.254.169.254", "callers": ["10.77.0.0/16", "10.77.1.0/24"]})
    assert "ip saddr != { 10.77.0.0/16 } counter name not_a_caller drop" in overlapping["listener_1"]


def test_the_hop_limit_is_how_far_callers_may_be_and_answers_go() -> None:
    """With `hop_limit: 2` one router may be in between; container credentials have no such limit."""
    chains = rules_of(
        {"address": "169.254.169.254", "hop_limit": 2},
        {"address": "[fd00:ec2::254]:80"},
        {"address": "169.254.170.2", "container": {}},
    )
    assert "ip ttl != { 63-64, 127-128, 254-255 } counter name too_far drop" in chains["listener_1"]
    assert "ip6 hoplimit != { 64, 128, 255 } counter name too_far drop" in chains["listener_2"]
    assert not [rule for rule in chains["listener_3"] if "too_far" in rule]
    assert chains["answering"][1:] == [
        "ip saddr 169.254.169.254 tcp sport 80 ip ttl set 2 accept",
        "ip6 saddr fd00:ec2::254 tcp sport 80 ip6 hoplimit set 1 accept",
    ]


def test_the_largest_hop_limit_can_be_written() -> None:
    """The ranges of times to live never meet."""
    rules = rules_of({"address": "169.254.169.254", "hop_limit": 64})["listener_1"]
    assert "ip ttl != { 1-64, 65-128, 192-255 } counter name too_far drop" in rules


def test_one_address_comes_before_all() -> None:
    """A listener on one address has its own rules also where another is on the same port of all addresses."""
    chains = rules_of({"address": "[::]:8080"}, {"address": "10.77.0.1:8080", "callers": []})
    assert chains["arriving"][1:] == [
        "iif lo accept",
        FORGED_DNS.format(ports="53"),
        "ip daddr 10.77.0.1 tcp dport 8080 goto listener_2",
        "fib daddr type local tcp dport 8080 goto listener_1",
    ]
    for family in ("ip saddr != { 10.77.0.0/16 }", "ip6 saddr != { fd77::/32 }"):
        assert f"{family} counter name not_a_caller drop" in chains["listener_1"]


def test_no_caller_answers_for_a_name_server() -> None:
    """Packets from a name server's port must come by the interface that leads to their sender."""
    servers = ["10.78.0.3", "10.78.0.4:5353", "[fd78::3]:5354"]
    chains = rules_of({"address": "169.254.169.254"}, dns={"nameservers": servers})
    assert chains["arriving"][2] == FORGED_DNS.format(ports="53, 5353, 5354")


def test_all_of_a_metadata_address_and_one_port_of_any_other() -> None:
    """A metadata address has nothing besides its listeners; of the host's own addresses one port is meant."""
    chains = rules_of({"address": "169.254.169.254"}, {"address": "10.77.0.1:8080"})
    assert "ip daddr 169.254.169.254 goto nothing_else" in chains["arriving"]
    assert not [rule for rule in chains["arriving"] if "10.77.0.1" in rule and "dport" not in rule]
    assert chains["forwarding"][1:] == ["ip daddr 169.254.169.254 counter name forwarded drop"]


def test_a_listener_for_people_has_no_rules() -> None:
    """Who may use it is the web server's or the login's matter; at a metadata address it stays open."""
    people = {
        "listen": [{"address": "169.254.169.254:8443", "callers": ["10.0.0.0/8"]}],
        "identity": {"header": "X-User", "trusted": ["10.0.0.1"]},
        "provider": "people",
    }
    chains = rules_of({"address": "169.254.169.254"}, people=people)
    assert "ip daddr 169.254.169.254 tcp dport 8443 accept" in chains["arriving"]


def test_packets_are_taken_over_where_this_host_has_no_such_address() -> None:
    """They are led to the listener, by whose rules they are judged before that, and go nowhere else."""
    chains = rules_of(
        {"address": "10.77.0.1:8080"},
        {"address": "[fd77::1]:8080"},
        network={
            "interfaces": ["lan0"],
            "take_over": {"169.254.169.254:80": "10.77.0.1:8080", "[fd00:ec2::254]:80": "[fd77::1]:8080"},
        },
    )
    assert "ip daddr 169.254.169.254 tcp dport 80 goto listener_1" in chains["arriving"]
    assert "ip6 daddr fd00:ec2::254 tcp dport 80 goto listener_2" in chains["arriving"]
    not_ours = 'iifname { "lan0" } fib daddr type != local'
    assert chains["taking_over"][1:] == [
        f"{not_ours} ip daddr 169.254.169.254 tcp dport 80 dnat ip to 10.77.0.1:8080",
        f"{not_ours} ip6 daddr fd00:ec2::254 tcp dport 80 dnat ip6 to [fd77::1]:8080",
    ]
    assert "ct original ip daddr 169.254.169.254 counter name forwarded drop" in chains["forwarding"]


def test_a_loopback_listener_is_for_this_host_alone() -> None:
    """Where the kernel was told to route 127.0.0.0/8 (route_localnet), nothing from outside gets to it."""
    chains = rules_of({"address": "127.0.0.1:8080", "callers": ["127.0.0.0/8"]})
    assert chains["listener_1"] == ["counter name wrong_interface drop"]


def test_new_connections_are_metered_by_source() -> None:
    """After all other checks, by each family's own set; a listener on all addresses has both."""
    network = {"interfaces": ["lan0"], "syn_rate": 200}
    chains = rules_of({"address": "169.254.169.254"}, {"address": "[::]:8080"}, network=network)
    meters = [
        f"meta nfproto ipv{version} tcp flags & (fin | syn | rst | ack) == syn update @syn_sources{version} "
        f"{{ {family} saddr limit rate over 200/second burst 200 packets }} counter name too_fast drop"
        for version, family in ((4, "ip"), (6, "ip6"))
    ]
    assert chains["listener_1"][-2:] == [meters[0], "counter name let_in accept"]
    assert [rule for rule in chains["listener_2"] if "@" in rule] == meters
    others = [rules for name, rules in chains.items() if not name.startswith("listener_")]
    assert not [rule for rules in others for rule in rules if "syn_sources" in rule]


def test_the_sets_of_sources_forget_and_are_bounded() -> None:
    """Each address is forgotten a minute after its last SYN. Without `syn_rate` there is no set."""
    tree = {"listen": [{"address": "169.254.169.254", "callers": CALLERS, "provider": "machines"}]}
    network = {"interfaces": ["lan0"]}
    without = nftables.render_table(Settings.model_validate({**tree, "network": network}))
    metered = nftables.render_table(Settings.model_validate({**tree, "network": {**network, "syn_rate": 5}}))
    sets = re.findall(r"^    set (\w+) \{\n(.*?)^    \}", metered, flags=re.MULTILINE | re.DOTALL)
    assert [(name, [line.strip() for line in lines.splitlines()]) for name, lines in sets] == [
        (f"syn_sources{v}", [f"type ipv{v}_addr", "size 65535", "flags dynamic,timeout", "timeout 1m"])
        for v in (4, 6)
    ]
    assert "syn" not in without
    assert "too_fast" not in without


def test_every_counter_is_used_and_every_drop_is_counted() -> None:
    """What is dropped can be read under the name of its reason."""
    network = {"interfaces": ["lan0"], "syn_rate": 200}
    chains = rules_of({"address": "169.254.169.254", "callers_except": ["10.77.0.9"]}, network=network)
    rules = [rule for chain in chains.values() for rule in chain]
    used = {match for rule in rules for match in re.findall(r"counter name (\w+)", rule)}
    assert used == set(nftables.COUNTERS)
    assert all("counter name" in rule for rule in rules if rule.endswith("drop"))


def test_no_connection_is_tracked() -> None:
    """A table of connections could be filled by others. Only leading packets elsewhere needs one."""
    listen = [{"address": "10.77.0.1:8080", "callers": CALLERS, "provider": "machines"}]
    network: dict[str, object] = {"interfaces": ["lan0"]}
    tree: dict[str, object] = {"listen": listen, "network": network}
    needs_tracking = re.compile(r"\bct\b|\bdnat\b|\bsnat\b|masquerade|type nat|redirect")
    assert not needs_tracking.search(nftables.render_table(Settings.model_validate(tree)))
    network["take_over"] = {"169.254.169.254:80": "10.77.0.1:8080"}
    assert needs_tracking.search(nftables.render_table(Settings.model_validate(tree)))
