"""The doctor on addresses, routes and who listens."""

from __future__ import annotations

import json
import os
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from imds_proxy.config import SocketAddress
from imds_proxy.doctor import ports
from imds_proxy.doctor.network import (
    HostAddress,
    judge_address,
    judge_route,
    lan_address,
    parse_addresses,
)
from imds_proxy.doctor.ports import Listening, Process, judge_listener, parse_listening
from imds_proxy.doctor.programs import UnavailableError

V4, V6 = ip_address("169.254.169.254"), ip_address("fd00:ec2::254")
LAN = HostAddress("lan0", ip_address("10.77.0.1"))
CALLERS = [ip_network("10.77.0.0/16"), ip_network("fd77::/32")]
HTTP = SocketAddress(V4, 80)


def test_parse_addresses() -> None:
    """Interfaces, both families, and addresses that can't be used yet."""
    links = [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "169.254.169.254", "prefixlen": 32}]},
        {"ifname": "lan0", "addr_info": [{"local": "fd00:ec2::254", "tentative": True}, {}]},
        {"ifname": "down0"},
    ]
    assert parse_addresses(json.dumps(links)) == (
        HostAddress("lo", V4),
        HostAddress("lan0", V6, is_usable=False),
    )


@pytest.mark.parametrize("text", ["", "{}x", "[1]", '[{"ifname": "lo", "addr_info": [{"local": "?"}]}]'])
def test_parse_what_is_no_list(text: str) -> None:
    """An ip that prints something else is told, not taken for a host without addresses."""
    with pytest.raises(UnavailableError):
        parse_addresses(text)


@pytest.mark.parametrize(
    ("address", "present", "is_taken_over", "level"),
    [
        (V4, [HostAddress("lo", V4)], False, "ok"),
        (V4, [LAN], False, "fault"),
        (V6, [HostAddress("lo", V6)], False, "warning"),
        (V6, [HostAddress("lan0", V6)], False, "ok"),
        (V6, [HostAddress("lan0", V6, is_usable=False)], False, "fault"),
        (V4, [LAN], True, "ok"),
        (V4, [HostAddress("lo", V4)], True, "warning"),
        (ip_address("0.0.0.0"), [], False, "ok"),
        (ip_address("::1"), [], False, "ok"),
    ],
)
def test_address(address: object, present: list[HostAddress], *, is_taken_over: bool, level: str) -> None:
    """An address is this host's and reachable, or what keeps it from that is said."""
    assert isinstance(address, type(V4) | type(V6))
    found = judge_address(address, present, is_taken_over=is_taken_over)
    assert found.level == level
    assert bool(found.remedy) == (level != "ok")


def test_lan_address() -> None:
    """The address that clients go by is in their networks, on the interface that is named if there is one."""
    other = HostAddress("lan1", ip_address("10.77.200.1"))
    wan = HostAddress("wan0", ip_address("192.0.2.1"))
    present = [HostAddress("lo", V4), wan, LAN, other, HostAddress("lan0", ip_address("fe80::1"))]
    assert lan_address(4, present, [], CALLERS) == LAN
    assert lan_address(4, present, ["lan1"], CALLERS) == other
    assert lan_address(4, present, ["wan0"], CALLERS) == LAN
    assert lan_address(4, [wan], ["wan0"], CALLERS) == wan
    assert lan_address(4, [wan], [], CALLERS) is None
    assert lan_address(6, present, [], CALLERS) is None


def test_route() -> None:
    """The very command that clients need, with this host's address."""
    assert judge_route(V4, LAN).fact == "clients need: ip route replace 169.254.169.254/32 via 10.77.0.1"
    lan6 = HostAddress("lan0", ip_address("fd77::1"))
    assert judge_route(V6, lan6).fact == "clients need: ip -6 route replace fd00:ec2::254/128 via fd77::1"
    assert judge_route(V4, None).level == "warning"


# --- ports -----------------------------------------------------------------------------------------


def test_parse_listening() -> None:
    """Sockets that listen, of both families; others are left out. The text is a kernel's on little-endian."""
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: FEA9FEA9:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000   0  0 4711 1 0\n"
        "   1: 0100007F:0016 0100007F:9999 01 00000000:00000000 00:00000000 00000000   0  0 4712 1 0\n"
    )
    assert parse_listening(text) == [Listening(V4, 80, 4711)]
    six = text.replace("FEA9FEA9", "C20E00FD000000000000000054020000").replace("00000000:0000 0A", "0:0 0A")
    assert parse_listening(six)[0].address == V6


def test_own_socket_is_found() -> None:
    """What this process listens on is found in /proc, and that it is this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listening = ports.read_listening()
        (one,) = [one for one in listening if one.port == port]
        (process,) = ports.read_holders([one.inode])[one.inode]
        assert process.pid == os.getpid()
        address = SocketAddress(ip_address("127.0.0.1"), port)
        found = judge_listener(address, listening, {one.inode: [process]}, os.getpid())
        assert (found.level, str(os.getpid()) in found.fact) == ("ok", True)
        found = judge_listener(address, listening, {one.inode: [Process(4, "nginx")]}, os.getpid())
        assert (found.level, "nginx (pid 4)" in found.fact) == ("fault", True)


def test_nobody_listens() -> None:
    """Nobody there is a fault; another port or address does not count."""
    for others in ([], [Listening(V4, 81, 1)], [Listening(ip_address("127.0.0.1"), 80, 1)]):
        assert judge_listener(HTTP, others, {}, None).fact == "nobody listens"


def test_whoever_listens_on_all_addresses() -> None:
    """A web server on 0.0.0.0:80 is who answers, where nobody listens on the address itself."""
    everybody = Listening(ip_address("0.0.0.0"), 80, 1)
    own = Listening(V4, 80, 2)
    holders = {1: [Process(99, "apache2")], 2: [Process(1, "systemd", is_ours=True)]}
    assert judge_listener(HTTP, [everybody], holders, None).level == "fault"
    assert judge_listener(HTTP, [everybody, own], holders, None).level == "ok"


def test_a_process_that_is_not_to_be_seen() -> None:
    """Who can't be seen is not called a stranger."""
    assert judge_listener(HTTP, [Listening(V4, 80, 2)], {}, 5).level == "skipped"


def test_proc_that_is_not_there(tmp_path: Path) -> None:
    """No /proc, nothing found: no error."""
    assert ports.read_listening(tmp_path) == ()
    assert ports.read_holders([1], tmp_path) == {}
