"""one_time_page: who is led to the secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from imds_proxy.errors import Trouble
from imds_proxy.one_time_page import is_own, open_in_browser

_CONNECT = """\
import os, socket, sys
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
connection = socket.socket()  # whoever makes it owns it
connection.connect(("127.0.0.1", int(sys.argv[1])))
sys.stdout.write(connection.recv(1).decode())
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells whose a connection is")
@pytest.mark.parametrize("uid", [None, 65534])
def test_whose_a_connection_is(uid: int | None) -> None:
    """That of another user is told from our own."""
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        arguments = [str(port)] + ([str(uid)] if uid is not None else [])
        command = [sys.executable, "-c", _CONNECT, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as process:
            connection, peer = server.accept()
            with connection:
                assert is_own(peer, ("127.0.0.1", port)) is (uid is None)
                connection.sendall(b"x")
            assert process.communicate(timeout=10)[0] == b"x"
        assert not is_own(("127.0.0.1", 1), ("127.0.0.1", port))


def test_a_browser_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble, with a way out."""
    monkeypatch.setenv("BROWSER", "true")
    with pytest.raises(Trouble, match=r"did not come within 0\.1 s; without --open"):
        open_in_browser("https://console.example/", patience=0.1)
