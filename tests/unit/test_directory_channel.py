"""The socket of a connection: TLS is verified, StartTLS is agreed on, and no server keeps anybody waiting."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.directory.channel import open_channel
from imds_proxy.directory.connection import Patience, Unreachable
from imds_proxy.directory.server import Server
from imds_proxy.directory.settings import DirectorySettings
from imds_proxy.errors import ProviderError
from tests.standins.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.standins.authority import Issued

REQUEST = bytes.fromhex("301d 02 01 01 77 18 80 16") + b"1.3.6.1.4.1.1466.20037"
AGREED = bytes.fromhex("300c 020101 78 07 0a0100 0400 0400")
# As Active Directory writes it: every length in four octets, and the name of the response.
AGREED_LIKE_AD = (
    bytes.fromhex("30 8400000028 020101 78 840000001f 0a0100 0400 0400 8a16") + b"1.3.6.1.4.1.1466.20037"
)
LONG = 60.0


def patience(first_answer: float = LONG, everything: float = LONG) -> Patience:
    """Return that of somebody who waits so many seconds."""
    now = SYSTEM_CLOCK.monotonic()
    return Patience(SYSTEM_CLOCK, first_answer_by=now + first_answer, by=now + everything)


def open_(
    uri: str, ca_file: Path | None = None, for_: Patience | None = None, **more: object
) -> socket.socket:
    """Return a channel to a server."""
    settings = {"servers": uri, "user_base": "dc=valid", "ca_file": ca_file and str(ca_file), **more}
    known = {key: value for key, value in settings.items() if value is not None}
    return open_channel(Server.parse(uri), DirectorySettings.model_validate(known), for_ or patience())


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Yield the port of a server that does `serve` with each connection, on a thread."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=attend, args=(connection,), daemon=True).start()

        def attend(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def wrap(connection: socket.socket, issued: Issued) -> ssl.SSLSocket:
    """Return the server's end of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context.wrap_socket(connection, server_side=True)


def echo(connection: socket.socket) -> None:
    """Send back what comes, in capitals."""
    while chunk := connection.recv(65536):
        connection.sendall(chunk.upper())


def echo_by_tls(connection: socket.socket, issued: Issued) -> None:
    """Do the same behind TLS."""
    with wrap(connection, issued) as tls:
        echo(tls)


def receive(channel: socket.socket, count: int) -> bytes:
    """Return so many bytes."""
    channel.settimeout(LONG)
    received = b""
    while len(received) < count and (chunk := channel.recv(65536)):
        received += chunk
    return received


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The one that the settings believe."""
    return Authority(tmp_path)


def test_ldaps(authority: Authority) -> None:
    """Behind the channel the bytes go through TLS in both directions, however many."""
    issued = authority.issue("good")
    with (
        listening(lambda plain: echo_by_tls(plain, issued)) as port,
        open_(f"ldaps://127.0.0.1:{port}", authority.certificate) as channel,
    ):
        sent = b"abcdefgh" * 40_000
        threading.Thread(target=channel.sendall, args=(sent,), daemon=True).start()
        assert receive(channel, len(sent)) == sent.upper()


@pytest.mark.parametrize("answer", [AGREED, AGREED_LIKE_AD])
def test_start_tls(authority: Authority, answer: bytes) -> None:
    """The request is RFC 4511's, its answer is read to the byte, and then comes TLS."""
    issued = authority.issue("good")
    requests = []

    def serve(plain: socket.socket) -> None:
        requests.append(plain.recv(1000))
        plain.sendall(answer)
        echo_by_tls(plain, issued)

    with (
        listening(serve) as port,
        open_(f"ldap://127.0.0.1:{port}", authority.certificate) as channel,
    ):
        channel.sendall(b"abc")
        assert receive(channel, 3) == b"ABC"
    assert requests == [REQUEST]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (bytes.fromhex("300c 020101 78 07 0a0102 0400 0400"), "refuses StartTLS"),  # protocolError
        (bytes.fromhex("300f 020101 78 0a 0a0102 0403 0a0100 0400"), "refuses StartTLS"),
        (bytes.fromhex("300c 020100 78 07 0a0100 0400 0400"), "refuses StartTLS"),  # not ours
        (bytes.fromhex("300c 020101 61 07 0a0100 0400 0400"), "refuses StartTLS"),  # a bind's answer
        (bytes.fromhex("3000"), "does not speak LDAP"),
        (bytes.fromhex("3001 02"), "does not speak LDAP"),
        (bytes.fromhex("30ff"), "hung up"),
        (bytes.fromhex("3084 7fffffff"), "does not speak LDAP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak LDAP"),
        (b"", "hung up"),
        (b"\x30", "hung up"),
        (AGREED, "."),  # and then it hangs up
        (AGREED + b"what somebody on the way has put in before TLS", "."),
    ],
)
def test_without_start_tls_there_is_no_channel(authority: Authority, answer: bytes, text: str) -> None:
    """Whatever a server says but yes, nothing goes over the line in the clear."""
    rest = []

    def serve(plain: socket.socket) -> None:
        plain.recv(len(REQUEST), socket.MSG_WAITALL)
        plain.sendall(answer)
        plain.shutdown(socket.SHUT_WR)
        rest.append(plain.recv(1000))

    with listening(serve) as port, pytest.raises(Unreachable, match=text):
        open_(f"ldap://127.0.0.1:{port}", authority.certificate)
    assert all(sent[:1] in {b"", b"\x16", b"\x15"} for sent in rest)  # TLS's own records at most


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("other host", "IP address mismatch"),
        ("unknown authority", "unable to get local issuer|self-signed"),
        ("expired", "has expired"),
    ],
)
def test_wrong_certificates(authority: Authority, tmp_path: Path, scheme: str, kind: str, text: str) -> None:
    """For another host, by somebody else, out of date: unreachable, and the reason is told."""
    issued = {
        "other host": lambda: authority.issue("other", "DNS:ldap.valid.example"),
        "unknown authority": lambda: Authority(tmp_path, "stranger").issue("strange"),
        "expired": lambda: authority.issue("expired", days=-1),
    }[kind]()

    def serve(plain: socket.socket) -> None:
        if scheme == "ldap":
            plain.recv(1000)
            plain.sendall(AGREED)
        echo_by_tls(plain, issued)

    with listening(serve) as port, pytest.raises(Unreachable, match=text):
        open_(f"{scheme}://127.0.0.1:{port}", authority.certificate)


