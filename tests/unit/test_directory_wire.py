"""From python-ldap's calls and errors to ours; tests/system does it with python-ldap and a real server."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.directory.connection import BindRefused, Patience, SizeLimitExceeded, Unreachable
from imds_proxy.directory.settings import DirectorySettings
from imds_proxy.directory.wire import open_connection
from imds_proxy.errors import ProviderError
from tests.standins.python_ldap import FakeLibrary, PagedResults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.directory.connection import Connection

DONE: tuple[list[object], list[object]] = ([], [])


@pytest.fixture
def library(python_ldap: FakeLibrary) -> FakeLibrary:
    """What stands in for python-ldap, whether that is installed or not."""
    return python_ldap


@pytest.fixture
def connection(library: FakeLibrary) -> Iterator[Connection]:
    """One to a server that accepts; what it would say is the library's business."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"ldap://127.0.0.1:{server.getsockname()[1]}"
        settings = DirectorySettings.model_validate(
            {"servers": uri, "user_base": "dc=valid", "start_tls": False}
        )
        by = SYSTEM_CLOCK.monotonic() + 60
        connection = open_connection(
            settings.addresses()[0], settings, Patience(SYSTEM_CLOCK, first_answer_by=by, by=by)
        )
        yield connection
        connection.close()
    assert library.requests[-1][0] == "unbind"
    assert library.trace_level == 0


@pytest.mark.usefixtures("connection")
def test_options(library: FakeLibrary) -> None:
    """LDAPv3, no referrals, no aliases, no limits but ours, whatever the machine's ldap.conf says."""
    assert library.options == {17: 3, 8: 0, 2: 0, 3: 0, 4: 0}


def test_bind(connection: Connection, library: FakeLibrary) -> None:
    """A simple bind with name and password."""
    library.answers = [DONE]
    connection.bind("cn=alice", "richtig")
    assert library.requests == [("bind", ("cn=alice", "richtig"), {})]


@pytest.mark.parametrize(("dn", "password"), [("", "richtig"), ("cn=alice", ""), ("", "")])
def test_a_bind_as_nobody_is_never_sent(
    connection: Connection, library: FakeLibrary, dn: str, password: str
) -> None:
    """Whoever asks for it."""
    with pytest.raises(BindRefused):
        connection.bind(dn, password)
    assert library.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "INVALID_CREDENTIALS",
        "INAPPROPRIATE_AUTH",
        "INSUFFICIENT_ACCESS",
        "CONSTRAINT_VIOLATION",
        "UNWILLING_TO_PERFORM",
        "NO_SUCH_OBJECT",
        "INVALID_DN_SYNTAX",
    ],
)
def test_a_bind_that_is_refused(connection: Connection, library: FakeLibrary, name: str) -> None:
    """A no. The reason is on one line, whatever the server puts into it."""
    library.answers = [library.fail(name, desc="Invalid credentials", info="data 52e, v3839\0\n\x1b[31m")]
    with pytest.raises(BindRefused) as caught:
        connection.bind("cn=alice", "falsch")
    assert str(caught.value) == "Invalid credentials: data 52e, v3839[31m"


@pytest.mark.parametrize(
    ("name", "info", "is_locked"),
    [
        ("INVALID_CREDENTIALS", "80090308: LdapErr: DSID-0C09044E, comment, data 775, v1db1", True),
        ("INVALID_CREDENTIALS", "80090308: LdapErr: DSID-0C09044E, comment, data 52e, v1db1", False),
        ("INVALID_CREDENTIALS", "80090308: LdapErr: DSID-0C090775, AcceptSecurityContext, data 52e", False),
        ("CONSTRAINT_VIOLATION", "Exceed password retry limit. Please try later.", True),
        ("INVALID_CREDENTIALS", "", False),
    ],
)  # fmt: skip
def test_a_locked_account(
    connection: Connection, library: FakeLibrary, name: str, info: str, is_locked: bool
) -> None:
    """As Active Directory and 389 Directory Server say it."""
    library.answers = [library.fail(name, desc="refused", info=info)]
    with pytest.raises(BindRefused) as caught:
        connection.bind("cn=alice", "falsch")
    assert caught.value.is_locked is is_locked


@pytest.mark.parametrize(
    "name", ["SERVER_DOWN", "CONNECT_ERROR", "TIMEOUT", "BUSY", "UNAVAILABLE", "DECODING_ERROR"]
)
def test_a_server_that_is_of_no_use(connection: Connection, library: FakeLibrary, name: str) -> None:
    """At a bind and at a search: another one may be."""
    library.answers = [library.fail(name), library.fail(name)]
    with pytest.raises(Unreachable, match=name):
        connection.bind("cn=alice", "richtig")
    with pytest.raises(Unreachable, match=name):
        connection.search("dc=valid", "(uid=alice)", "uid", most=2)


@pytest.mark.parametrize("name", ["NO_SUCH_OBJECT", "INSUFFICIENT_ACCESS", "FILTER_ERROR"])
def test_settings_that_do_not_fit(connection: Connection, library: FakeLibrary, name: str) -> None:
    """A base that is not there is trouble, not somebody without groups."""
    library.answers = [library.fail(name)]
    with pytest.raises(ProviderError, match=f"search below dc=valid: {name}"):
        connection.search("dc=valid", "(uid=alice)", "uid", most=2)


def test_a_bind_for_which_the_server_wants_more(connection: Connection, library: FakeLibrary) -> None:
    """That it wants encryption says nothing about the password."""
    library.answers = [library.fail("STRONG_AUTH_REQUIRED")]
    with pytest.raises(ProviderError, match="bind: STRONG_AUTH_REQUIRED"):
        connection.bind("cn=alice", "richtig")


def test_search(connection: Connection, library: FakeLibrary) -> None:
    """Below the base, with one attribute; references to other servers are left out."""
    found = [("cn=alice,dc=valid", {"UID": [b"alice", b"\xff"]}), (None, ["ldap://elsewhere/"])]
    library.answers = [(found, []), library.fail("SIZELIMIT_EXCEEDED")]
    [entry] = connection.search("dc=valid", "(uid=alice)", "uid", most=2)
    assert (entry.dn, entry.texts("uid")) == ("cn=alice,dc=valid", ("alice",))
    [(kind, arguments, named)] = library.requests
    assert (kind, arguments) == ("search", ("dc=valid", 2, "(uid=alice)", ["uid"]))
    assert (named["sizelimit"], named["serverctrls"]) == (2, [])
    assert 1 <= named["timeout"] <= 60
    with pytest.raises(SizeLimitExceeded):
        connection.search("dc=valid", "(uid=alice)", "uid", most=2)


def test_pages(connection: Connection, library: FakeLibrary) -> None:
    """The control goes with the request, not critical; the next page's cookie comes with the answer."""
    page = [("cn=one,dc=valid", {"cn": [b"one"]})]
    library.answers = [
        (page, [PagedResults(False, 0, b"next")]),
        (page, [PagedResults(False, 0, b"")]),
        (page, []),
    ]
    assert connection.search_page("dc=valid", "(cn=*)", "cn", size=7, cookie=b"").cookie == b"next"
    assert connection.search_page("dc=valid", "(cn=*)", "cn", size=7, cookie=b"next").cookie == b""
    assert connection.search_page("dc=valid", "(cn=*)", "cn", size=7, cookie=b"").cookie == b""
    sent = [named["serverctrls"] for _, _, named in library.requests]
    assert sent[:2] == [[PagedResults(False, 7, b"")], [PagedResults(False, 7, b"next")]]
