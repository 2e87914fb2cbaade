"""The ways to know who is asking, over real sockets: HTTP Basic, unix sockets, client certificates."""

from __future__ import annotations

import base64
import json
import os
import pwd
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.directory.verify import AccountLocked
from imds_proxy.errors import ProviderError
from imds_proxy.web.basic import BasicSignOn
from imds_proxy.web.login_throttle import LoginThrottle
from tests.standins.certificates import make_certificate
from tests.standins.people_wire import PeopleCaller, error_of
from tests.web.people import BASE, PROXY, STRANGER, USER_HEADER, PeopleWorld, running_people

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.wire import Header, WireAnswer

READER = f"{BASE}/account/main/reader"
ACCOUNTS = f"{BASE}/account"
PASSWORD = "pässword:with a colon"

ASK = """
import os, socket, sys
place, request, uid = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX)
os.setgid(int(uid))
os.setuid(int(uid))
sock.connect(place)
sock.sendall(request.encode())
print(sock.recv(65536).decode("latin-1"))
"""
"""Asks over a unix socket as another user."""


# --- HTTP Basic ----------------------------------------------------------------------------------------


class Directory:
    """Stands in for LDAP: alice has a password."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_down = False
        self.is_locked = False

    def verify(self, user: str, password: str) -> str | None:
        """Return the name as the directory spells it if the password is right."""
        self.asked.append(user)
        if self.is_down:
            raise ProviderError("no server answers: ldap1.valid.example")
        if self.is_locked:
            raise AccountLocked("the directory has locked the account of 'alice'")
        return "alice" if (user.lower(), password) == ("alice", PASSWORD) else None


@pytest.fixture
def directory() -> Directory:
    """What confirms passwords."""
    return Directory()


@pytest.fixture
def world(directory: Directory, tmp_path: Path) -> Iterator[PeopleWorld]:
    """A site that knows people by HTTP Basic."""
    with running_people(tmp_path) as running:
        running.site.use_sign_on(
            BasicSignOn(
                directory.verify,
                patience=6,
                threads=DaemonThreads("directory", most=8, longest_line=64),
                throttle=LoginThrottle(SYSTEM_CLOCK),
                clock=SYSTEM_CLOCK,
            )
        )
        yield running


def basic(user: str, password: str) -> Header:
    """Return the header for a name and a password."""
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def assert_asks_for_password(answer: WireAnswer) -> None:
    """Check for the 401 that makes a browser ask."""
    assert answer.status == 401
    assert answer.header("WWW-Authenticate") == 'Basic realm="imds-proxy", charset="UTF-8"'
    assert answer.header("X-Username") is None
    assert answer.reason == "Unauthorized"
    error_of(answer)


def test_a_right_password(world: PeopleWorld, directory: Directory) -> None:
    """From the first request on, as `afp` sends it; the name is the directory's; once is enough."""
    caller = world.caller(basic("Alice", PASSWORD))
    first = caller.get(READER)
    assert (first.status, first.header("X-Username")) == (200, "alice")
    assert first.header("WWW-Authenticate") is None
    assert caller.get(ACCOUNTS).status == 200
    assert directory.asked == ["Alice"]


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("alice", PASSWORD + " ")]
)
def test_a_wrong_one(world: PeopleWorld, user: str, password: str) -> None:
    """401, the same for an unknown user; a header from a proxy helps nothing; AWS is not asked."""
    answer = world.proxy("alice").ask("GET", READER, basic(user, password))
    assert_asks_for_password(answer)
    assert world.calls == 0


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [basic("alice", "")],
        [basic("", PASSWORD)],
        [("Authorization", "Basic x")],
        [basic("alice", PASSWORD)] * 2,
    ],
)
def test_the_directory_is_not_asked_about_nothing(
    world: PeopleWorld, directory: Directory, headers: list[Header]
) -> None:
    """No header, empty names and passwords, garbage, a doubled one: 401."""
    assert_asks_for_password(world.caller(*headers).get(READER))
    assert directory.asked == []


def test_guesses_are_refused_before_the_directory_hears_of_them(
    world: PeopleWorld, directory: Directory
) -> None:
    """From many addresses three of them reach it, and 429 says when to come back; no password is asked for.

    Where alice has logged in before, her password goes through at once.
    """
    assert world.caller(basic("alice", PASSWORD)).get(ACCOUNTS).status == 200
    callers = [
        world.caller(basic("alice", f"guess {number}"), source=f"127.0.1.{number}") for number in range(8)
    ]
    answers = [caller.get(READER) for caller in callers]
    assert [answer.status for answer in answers] == [401] * 3 + [429] * 5
    assert len(directory.asked) == 1 + 3
    for answer in answers[3:]:
        assert int(answer.header("Retry-After") or "") > 1000
        assert answer.header("WWW-Authenticate") is None
        error_of(answer)
    assert world.caller(basic("Alice", PASSWORD)).get(ACCOUNTS).status == 200
    assert len(directory.asked) == 1 + 3 + 1
    assert world.calls == 0
    counts = world.site.metrics.login_failures.counts
    assert dict(counts) == {("wrong_password",): 3, ("throttled",): 5}


