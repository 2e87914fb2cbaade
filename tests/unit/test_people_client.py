"""people_client: how long it waits, where it goes, what it sends. What it says is in tests/web."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy import people_client
from imds_proxy.errors import Refusal, Trouble
from imds_proxy.people_client import PeopleClient, at_socket, at_url
from tests.standins.people_api import PeopleApi, Reply, running_people_api
from tests.standins.privileges import without_privileges

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.sock"


@pytest.fixture
def api(path: Path) -> Iterator[PeopleApi]:
    with running_people_api(socket=path) as running:
        yield running


def no_tls() -> ssl.SSLContext:
    raise AssertionError("there is no TLS here")


@contextmanager
def dripping(path: Path) -> Iterator[None]:
    """Answer one connection with a byte at a time, without an end, until the block ends."""
    is_over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not is_over.wait(0.01):
                    connection.sendall(b"y")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(10)


def test_an_answer_that_never_comes(api: PeopleApi, path: Path) -> None:
    """Silence is trouble, after the time given."""
    api.released.clear()
    with pytest.raises(Trouble, match=r"no answer within 0\.1 s"):
        PeopleClient(at_socket(path), None, patience=0.1).roles()


def test_an_answer_that_never_ends(path: Path) -> None:
    """So is an answer of which there is always one byte more: the time is for all of it."""
    with dripping(path), pytest.raises(Trouble, match=r"no answer within 0\.3 s"):
        PeopleClient(at_socket(path), None, patience=0.3).roles()


def test_a_socket_for_others(api: PeopleApi, path: Path) -> None:
    """Who may not open the socket hears so."""
    path.chmod(0)
    with without_privileges(), pytest.raises(Trouble, match="you may not open it"):
        PeopleClient(at_socket(path), None).roles()
    assert api.asked == []


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:1", ""),
        ("http://127.0.0.1:1/", ""),
        ("http://[::1]:1/a/b/", "/a/b"),
        ("http://localhost:1/a", "/a"),
        ("http://LOCALHOST./a", "/a"),
        ("https://afp.example/afp-api/latest", "/afp-api/latest"),
    ],
)
def test_places(url: str, base: str) -> None:
    """The path of a URL is what all paths begin with; a last slash does not count."""
    place = at_url(url, no_tls)
    assert (place.name, place.base_path) == (url, base)


@pytest.mark.parametrize(
    "host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "0.0.0.0", "[fe80::1]"]
)
def test_secrets_in_the_open(host: str) -> None:
    """Plain http goes to loopback alone."""
    with pytest.raises(ValueError, match="in the open"):
        at_url(f"http://{host}/", no_tls)


@given(st.text(), st.text())
def test_any_names(account: str, role: str) -> None:
    """Whatever the names are: the path has them, escaped, as one segment each."""
    path = people_client.role_path(account, role, "credentials")
    assert path.isascii()
    assert path.isprintable()
    assert " " not in path
    assert path.count("/") == 4


def test_secrets_are_in_no_repr(api: PeopleApi, path: Path) -> None:
    """A traceback with local variables shows no key."""
    assert api.asked == []
    keys = PeopleClient(at_socket(path), None).keys("main", "admin")
    assert keys.secret_key not in repr(keys)
    assert keys.session_token not in repr(keys)


def test_404_of_somebody_else(api: PeopleApi, path: Path) -> None:
    """A 404 counts as a refusal from a service that knows who is asking, else something else is there."""
    said = b'{"status": 404, "message": "no id"}'
    api.replies[""] = Reply(404, said)
    with pytest.raises(Refusal, match=r"^no id$"):
        PeopleClient(at_socket(path), None).keys("main", "admin")
    api.names_user = False
    with pytest.raises(Trouble, match="has no such path"):
        PeopleClient(at_socket(path), None).keys("main", "admin")
