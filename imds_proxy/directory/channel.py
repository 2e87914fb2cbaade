"""The socket of a connection: TCP or unix, with TLS where it must be. TLS is Python's, not libldap's.

libldap waits for ever in the handshake of ldaps:// when a server accepts and then is silent, whatever
time-outs it is given, and takes its settings for TLS from files and variables of the whole machine, where
verification can be switched off. So it gets one end of a socket pair, and a thread carries the bytes to the
TLS socket and back.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.directory.connection import Unreachable
from imds_proxy.errors import ProviderError

if TYPE_CHECKING:
    from imds_proxy.directory.connection import Patience
    from imds_proxy.directory.server import Server
    from imds_proxy.directory.settings import DirectorySettings

_CHUNK = 16 << 10
_LONGEST_ANSWER = 4096

# RFC 4511 section 4.14: message 1, ExtendedRequest, requestName 1.3.6.1.4.1.1466.20037
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"

_SEQUENCE, _INTEGER, _ENUMERATED, _EXTENDED_RESPONSE = 0x30, 0x02, 0x0A, 0x78


def open_channel(server: Server, settings: DirectorySettings, patience: Patience) -> socket.socket:
    """Return a socket that speaks LDAP with `server`, behind which the server's certificate was verified.

    Closing it ends the whole. Raises Unreachable.
    """
    try:
        plain = _connect(server, patience)
        if server.scheme == "ldapi" or (server.scheme == "ldap" and not settings.start_tls):
            plain.settimeout(None)
            return plain
        try:
            if server.scheme == "ldap":
                _start_tls(plain, patience)
            plain.settimeout(patience.left())
            tls = _make_context(settings.ca_file).wrap_socket(plain, server_hostname=server.host)
        except BaseException:
            plain.close()
            raise
        return _relay(tls, patience)
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"its certificate is not accepted: {error.verify_message}") from error
    except TimeoutError as error:
        raise Unreachable("no answer in time") from error
    except (OSError, UnicodeError) as error:  # a UnicodeError: a name that DNS can't have
        raise Unreachable(getattr(error, "strerror", None) or str(error)) from error


def _connect(server: Server, patience: Patience) -> socket.socket:
    """Return a connected socket. A host with several addresses is tried at each."""
    if server.scheme == "ldapi":
        unix = socket.socket(socket.AF_UNIX)
        try:
            unix.settimeout(patience.left())
            unix.connect(server.path)
        except BaseException:
            unix.close()
            raise
        return unix
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(patience.left() / (len(found) - number))
            connection.connect(address)
            # The small messages of TLS and LDAP would each wait 40 ms for an acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _start_tls(plain: socket.socket, patience: Patience) -> None:
    """Have the server agree to TLS. Not a byte beyond its answer is read: what follows must be TLS."""
    plain.settimeout(patience.left())
    plain.sendall(_START_TLS)
    head = _receive(plain, 2, patience)
    if head[1] & 0x80:
        head += _receive(plain, head[1] & 0x7F, patience)
    length = _length(head[1:])
    if head[0] != _SEQUENCE or length > _LONGEST_ANSWER:
        raise Unreachable("does not speak LDAP")
    if not _agrees(_receive(plain, length, patience)):
        raise Unreachable("refuses StartTLS")


def _agrees(message: bytes) -> bool:
    """Tell whether a message is the answer to ours and says success (RFC 4511 section 4.1.9)."""
    id_tag, message_id, rest = _split(message)
    tag, response, _ = _split(rest)
    code_tag, code, _ = _split(response)
    tags = (id_tag, tag, code_tag)
    return tags == (_INTEGER, _EXTENDED_RESPONSE, _ENUMERATED) and (message_id, code) == (b"\x01", b"\x00")


def _split(encoded: bytes) -> tuple[int, bytes, bytes]:
    """Return the first element's tag and content, and what follows it (X.690 section 8.1)."""
    if len(encoded) < 2:
        raise Unreachable("does not speak LDAP")
    start = 2 + (encoded[1] & 0x7F if encoded[1] & 0x80 else 0)
    end = start + _length(encoded[1:start])
    return encoded[0], encoded[start:end], encoded[end:]


def _length(octets: bytes) -> int:
    """Return a length: in one octet up to 127, else that octet counts those that have it."""
    return int.from_bytes(octets[1:]) if octets[0] & 0x80 else octets[0]


def _receive(plain: socket.socket, count: int, patience: Patience) -> bytes:
    received = b""
    while len(received) < count:
        plain.settimeout(patience.left())
        chunk = plain.recv(count - len(received))
        if not chunk:
            raise Unreachable("hung up")
        received += chunk
    return received


def _make_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what verifies certificates: by `ca_file`, else by the system's store. Raises ProviderError."""
    store = str(ca_file) if ca_file else ssl.get_default_verify_paths().cafile
    try:
        stamp = Path(store).stat().st_mtime_ns if store else 0
        return _read_context(str(ca_file) if ca_file else None, stamp)
    except OSError as error:  # ssl's errors are, too
        raise ProviderError(f"LDAP: {store} can't be used: {error}") from error


@lru_cache(maxsize=8)
def _read_context(ca_file: str | None, _stamp: int) -> ssl.SSLContext:
    # Kept because reading a system's store takes 30 ms; a changed file has another stamp.
    return ssl.create_default_context(cafile=ca_file)


def _relay(tls: ssl.SSLSocket, patience: Patience) -> socket.socket:
    """Return a socket whose bytes go through `tls`, until one side ends or time is up."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_carry, args=(ours, tls, patience), name="ldap tls", daemon=True)
    thread.start()
    return theirs


def _carry(inner: socket.socket, tls: ssl.SSLSocket, patience: Patience) -> None:
    with inner, tls, selectors.DefaultSelector() as selector:
        selector.register(inner, selectors.EVENT_READ)
        selector.register(tls, selectors.EVENT_READ)
        try:
            while True:
                ready = {key.fileobj for key, _ in selector.select(patience.left())}
                if inner in ready and not _pass_on(inner, tls, patience):
                    return
                if tls in ready and not _pass_all_on(tls, inner, patience):
                    return
        except (OSError, Unreachable):
            return  # whoever waits at the other end of the pair sees that it is closed


def _pass_all_on(tls: ssl.SSLSocket, inner: socket.socket, patience: Patience) -> bool:
    """Pass on what has arrived, and what TLS has already taken from the socket and still holds."""
    is_open = _pass_on(tls, inner, patience)
    while is_open and tls.pending():
        is_open = _pass_on(tls, inner, patience)
    return is_open


def _pass_on(source: socket.socket, target: socket.socket, patience: Patience) -> bool:
    """Pass some bytes on, and tell whether there may be more."""
    source.settimeout(0)
    try:
        chunk = source.recv(_CHUNK)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True  # what arrived was TLS's own business, or not yet a whole record
    target.settimeout(patience.left())
    target.sendall(chunk)
    return bool(chunk)