def test_unknown_users_are_refused_alike(world: PeopleWorld, directory: Directory) -> None:
    """So that nobody learns who is one."""
    for user in ("alice", "nobody"):
        statuses = [
            world.caller(basic(user, f"guess {number}"), source=f"127.0.1.{number}").get(READER).status
            for number in range(5)
        ]
        assert statuses == [401] * 3 + [429] * 2
    assert len(directory.asked) == 6


def test_a_locked_account(world: PeopleWorld, directory: Directory) -> None:
    """Hears what a wrong password hears; the record and the metric say it."""
    directory.is_locked = True
    locked = world.caller(basic("alice", PASSWORD)).get(READER)
    directory.is_locked = False
    wrong = world.caller(basic("alice", "wrong"), source=STRANGER).get(READER)
    assert_asks_for_password(locked)
    assert (locked.text, locked.reason) == (wrong.text, wrong.reason)
    world.site.do(lambda: world.site.workshop.audit.close(10))
    reasons = [record["reason"] for record in world.site.audit_records()]
    assert "locked" in reasons[0]
    assert dict(world.site.metrics.login_failures.counts) == {("locked",): 1, ("wrong_password",): 1}
    assert world.calls == 0


def test_the_directory_is_down(world: PeopleWorld, directory: Directory) -> None:
    """503, no challenge: asking for the password again would help nobody. Its text is for the record."""
    directory.is_down = True
    answer = world.caller(basic("alice", PASSWORD)).get(READER)
    assert (answer.status, answer.header("WWW-Authenticate")) == (503, None)
    assert "ldap1" not in answer.text
    world.site.do(lambda: world.site.workshop.audit.close(10))
    [record] = world.site.audit_records()
    assert record["outcome"] == "trouble"
    assert "ldap1.valid.example" in record["reason"]
    assert world.site.metrics.logins.counts == {("trouble",): 1}


def test_failed_logins_are_on_record(world: PeopleWorld) -> None:
    """Who was tried from where; no password; a first request without a password is no try."""
    world.caller().get(READER)
    world.caller(basic("alice", "wrong-secret"), source=STRANGER).get(READER)
    world.site.do(lambda: world.site.workshop.audit.close(10))
    [record] = world.site.audit_records()
    assert (record["caller"], record["name"], record["outcome"]) == (STRANGER, "alice", "refused")
    assert "wrong-secret" not in json.dumps(record)
    assert world.site.metrics.logins.counts == {("refused",): 1}


def test_another_site_makes_no_use_of_a_remembered_password(world: PeopleWorld, directory: Directory) -> None:
    """Browsers send it along by themselves: 403, and the directory is not asked."""
    caller = world.caller(basic("alice", PASSWORD))
    assert caller.ask("GET", READER, ("Sec-Fetch-Site", "cross-site")).status == 403
    assert (directory.asked, world.calls) == ([], 0)


# --- unix sockets --------------------------------------------------------------------------------------


