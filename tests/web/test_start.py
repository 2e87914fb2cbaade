"""How the daemon starts, and how it says that it can't: one line, no traceback, an exit status."""

from __future__ import annotations

import resource
import socket
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from imds_proxy.config import SocketAddress
from imds_proxy.model import canonical_address
from imds_proxy.sockets import ListenError, bound_address, open_unix_listener
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.web.machines import FOO_ROLE, LISTENERS, SIX, SIX_ROLE, caller_of, site_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.little_sts import LittleSts


def test_a_line_for_each_listener(sts: LittleSts, tmp_path: Path) -> None:
    """`listening ADDRESS:PORT` with the port that was taken for 0, in the order of the settings, IPv6 in
    brackets; from then on it answers.
    """
    settings = site_settings(sts, admin={"address": "127.0.0.1:0"})
    with running_daemon(settings, tmp_path) as daemon:
        assert [address.rpartition(":")[0] for address in daemon.addresses] == [
            "127.0.0.1",
            "127.0.0.1",
            "[::]",
        ]
        assert all(int(address.rpartition(":")[2]) > 0 for address in daemon.addresses)
        assert [caller_of(daemon, listener=number).put_token("60").status for number in range(3)] == [200] * 3
        assert caller_of(daemon).fetch_role() == FOO_ROLE
        assert caller_of(daemon, SIX, 2).fetch_role() == SIX_ROLE
        assert daemon.admin_url.startswith("http://127.0.0.1:")
    assert daemon.log.count("listening ") == 4


