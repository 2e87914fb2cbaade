"""activation: sockets that systemd passed are known by their address, and what does not fit is said."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from imds_proxy.activation import ActivationError, find_places, take_passed_sockets
from imds_proxy.config import SocketAddress
from imds_proxy.sockets import bound_address, open_listener, open_unix_listener

DO = (
    "(imds-proxy render systemd --dir /etc/systemd/system && systemctl daemon-reload"
    " && systemctl restart imds-proxy.socket imds-proxy)"
)
LOOPBACK = SocketAddress(ip_address("127.0.0.1"), 0)
has_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")


def test_tcp_and_unix(tmp_path: Path) -> None:
    """Each is found by what it is bound to; none is inherited by programs that are started."""
    with (
        closing(open_listener(LOOPBACK)) as tcp,
        closing(open_unix_listener(tmp_path / "people.sock")) as unix,
    ):
        address = SocketAddress(ip_address("127.0.0.1"), tcp.getsockname()[1])
        descriptors = [os.dup(unix.fileno()), os.dup(tcp.fileno())]
        os.set_inheritable(descriptors[1], True)
        passed = find_places(descriptors)
        with closing(passed.take(address)) as taken:
            assert taken.getsockname() == tcp.getsockname()
            assert not taken.get_inheritable()
        with pytest.raises(ActivationError) as error:
            passed.check_all_taken()
        assert str(error.value) == f"{tmp_path}/people.sock: systemd passed it, but it is not configured {DO}"
        passed.take(tmp_path / "people.sock").close()
        passed.check_all_taken()


def test_one_that_was_not_passed() -> None:
    """The line names it."""
    with pytest.raises(ActivationError) as error:
        find_places([]).take(SocketAddress(ip_address("10.77.0.1"), 80))
    assert str(error.value) == (
        f"cannot listen on 10.77.0.1:80: it is configured, but systemd did not pass it {DO}"
    )


def test_one_twice() -> None:
    """Two of one address: nobody knows whose callers are whose."""
    with closing(open_listener(LOOPBACK)) as sock:
        with pytest.raises(ActivationError) as error:
            find_places([os.dup(sock.fileno()), os.dup(sock.fileno())])
        assert str(error.value) == f"{bound_address(sock)}: systemd passed it twice {DO}"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_does_not_listen(kind: socket.SocketKind) -> None:
    """A datagram socket, or one that nobody listens on."""
    with closing(socket.socket(socket.AF_INET, kind)) as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ActivationError) as error:
            find_places([os.dup(sock.fileno())])
        assert str(error.value).startswith(
            f"{bound_address(sock)}: systemd passed it, but it is no listening"
        )


def test_what_is_no_socket(tmp_path: Path) -> None:
    """A file, such as that of `ListenSpecial=`."""
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(ActivationError, match=r"descriptor .* is no socket: .*render systemd"),
    ):
        find_places([os.dup(file.fileno())])


@has_ipv6
@pytest.mark.parametrize("is_v6_only", [False, True])
def test_all_addresses(is_v6_only: bool) -> None:
    """`[::]` takes IPv4 callers too, so a unit that keeps them out is an error."""
    with closing(socket.socket(socket.AF_INET6)) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(is_v6_only))
        sock.bind(("::", 0))
        sock.listen()
        place = SocketAddress(ip_address("::"), sock.getsockname()[1])
        if is_v6_only:
            with pytest.raises(ActivationError, match=r"BindIPv6Only=both.*render systemd"):
                find_places([os.dup(sock.fileno())])
        else:
            find_places([os.dup(sock.fileno())]).take(place).close()


def test_another_process() -> None:
    """Variables that were meant for another process are no business of ours, and gone."""
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b", "PATH": "/bin"}
    assert take_passed_sockets(environ) is None
    assert environ == {"PATH": "/bin"}
    assert take_passed_sockets({}) is None


@pytest.mark.parametrize("count", ["", "0", "-1", "9" * 5000, "three", "1e3", "99999"])
def test_a_count_that_is_none(count: str) -> None:
    """systemd never says that; whoever does is told."""
    with pytest.raises(ActivationError, match="LISTEN_FDS: not a number of sockets"):
        take_passed_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})