@contextmanager
def running_on_socket(tmp_path: Path, identity: dict[str, object]) -> Iterator[tuple[PeopleWorld, Path]]:
    """Serve people on a unix socket that every user may open."""
    with tempfile.TemporaryDirectory(prefix="people-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "people.sock"
        listen = [{"unix": str(place), "mode": "0666"}]
        with running_people(tmp_path, listen=listen, identity=identity) as running:
            yield running, place


def over(place: Path, *headers: Header) -> PeopleCaller:
    """Return a caller on a unix socket."""
    return PeopleCaller(("localhost", 0), headers=headers, socket_path=place)


def ask_as(uid: int, place: Path, *headers: Header) -> str:
    """Return what a process of another user is answered. Skips where nobody may become another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    request = over(place).render("GET", ACCOUNTS, *headers).decode()
    command = [sys.executable, "-c", ASK, str(place), request, str(uid)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_the_user_of_the_socket(tmp_path: Path) -> None:
    """`{peer: true}`: whoever opened it, by the kernel's word. Headers claim nothing."""
    me = pwd.getpwuid(os.getuid()).pw_name
    with running_on_socket(tmp_path, {"peer": True}) as (world, place):
        for headers in ([], [(USER_HEADER, "alice")], [basic("alice", "x")]):
            answer = over(place, *headers).get(ACCOUNTS)
            assert (answer.status, answer.header("X-Username")) == (200, me)
        assert over(place).get(READER).status == 403
        world.site.do(lambda: world.site.workshop.audit.close(10))
        [record] = world.site.audit_records()
        assert (record["caller"], record["name"]) == (f"uid:{os.getuid()}", me)


def test_users_without_a_name(tmp_path: Path) -> None:
    """A uid that NSS does not know, and the one that stands for all that the kernel can't name: 401."""
    with running_on_socket(tmp_path, {"peer": True}) as (world, place):
        for uid in (54321, 65534):
            answer = ask_as(uid, place)
            assert answer.startswith("HTTP/1.1 401 ")
            assert "WWW-Authenticate" not in answer
        assert world.calls == 0


def test_hosts_on_a_socket(tmp_path: Path) -> None:
    """What its clients call it: one word, a loopback address, public_url's host. No name of the world's."""
    with running_on_socket(tmp_path, {"peer": True}) as (_, place):
        for host in ("localhost", "imds-proxy", "127.0.0.1", "[::1]:80", "afp.valid.example"):
            assert over(place).ask("GET", ACCOUNTS, host=host).status == 200, host
        for host in ("attacker.example", "10.0.0.1", "", "a@b.example"):
            asked = over(place).render("GET", ACCOUNTS, host=None)[:-2] + f"Host: {host}\r\n\r\n".encode()
            assert over(place).exchange(asked).status == 403, host


def test_a_proxy_over_a_socket(tmp_path: Path) -> None:
    """Its uid has to be trusted; it needs no secret."""
    identity: dict[str, object] = {"header": USER_HEADER, "trusted": [str(os.getuid())]}
    with running_on_socket(tmp_path, identity) as (world, place):
        assert json.loads(over(place, (USER_HEADER, "alice")).get(ACCOUNTS).body)["main"]
        assert over(place).get(ACCOUNTS).status == 401
        assert over(place, (USER_HEADER, "alice"), (USER_HEADER, "alice")).get(ACCOUNTS).status == 401
        assert over(place, (USER_HEADER, "al\x01ice")).get(ACCOUNTS).status == 401
        assert over(place, (USER_HEADER, "alice")).ask("GET", READER, host="attacker.example").status == 403
        assert world.calls == 0


def test_a_header_of_another_user(tmp_path: Path) -> None:
    """Over the same socket: 401 for whoever is not trusted, root too."""
    identity: dict[str, object] = {"header": USER_HEADER, "trusted": ["54321"]}
    with running_on_socket(tmp_path, identity) as (world, place):
        assert over(place, (USER_HEADER, "alice")).get(READER).status == 401
        assert world.calls == 0
        assert ask_as(54321, place, (USER_HEADER, "alice")).startswith("HTTP/1.1 200 ")


def test_a_socket_that_is_no_longer_configured(tmp_path: Path) -> None:
    """Lets nobody in."""
    with running_on_socket(tmp_path, {"peer": True}) as (world, place):
        listener = world.site.listeners[0]
        world.site.do(lambda: setattr(listener, "service", listener.service.closed()))
        assert over(place).get(f"{BASE}/status").status == 403


# --- client certificates -------------------------------------------------------------------------------


def test_a_proxy_with_a_certificate(tmp_path: Path) -> None:
    """A certificate of client_ca proves a trusted address as the secret does; without one it is nobody."""
    server = make_certificate(tmp_path, name="server")
    proxy = make_certificate(tmp_path, name="proxy")
    server.pem.chmod(0o600)
    tls = {"certificate": str(server.pem), "key": str(server.pem), "client_ca": str(proxy.authority)}
    listen = [{"address": "127.0.0.1:0", "tls": tls}]
    with running_people(
        tmp_path, listen=listen, identity={"header": USER_HEADER, "trusted": [PROXY]}
    ) as world:

        def caller(*, shows: Path | None, source: str = PROXY) -> PeopleCaller:
            context = ssl.create_default_context(cafile=str(server.authority))
            if shows is not None:
                context.load_cert_chain(shows)
            place = ("127.0.0.1", world.site.ports[0])
            return PeopleCaller(place, source, ((USER_HEADER, "alice"),), tls=context)

        answer = caller(shows=proxy.pem).get(ACCOUNTS)
        assert answer.status == 200
        assert answer.header("Strict-Transport-Security") == "max-age=31536000"
        assert caller(shows=None).get(ACCOUNTS).header("Strict-Transport-Security") == "max-age=31536000"
        assert caller(shows=None).get(ACCOUNTS).status == 401
        assert caller(shows=proxy.pem, source=STRANGER).get(ACCOUNTS).status == 401
        assert caller(shows=None).get(f"{BASE}/status").status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            caller(shows=server.pem).get(ACCOUNTS)
        own = ("Origin", f"https://127.0.0.1:{world.site.ports[0]}")
        assert caller(shows=proxy.pem).ask("GET", ACCOUNTS, own).status == 200
        plain = ("Origin", f"http://127.0.0.1:{world.site.ports[0]}")
        assert caller(shows=proxy.pem).ask("GET", ACCOUNTS, plain).status == 403
        assert world.calls == 0