@pytest.mark.parametrize("where", ["listen", "admin"])
def test_an_address_in_use(where: str, sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 1 and one line that names the address and says who to look for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = bound_address(taken)
        sections = {"listen": [*LISTENERS, {"address": address}]} if where == "listen" else {}
        admin = {"address": address} if where == "admin" else {}
        file = write_settings(site_settings(sts, admin=admin, **sections), tmp_path / "a.yaml")
        done = run_command("serve", "--config", file)
    assert done.returncode == 1
    assert done.stdout == ""
    line = f"imds-proxy: cannot listen on {address}: Address already in use (who has it: ss -ltnp)"
    assert done.stderr.splitlines() == [line]


def test_an_address_of_another_machine(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 1, one line."""
    listen = [{"address": "192.0.2.1:80", "callers": ["192.0.2.0/24"]}]
    file = write_settings(site_settings(sts, listen=listen), tmp_path / "a.yaml")
    done = run_command("serve", "--config", file)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("imds-proxy: cannot listen on 192.0.2.1:80: ")


def test_a_folder_that_is_not_there(sts: LittleSts, tmp_path: Path) -> None:
    """The admin socket's folder or the audit file's is missing: exit status 1, one line."""
    missing = str(tmp_path / "missing" / "file")
    for sections in ({"admin": {"socket": missing}}, {"audit": {"file": missing}}):
        file = write_settings(site_settings(sts, **sections), tmp_path / "a.yaml")
        done = run_command("serve", "--config", file)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert missing in line


def test_faults(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 2 and all faults, each `FILE:LINE: KEY: text`; nothing was opened."""
    listen = [{"address": "127.0.0.1:0", "hop_limit": 65}, {"address": "10.0.0.1:80"}]
    file = write_settings(site_settings(sts, listen=listen, nonsense=1), tmp_path / "a.yaml")
    done = run_command("serve", "--config", file)
    assert done.returncode == 2
    keys = ["listen[0].hop_limit", "listen[1].callers", "nonsense"]
    lines = done.stderr.splitlines()
    assert len(lines) == len(keys)
    for line, key in zip(lines, keys, strict=True):
        where, _, rest = line.partition(": ")
        assert where.startswith(f"{file}:")
        assert rest.startswith(f"{key}: ")


def test_no_configuration(tmp_path: Path) -> None:
    """A path that is not there is a fault that names it."""
    missing = str(tmp_path / "missing.yaml")
    done = run_command("serve", environment={"IMDS_PROXY_CONFIG": missing})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert missing in line


def test_more_connections_than_a_shell_allows(sts: LittleSts, tmp_path: Path) -> None:
    """The usual soft limit of open files is for programs that have few: the daemon takes what it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 512:
        pytest.skip(f"no more than {hard} open files are allowed here")
    with ExitStack() as stack:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
            daemon = stack.enter_context(running_daemon(site_settings(sts), tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        caller = caller_of(daemon)
        for connection in [stack.enter_context(caller.connected()) for _ in range(200)]:
            connection.send(caller.render("GET", "/latest/"))
            assert connection.read_answer().status == 401


# --- token keys ------------------------------------------------------------------------------------


def test_a_key_of_its_own(sts: LittleSts, tmp_path: Path) -> None:
    """`$STATE_DIRECTORY/token.key` is made with mode 0600, and a restart takes the tokens from before."""
    state = tmp_path / "state"
    state.mkdir()
    environment = {"STATE_DIRECTORY": f"{state}:{tmp_path}/another"}
    with running_daemon(site_settings(sts), tmp_path, name="first", environment=environment) as daemon:
        token = caller_of(daemon).fetch_token()
        assert "end with this process" not in daemon.log
    key = (state / "token.key").read_text()
    assert stat.S_IMODE((state / "token.key").stat().st_mode) == 0o600
    with running_daemon(site_settings(sts), tmp_path, name="second", environment=environment) as daemon:
        assert caller_of(daemon).fetch_role(token) == FOO_ROLE
    assert (state / "token.key").read_text() == key


def test_a_key_for_this_process(sts: LittleSts, tmp_path: Path) -> None:
    """With nowhere to keep a key there is a warning, and the next process takes no token of this one's."""
    with running_daemon(site_settings(sts), tmp_path, name="first") as daemon:
        token = caller_of(daemon).fetch_token()
        assert caller_of(daemon).fetch_role(token) == FOO_ROLE
        assert "warning: tokens.key_file is not set" in daemon.log
    with running_daemon(site_settings(sts), tmp_path, name="second") as daemon:
        assert caller_of(daemon).get("/", token).status == 401


def test_the_keys_of_workloads_tokens(sts: LittleSts, tmp_path: Path) -> None:
    """The state directory has two keys. The key of IMDS tokens for workloads' tokens as well is a fault, and
    so it is where the settings name the file of one. Without a place for it there is a warning of its own.
    """
    listen = [{"address": "127.0.0.1:0", "container": {}}]
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    environment = {"STATE_DIRECTORY": str(state)}
    with running_daemon(site_settings(sts, listen=listen), tmp_path, environment=environment) as daemon:
        assert "end with this process" not in daemon.log
    keys = [(state / name).read_text() for name in ("token.key", "workload-token.key")]
    assert keys[0] != keys[1]
    tokens = {"workload_key_file": str(state / "token.key")}
    file = write_settings(site_settings(sts, listen=listen, tokens=tokens), tmp_path / "a.yaml")
    refused = run_command("serve", "--config", file, environment=environment)
    assert refused.returncode == 2
    assert "is one of workloads' tokens too" in refused.stderr
    with running_daemon(site_settings(sts, listen=listen), tmp_path, name="without") as daemon:
        assert "warning: tokens.workload_key_file is not set: workloads' tokens end" in daemon.log
    with running_daemon(site_settings(sts), tmp_path, name="machines") as daemon:
        assert "tokens.workload_key_file" not in daemon.log


def test_a_shared_key(sts: LittleSts, tmp_path: Path) -> None:
    """Two daemons with one key file take each other's tokens, from the address they were given to alone."""
    key = tmp_path / "token.key"
    key.touch(mode=0o600)
    key.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    settings = site_settings(sts, tokens={"key_file": str(key)})
    with (
        running_daemon(settings, tmp_path, name="first") as first,
        running_daemon(settings, tmp_path, name="second") as second,
    ):
        token = caller_of(first).fetch_token()
        assert caller_of(second).get("/latest/", token).status == 200
        assert caller_of(second, "127.0.0.2").get("/latest/", token).status == 401


def test_a_key_that_is_none(sts: LittleSts, tmp_path: Path) -> None:
    """A file in the state directory that holds no key is a fault: exit status 2, and it is left as it is."""
    key = tmp_path / "token.key"
    key.touch(mode=0o600)
    key.write_text("c2hvcnQ=\n")
    file = write_settings(site_settings(sts), tmp_path / "a.yaml")
    done = run_command("serve", "--config", file, environment={"STATE_DIRECTORY": str(tmp_path)})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{key}: ")
    assert key.read_text() == "c2hvcnQ=\n"


def test_a_key_that_others_can_read(sts: LittleSts, tmp_path: Path) -> None:
    """Whoever can read the key can make tokens: a fault."""
    key = tmp_path / "token.key"
    key.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    key.chmod(0o644)
    file = write_settings(site_settings(sts), tmp_path / "a.yaml")
    done = run_command("serve", "--config", file, environment={"STATE_DIRECTORY": str(tmp_path)})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{key}: ")
    assert "others can read" in line


# --- sockets ---------------------------------------------------------------------------------------


def loopback(port: int) -> SocketAddress:
    """Return an address on loopback."""
    address = canonical_address("127.0.0.1")
    return SocketAddress(address, port)


def test_an_admin_socket_is_its_owners(tmp_path: Path) -> None:
    """Nobody else may open it, whatever the umask is."""
    with open_unix_listener(tmp_path / "admin.sock"):
        assert stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode) == 0o600


def test_an_admin_socket_that_was_left_behind(tmp_path: Path) -> None:
    """The socket of a process that was killed is replaced, that of a living one is not."""
    path = tmp_path / "admin.sock"
    open_unix_listener(path).close()
    assert path.is_socket()
    with open_unix_listener(path), pytest.raises(ListenError, match="another process does"):
        open_unix_listener(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_no_file_is_replaced(kind: str, tmp_path: Path) -> None:
    """Something else at the admin socket's path stays there: a slip in the settings deletes nothing."""
    path = tmp_path / "precious"
    if kind == "folder":
        path.mkdir()
    else:
        target = path if kind == "file" else tmp_path / "target"
        target.write_text("precious")
        if kind == "link":
            path.symlink_to(target)
    with pytest.raises(ListenError, match=r"cannot listen on .*precious"):
        open_unix_listener(path)
    assert path.is_dir() or path.read_text() == "precious"


def test_an_admin_socket_with_a_long_path(tmp_path: Path) -> None:
    """A path that no unix socket can have is refused in words."""
    with pytest.raises(ListenError, match="too long"):
        open_unix_listener(tmp_path / ("x" * 120))