def test_without_ca_file_the_systems_authorities_count(authority: Authority) -> None:
    """Which don't know ours."""
    issued = authority.issue("good")
    with (
        listening(lambda plain: echo_by_tls(plain, issued)) as port,
        pytest.raises(Unreachable, match="certificate is not accepted"),
    ):
        open_(f"ldaps://127.0.0.1:{port}")


def test_authorities_are_read_again_when_they_change(authority: Authority, tmp_path: Path) -> None:
    """A file that is replaced counts for the next connection; one that is gone is trouble, of no server."""
    stranger = Authority(tmp_path, "stranger")
    issued = authority.issue("good")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(stranger.certificate.read_bytes())
    with listening(lambda plain: echo_by_tls(plain, issued)) as port:
        uri = f"ldaps://127.0.0.1:{port}"
        settings = DirectorySettings.model_validate(
            {"servers": uri, "user_base": "dc=valid", "ca_file": str(ca_file)}
        )
        with pytest.raises(Unreachable, match="certificate is not accepted"):
            open_channel(Server.parse(uri), settings, patience())
        ca_file.write_bytes(authority.certificate.read_bytes())
        open_channel(Server.parse(uri), settings, patience()).close()
        ca_file.unlink()
        with pytest.raises(ProviderError, match="can't be used"):
            open_channel(Server.parse(uri), settings, patience())


def test_a_host_name_is_compared(authority: Authority) -> None:
    """`localhost` is what the certificate must say, not what this machine is called."""
    issued = authority.issue("name", "DNS:localhost")
    with (
        listening(lambda plain: echo_by_tls(plain, issued)) as port,
        open_(f"ldaps://localhost:{port}", authority.certificate) as channel,
    ):
        channel.sendall(b"abc")
        assert receive(channel, 3) == b"ABC"


def test_plain_channels(tmp_path: Path) -> None:
    """On loopback, and over a unix socket, bytes go as they are."""
    with listening(echo) as port, open_(f"ldap://127.0.0.1:{port}", start_tls=False) as channel:
        channel.sendall(b"abc")
        assert receive(channel, 3) == b"ABC"
    path = tmp_path / "ldapi"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with open_(f"ldapi://{path}") as channel:
            connection, _ = server.accept()
            with connection:
                channel.sendall(b"abc")
                assert connection.recv(10) == b"abc"


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_server_that_accepts_and_is_silent(authority: Authority, scheme: str) -> None:
    """No answer in time."""
    with (
        socket.create_server(("127.0.0.1", 0)) as hole,
        pytest.raises(Unreachable, match="no answer in time"),
    ):
        open_(f"{scheme}://127.0.0.1:{hole.getsockname()[1]}", authority.certificate, patience(0.1))


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_server_that_is_silent_after_its_first_bytes(authority: Authority, scheme: str) -> None:
    """A byte now and then buys no time."""
    is_over = threading.Event()

    def serve(plain: socket.socket) -> None:
        for byte in AGREED if scheme == "ldap" else bytes.fromhex("16030300ff02"):
            plain.sendall(bytes([byte]))
            is_over.wait(0.05)
        is_over.wait(LONG)

    with listening(serve) as port:
        try:
            with pytest.raises(Unreachable, match="no answer in time"):
                open_(f"{scheme}://127.0.0.1:{port}", authority.certificate, patience(0.2))
        finally:
            is_over.set()


def test_a_channel_ends_when_time_is_up(authority: Authority) -> None:
    """Whoever reads sees the end: libldap, which can't always be stopped by a time-out, is woken up."""
    issued = authority.issue("good")
    is_over = threading.Event()

    def serve(plain: socket.socket) -> None:
        with wrap(plain, issued):
            is_over.wait(LONG)

    with listening(serve) as port:
        uri = f"ldaps://127.0.0.1:{port}"
        with open_(uri, authority.certificate, patience(0.3, 0.6)) as channel:
            assert receive(channel, 1) == b""
        alive = patience(0.3, 0.6)
        alive.has_answered()
        with open_(uri, authority.certificate, alive) as channel:
            assert receive(channel, 1) == b""
        is_over.set()


def test_the_threads_end_with_their_channels(authority: Authority) -> None:
    """Closing one end closes the server's."""
    issued = authority.issue("good")
    ended = threading.Event()

    def serve(plain: socket.socket) -> None:
        with wrap(plain, issued) as tls:
            echo(tls)
            ended.set()

    with listening(serve) as port:
        open_(f"ldaps://127.0.0.1:{port}", authority.certificate).close()
        assert ended.wait(LONG)


@pytest.mark.parametrize(
    "uri",
    ["ldaps://127.0.0.1:1", "ldap://nowhere.invalid", f"ldap://{'a' * 70}.invalid", "ldapi:///nowhere/ldapi"],
)
def test_nobody_there(uri: str) -> None:
    """A closed port, a name without an address, a name that can't be one, no socket."""
    with pytest.raises(Unreachable):
        open_(uri)
