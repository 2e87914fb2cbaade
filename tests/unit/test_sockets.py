"""sockets: listening sockets, or one line that says why not and what to do."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from imds_proxy.config import SocketAddress
from imds_proxy.sockets import ListenError, bound_address, open_listener, open_unix_listener


def at(address: str, port: int = 0) -> SocketAddress:
    return SocketAddress(ip_address(address), port)


def takes(sock: socket.socket, host: str) -> bool:
    """Tell whether a connection to the socket's port at `host` is taken."""
    try:
        socket.create_connection((host, sock.getsockname()[1]), timeout=5).close()
    except OSError:
        return False
    return True


has_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("address", "shown"), [("127.0.0.1", "127.0.0.1"), pytest.param("::1", "[::1]", marks=has_ipv6)]
)
def test_listening(address: str, shown: str) -> None:
    """Port 0 takes a free one, the bound address is shown with it, connections are taken."""
    with closing(open_listener(at(address))) as sock:
        assert bound_address(sock) == f"{shown}:{sock.getsockname()[1]}"
        assert takes(sock, address)
        assert not sock.getblocking()


@has_ipv6
def test_all_addresses() -> None:
    """`[::]` takes IPv4 callers too; an IPv6 address takes none."""
    with closing(open_listener(at("::"))) as sock:
        assert takes(sock, "127.0.0.1")
        assert takes(sock, "::1")
    with closing(open_listener(at("::1"))) as sock:
        assert not takes(sock, "127.0.0.1")


def test_an_address_in_use() -> None:
    """The address is named, and how to find who has it."""
    with closing(open_listener(at("127.0.0.1"))) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ListenError) as error:
            open_listener(at("127.0.0.1", port))
    text = f"cannot listen on 127.0.0.1:{port}: Address already in use (who has it: ss -ltnp)"
    assert str(error.value) == text


def test_again_at_once() -> None:
    """After a restart the same port can be listened on at once, connections or not."""
    with closing(open_listener(at("127.0.0.1"))) as sock:
        port = sock.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port), timeout=5)):
            sock.setblocking(True)
            sock.accept()[0].close()
    with closing(open_listener(at("127.0.0.1", port))) as sock:
        assert takes(sock, "127.0.0.1")


def test_an_address_of_another_host() -> None:
    """An address that this host does not have says how to give it one."""
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:80: .*\(this host does not have the address"):
        open_listener(at("192.0.2.1", 80))


_WITHOUT_FILES = """
import resource, sys
from ipaddress import ip_address
from pathlib import Path
from imds_proxy.config import SocketAddress
from imds_proxy.sockets import ListenError, open_listener, open_unix_listener

resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
for open_one in (lambda: open_listener(SocketAddress(ip_address("127.0.0.1"), 0)),
                 lambda: open_unix_listener(Path(sys.argv[1]))):
    try:
        open_one()
    except ListenError as error:
        print(error)
"""


def test_no_socket_to_be_had(tmp_path: Path) -> None:
    """A socket that can't even be made is one line, too."""
    # A process of its own: here, threads of other tests may need a file meanwhile.
    path = tmp_path / "admin.sock"
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_FILES, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "cannot listen on 127.0.0.1",
        f"cannot listen on {path}",
    ]
    assert all("Too many open files" in line for line in lines), lines


# --- unix sockets ------------------------------------------------------------------------------------


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def test_a_unix_socket(tmp_path: Path) -> None:
    """It is for our own user alone from its first moment, and the umask is as before."""
    path = tmp_path / "admin.sock"
    before = os.umask(0o022)
    try:
        with closing(open_unix_listener(path)):
            assert connects(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_the_socket_of_a_killed_daemon(tmp_path: Path) -> None:
    """A socket that nobody answers on is replaced."""
    path = tmp_path / "admin.sock"
    open_unix_listener(path).close()
    assert path.is_socket()
    with closing(open_unix_listener(path)):
        assert connects(path)


def test_the_socket_of_a_running_daemon(tmp_path: Path) -> None:
    """A socket that somebody answers on is left to them."""
    path = tmp_path / "admin.sock"
    with closing(open_unix_listener(path)):
        with pytest.raises(ListenError, match="another process does"):
            open_unix_listener(path)
        assert connects(path)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    """A file that is no socket is never removed: somebody wrote it, or the wrong path."""
    path = tmp_path / "imds-proxy.yaml"
    path.write_text("listen: []")
    with pytest.raises(ListenError, match=str(path)):
        open_unix_listener(path)
    assert path.read_text() == "listen: []"


@pytest.mark.parametrize("name", ["missing/admin.sock", "x" * 200, "."])
def test_a_path_that_can_t_be_had(tmp_path: Path, name: str) -> None:
    """A missing folder, a path too long for a socket, a folder: one line that names the path."""
    with pytest.raises(ListenError, match="cannot listen on ") as error:
        open_unix_listener(tmp_path / name)
    assert str(error.value).count("\n") == 0
    assert "None" not in str(error.value)
