"""The firewall that `imds-proxy render nftables` makes, in the kernel: who gets past it and who does not.

Each refusal is one that the rules count, and nothing of it gets to where a listener could see it.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from tests.conformance.relay import relayed
from tests.standins.aws_process import running_aws
from tests.standins.daemon import running_daemon, settings_for
from tests.system.lab.guarded import (
    CALLERS,
    EXCEPTED,
    GATEWAY,
    GATEWAY_V6,
    METADATA_ADDRESS,
    METADATA_ADDRESS_V6,
    PATIENCE,
    await_count,
    guarded_world,
    is_connected,
    knocking,
    make_rules,
)
from tests.system.lab.machine import METADATA, METADATA_V6
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.standins.aws_process import Aws
    from tests.system.lab.guarded import World
    from tests.system.lab.machine import Machine
    from tests.system.lab.namespaces import Namespace

pytestmark = pytest.mark.system

Variant = Literal["carry", "take over"]
BASES = pytest.mark.parametrize("base", [METADATA, METADATA_V6], ids=["IPv4", "IPv6"])
HOSTS = pytest.mark.parametrize("host", [METADATA_ADDRESS, METADATA_ADDRESS_V6], ids=["IPv4", "IPv6"])
TAKEN = {
    f"{METADATA_ADDRESS}:80": f"{GATEWAY}:8080",
    f"[{METADATA_ADDRESS_V6}]:80": f"[{GATEWAY_V6}]:8080",
}
OTHER_TABLE = (
    "table inet site {\n chain in {\n type filter hook input priority 0;\n tcp dport 22 counter\n }\n}\n"
)
ROLE = "roleprefix-tuvfoo"
CARRY = pytest.mark.parametrize("site", ["carry"], indirect=True)
TAKE_OVER = pytest.mark.parametrize("site", ["take over"], indirect=True)
NEAR = {"10.77.1.1": "tuvfoo42.valid.example", "fd77::1:1": "tuvfoo42.valid.example"}


@dataclass(frozen=True)
class Site:
    """The networks, a gateway's settings and its running daemon."""

    world: World
    variant: Variant
    aws: Aws
    settings: Mapping[str, object]
    rules: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    missing = find_missing(("ip", "nft", "curl"))
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    with guarded_world() as world:
        yield world


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        aws.add_roles(ROLE)
        yield aws


@pytest.fixture(scope="module", params=["carry", "take over"])
def site(
    request: pytest.FixtureRequest, world: World, aws: Aws, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Both kinds of a gateway: one that has the metadata addresses, one that takes their packets over."""
    with running_site(request.param, world, aws, tmp_path_factory.mktemp("firewall")) as site:
        yield site


@pytest.fixture(autouse=True)
def _guard(site: Site) -> None:
    """Load the rules afresh: counters are at zero, which is also to say that they can be loaded again."""
    site.world.guard(site.rules)


@contextmanager
def running_site(variant: Variant, world: World, aws: Aws, folder: Path) -> Iterator[Site]:
    """Run a daemon of that kind for the length of the block."""
    who = {"callers": CALLERS, "callers_except": EXCEPTED}
    addresses = list(TAKEN.values() if variant == "take over" else TAKEN)
    listen: list[dict[str, object]] = [{"address": address, **who} for address in addresses]
    if variant == "carry":
        listen += [
            {"address": f"{METADATA_ADDRESS}:8002", **who, "hop_limit": 2},
            {"address": f"[{METADATA_ADDRESS_V6}]:8002", **who, "hop_limit": 2},
        ]
    network: dict[str, object] = {"interfaces": ["eth0"]}
    if variant == "take over":
        network["take_over"] = TAKEN
    settings = settings_for(aws, listen=listen, network=network, hosts=NEAR)
    rules = make_rules(settings, folder)
    world.carry(carries=variant == "carry")
    port = int(aws.url.rpartition(":")[2])
    with ExitStack() as stack:
        stack.callback(world.carry, carries=True)
        stack.enter_context(relayed(world.gateway, port))
        stack.enter_context(relayed(world.near.namespace, port))
        with world.gateway.entered():
            stack.enter_context(running_daemon(settings, folder))
        yield Site(world, variant, aws, settings, rules)


def assert_kept_out(
    site: Site, machine: Machine, host: str, counter: str, *, port: int = 80, hops: int | None = None
) -> None:
    """A packet is counted as refused for that reason, and nothing gets to a listener."""
    before = site.world.count(counter)
    with knocking(machine, host, port, hops=hops) as sock:
        await_count(site.world, counter, before + 1)
        assert not is_connected(sock)
    assert site.world.reached == 0
    assert site.world.count("let_in") == 0


@BASES
def test_a_caller_gets_its_role(site: Site, base: str) -> None:
    """boto3, with nothing set but the address family, gets its role by the metadata address."""
    mode = {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"} if base == METADATA_V6 else {}
    result = site.world.near.run_boto3(site.aws.url, mode)
    assert result.method == "iam-role"
    assert result.arn.endswith(f":assumed-role/{ROLE}/tuvfoo42.valid.example")
    assert site.world.reached > 0


@HOSTS
def test_another_network_is_kept_out(site: Site, host: str) -> None:
    """A neighbour whose address is not in `callers` gets no connection."""
    assert_kept_out(site, site.world.stranger, host, "not_a_caller")


@HOSTS
def test_an_excepted_caller_is_kept_out(site: Site, host: str) -> None:
    """What is in `callers_except` gets no connection."""
    assert_kept_out(site, site.world.excepted, host, "excepted")


@HOSTS
def test_a_caller_by_another_interface_is_kept_out(site: Site, host: str) -> None:
    """A caller's address does not help whoever comes in by an interface that is not named."""
    assert_kept_out(site, site.world.elsewhere, host, "wrong_interface")


@HOSTS
def test_two_hops_are_one_too_many(site: Site, host: str) -> None:
    """A caller behind a router gets no connection."""
    assert_kept_out(site, site.world.far, host, "too_far")


@HOSTS
def test_a_forged_source_is_kept_out(site: Site, host: str, tmp_path: Path) -> None:
    """Where both interfaces are named, too, nobody uses the address of a machine on the other's network."""
    forger = site.world.elsewhere
    site.world.guard(make_rules({**site.settings, "network": _network(site, "eth0", "eth1")}, tmp_path))
    with knocking(forger, host, 80) as sock:
        assert _is_soon_connected(sock)  # under its own address it may now
    site.world.guard(make_rules({**site.settings, "network": _network(site, "eth0", "eth1")}, tmp_path))
    near = site.world.near
    forger.namespace.configure(
        f"address add {near.address}/32 dev lo",
        f"address add {near.address_v6}/128 dev lo nodad",
        f"route replace {METADATA_ADDRESS}/32 via 10.88.0.1 src {near.address}",
        f"route replace {METADATA_ADDRESS_V6}/128 via fd88::1 src {near.address_v6}",
    )
    try:
        assert_kept_out(site, forger, host, "forged_source")
    finally:
        forger.namespace.configure(
            f"route delete {METADATA_ADDRESS}/32",
            f"route delete {METADATA_ADDRESS_V6}/128",
            f"address delete {near.address}/32 dev lo",
            f"address delete {near.address_v6}/128 dev lo",
        )


@TAKE_OVER
@pytest.mark.parametrize("host", [GATEWAY, GATEWAY_V6], ids=["IPv4", "IPv6"])
def test_the_real_listener_keeps_the_same_people_out(site: Site, host: str) -> None:
    """Where packets are taken over, who is kept out at the metadata address is so at the listener's own."""
    assert_kept_out(site, site.world.stranger, host, "not_a_caller", port=8080)
    assert_kept_out(site, site.world.excepted, host, "excepted", port=8080)
    assert_kept_out(site, site.world.elsewhere, host, "wrong_interface", port=8080)
    assert_kept_out(site, site.world.far, host, "too_far", port=8080)


@HOSTS
def test_answers_travel_no_further(site: Site, host: str) -> None:
    """Whoever is behind a router and pretends not to be gets in, and no packet of an answer gets back."""
    world = site.world
    world.router.filter(_count_answers())
    with knocking(world.far, host, 80, hops=65) as sock:
        await_count(world, "let_in")
        _await_answer(world)
        assert not is_connected(sock)
    assert world.router.read_counter("watch", "loose") == 0


@HOSTS
def test_a_source_beyond_its_rate_loses_connections(site: Site, host: str, tmp_path: Path) -> None:
    """With `syn_rate: 1` new connections of an address are dropped, while its neighbour gets one.

    Both are in one /64, on one machine here, and each has a rate of its own.
    """
    world, near = site.world, site.world.near
    network = {**_network(site, "eth0"), "syn_rate": 1}
    world.guard(make_rules({**site.settings, "network": network}, tmp_path))
    own, neighbour, length = (
        (near.address, "10.77.1.200", 32) if "." in host else (near.address_v6, "fd77::1:200", 128)
    )
    near.namespace.configure(f"address add {neighbour}/{length} dev eth0{' nodad' if ':' in host else ''}")
    try:
        with ExitStack() as stack:
            flood = [stack.enter_context(knocking(near, host, 80, source=own)) for _ in range(20)]
            await_count(world, "too_fast")
            assert _is_soon_connected(flood[0])
            sock = stack.enter_context(knocking(near, host, 80, source=neighbour))
            assert _is_soon_connected(sock)
        metered = f"syn_sources{4 if '.' in host else 6}"
        listed = world.gateway.run("nft", "list", "set", "inet", "imds_proxy", metered).stdout
        assert f"{own} limit" in listed
        assert f"{neighbour} limit" in listed
    finally:
        near.namespace.configure(f"address delete {neighbour}/{length} dev eth0")


@CARRY
@HOSTS
def test_a_hop_limit_of_two_lets_in_two_hops(site: Site, host: str) -> None:
    """A listener with `hop_limit: 2` has callers behind one router, not behind two."""
    base = f"http://{_in_url(host)}:8002"
    assert site.world.far.ask_token(base=base).status == 200
    site.world.guard(site.rules)
    assert_kept_out(site, site.world.far, host, "too_far", port=8002, hops=63)


@HOSTS
def test_nothing_else_answers_at_a_metadata_address(site: Site, host: str) -> None:
    """A server on all addresses of the gateway is not to be had by a metadata address."""
    with _echoing(site.world.gateway, host):
        assert_kept_out(site, site.world.near, host, "no_listener", port=2222)
        with site.world.near.namespace.entered(), _udp(host) as sock:
            sock.sendto(b"x", (host, 2223))
            await_count(site.world, "no_listener", 2)


@CARRY
@HOSTS
def test_a_metadata_address_answers_ping(site: Site, host: str) -> None:
    """On a gateway that has the address, ping says so: to diagnose a route."""
    kind, protocol, reply = (8, socket.IPPROTO_ICMP, 0) if "." in host else (128, socket.IPPROTO_ICMPV6, 129)
    family = socket.AF_INET if "." in host else socket.AF_INET6
    with site.world.near.namespace.entered(), socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.settimeout(PATIENCE)
        # Type, code, checksum, identifier 1, sequence number 1; the kernel fills in ICMPv6's checksum itself.
        checksum = 0xFFFF - (kind << 8) - 2
        request = bytes([kind, 0]) + checksum.to_bytes(2, "big") + b"\x00\x01\x00\x01"
        sock.sendto(request, (host, 0))
        deadline = time.monotonic() + PATIENCE
        while True:
            packet, (sender, *_) = sock.recvfrom(2048)
            kind_of_answer = packet[20] if "." in host else packet[0]
            if (sender, kind_of_answer) == (host, reply):
                break
            assert time.monotonic() < deadline


@HOSTS
def test_the_host_itself_may_ask(site: Site, host: str) -> None:
    """Programs on the gateway reach the daemon, with the metadata address or, without it, the listener's."""
    own = host if site.variant == "carry" else GATEWAY if "." in host else GATEWAY_V6
    port = 80 if site.variant == "carry" else 8080
    with site.world.gateway.entered(), socket.create_connection((own, port), timeout=PATIENCE) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {_in_url(own)}\r\n\r\n".encode())
        assert sock.recv(12) == b"HTTP/1.1 401"


@HOSTS
def test_requests_do_not_go_on_to_somebody_else(site: Site, host: str) -> None:
    """Where the gateway lacks the address, its default route leads no request to another's service."""
    world = site.world
    other = world.elsewhere.namespace
    with _somebody_else(world), _echoing(other, host, port=80):
        if site.variant == "carry":
            world.carry(carries=False)
        else:
            # Without the translation, as if its chain had been flushed by somebody.
            world.gateway.run("nft", "flush", "chain", "inet", "imds_proxy", "taking_over")
        try:
            with knocking(world.near, host, 80) as sock:
                await_count(world, "forwarded")
                assert not is_connected(sock)
            assert other.read_counter("else", "asked") == 0
            world.gateway.run("nft", "delete", "table", "inet", "imds_proxy")
            with knocking(world.near, host, 80) as sock:
                assert _is_soon_connected(sock)  # so it was the table that kept it
        finally:
            if site.variant == "carry":
                world.carry(carries=True)


@TAKE_OVER
def test_translated_packets_do_not_go_on_to_somebody_else(site: Site) -> None:
    """Where the listener's own address is missing on the gateway, translated packets are dropped as well."""
    world = site.world
    world.gateway.configure("address add 10.88.0.9/32 dev lo", "route add 10.77.0.99/32 via 10.88.0.2")
    try:
        world.guard(site.rules.replace(f"dnat ip to {GATEWAY}:8080", "dnat ip to 10.77.0.99:8080"))
        with knocking(world.near, METADATA_ADDRESS, 80) as sock:
            await_count(world, "forwarded")
            assert not is_connected(sock)
    finally:
        world.gateway.configure("route delete 10.77.0.99/32", "address delete 10.88.0.9/32 dev lo")


@pytest.mark.parametrize(
    ("own", "other"), [(GATEWAY, "10.88.0.2"), (GATEWAY_V6, "fd88::2")], ids=["IPv4", "IPv6"]
)
def test_other_traffic_is_not_touched(site: Site, own: str, other: str) -> None:
    """Other ports of the gateway, what it forwards and its other tables are as without the rules."""
    world = site.world
    world.gateway.filter(OTHER_TABLE)
    before = world.gateway.run("nft", "--stateless", "list", "table", "inet", "site").stdout
    world.guard(site.rules)
    assert world.gateway.run("nft", "--stateless", "list", "table", "inet", "site").stdout == before
    world.gateway.run("nft", "delete", "table", "inet", "site")
    with _echoing(world.gateway, own), _echoing(world.elsewhere.namespace, other):
        for machine in (world.near, world.excepted, world.stranger, world.far, world.elsewhere):
            for host in (own, other):
                # Through the router as well: these answers travel as far as they like.
                with knocking(machine, host, 2222) as sock:
                    assert _is_soon_connected(sock), (machine, host)
    drops = {
        name: world.count(name) for name in ("not_a_caller", "too_far", "wrong_interface", "no_listener")
    }
    assert set(drops.values()) == {0}, drops


@pytest.mark.parametrize(
    ("own", "server"), [(GATEWAY, "10.88.0.2"), (GATEWAY_V6, "fd88::2")], ids=["IPv4", "IPv6"]
)
def test_a_caller_does_not_answer_for_a_name_server(site: Site, own: str, server: str) -> None:
    """From port 53 of a name server that is on another interface nothing comes by the callers' interface.
    From a caller's own port 53, and from the name server's by its own interface, it does.
    """
    world = site.world
    near, elsewhere = world.near, world.elsewhere
    ours = near.address if "." in own else near.address_v6
    length = 32 if "." in own else 128
    with ExitStack() as stack:
        with world.gateway.entered():
            asking = stack.enter_context(_udp(own))
            asking.bind((own, 0))
            asking.settimeout(PATIENCE)
        near.namespace.configure(
            f"address add {server}/{length} dev lo" + (" nodad" if length == 128 else "")
        )
        stack.callback(near.namespace.configure, f"address delete {server}/{length} dev lo")
        with near.namespace.entered():
            _send(own, (server, 53), asking, b"forged")
        await_count(world, "forged_dns")
        with near.namespace.entered():
            _send(own, (ours, 53), asking, b"own")
        assert asking.recv(100) == b"own"
        with elsewhere.namespace.entered():
            _send(own, (server, 53), asking, b"true")
        assert asking.recv(100) == b"true"
    assert world.count("forged_dns") == 1


def test_loading_twice_changes_nothing(site: Site) -> None:
    """The file can be loaded over itself, and nft's check takes it."""
    gateway = site.world.gateway
    listed = gateway.run("nft", "--stateless", "list", "ruleset").stdout
    gateway.run("nft", "--check", "--file", "-", stdin=site.rules)
    gateway.filter(site.rules)
    assert gateway.run("nft", "--stateless", "list", "ruleset").stdout == listed


def _network(site: Site, *interfaces: str) -> dict[str, object]:
    network = site.settings["network"]
    assert isinstance(network, dict)
    return {**network, "interfaces": list(interfaces)}


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_soon_connected(sock: socket.socket) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not is_connected(sock):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _count_answers() -> str:
    return """
        table inet watch
        delete table inet watch
        table inet watch {
            counter sent {}
            counter loose {}
            chain incoming {
                type filter hook prerouting priority -300;
                iifname "eth0" tcp sport 80 counter name sent
                iifname "eth0" tcp sport 80 ip ttl > 1 counter name loose
                iifname "eth0" tcp sport 80 ip6 hoplimit > 1 counter name loose
            }
        }
        """


def _await_answer(world: World) -> None:
    deadline = time.monotonic() + PATIENCE
    while world.router.read_counter("watch", "sent") == 0:
        assert time.monotonic() < deadline, "no answer has come to the router"
        time.sleep(0.02)


@contextmanager
def _somebody_else(world: World) -> Iterator[None]:
    """Let the machine on the other network have metadata addresses of its own, and count who asks there."""
    other = world.elsewhere.namespace
    other.filter(
        """
        table inet else
        delete table inet else
        table inet else {
            counter asked {}
            chain incoming { type filter hook input priority 0; tcp dport 80 counter name asked; }
        }
        """
    )
    other.configure(
        f"address add {METADATA_ADDRESS}/32 dev lo", f"address add {METADATA_ADDRESS_V6}/128 dev lo nodad"
    )
    try:
        yield
    finally:
        other.configure(
            f"address delete {METADATA_ADDRESS}/32 dev lo", f"address delete {METADATA_ADDRESS_V6}/128 dev lo"
        )


@contextmanager
def _echoing(namespace: Namespace, host: str, port: int = 2222) -> Iterator[None]:
    """Listen on all addresses of a namespace, in the host's address family."""
    family = socket.AF_INET if "." in host else socket.AF_INET6
    with namespace.entered():
        server = socket.create_server(("", port), family=family, backlog=16)
    with server:
        yield


def _send(host: str, source: tuple[str, int], to: socket.socket, data: bytes) -> None:
    with _udp(host) as sock:
        sock.bind(source)
        sock.sendto(data, (host, to.getsockname()[1]))


def _udp(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET if "." in host else socket.AF_INET6, socket.SOCK_DGRAM)
