"""The LDAP client and a real OpenLDAP server: TLS, groups in groups, pages, passwords, dead servers."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_proxy import AWSFederationProxy, registry
from imds_proxy.directory.groups import groups_of
from imds_proxy.directory.settings import DirectorySettings
from imds_proxy.directory.verify import verify
from imds_proxy.errors import ProviderError, Refusal
from imds_proxy.model import Grant
from tests.standins import slapd
from tests.standins.authority import Authority
from tests.standins.daemon import write_settings
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.slapd import group, group_dn, person, person_dn, running_slapd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.slapd import Slapd

pytestmark = pytest.mark.system

WAYS = ("ldap", "ldaps", "ldapi")
MANY = tuple(f"group-{number:04}" for number in range(1500))
ODD = "o'dd * (näme)"
ODD_DN = person_dn(r"o'dd * (näme)\2C \22x\22 \5C #")
SECRETS = ("richtig-Alice", "falsch-99", slapd.SEARCHER_PASSWORD)

ENTRIES = (
    person("alice", "richtig-Alice"),
    person("bob", "richtig-Bob"),
    person("locked"),
    slapd.entry(
        person_dn("twin one"), objectClass="inetOrgPerson", sn="t", uid="twin", userPassword="zwilling"
    ),
    slapd.entry(
        person_dn("twin two"), objectClass="inetOrgPerson", sn="t", uid="twin", userPassword="zwilling"
    ),
    slapd.entry(ODD_DN, objectClass="inetOrgPerson", sn="o", uid=ODD, userPassword="seltsam"),
    group("aws-main-admin", [person_dn("alice"), group_dn("third")]),
    group("second", [group_dn("aws-main-admin")]),
    group("third", [group_dn("second"), group_dn("third")]),
    group("odd", [ODD_DN]),
    *(group(name, [person_dn("bob")]) for name in MANY),
    slapd.entry(group_dn("posix"), objectClass="posixGroup", gidNumber="7", memberUid=["alice", "bob"]),
)


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    pytest.importorskip("ldap", reason="python-ldap is missing: pip install 'imds-proxy[ldap]'")
    missing = slapd.find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("directory")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[Slapd]:
    """Nobody gets more than 100 entries at once, and the searcher as many as it likes in pages."""
    limits = f'sizelimit 100\nlimits dn.exact="{slapd.SEARCHER}" size=100 size.prtotal=unlimited'
    with running_slapd(folder / "good", ENTRIES, issued=authority.issue("good"), more=limits) as running:
        yield running


def settings(*uris: str, **more: object) -> DirectorySettings:
    """Return the settings of a directory."""
    return DirectorySettings.model_validate(slapd.settings_for(*uris, **more))


@contextmanager
def black_hole() -> Iterator[tuple[int, list[socket.socket]]]:
    """Yield the port of a server that accepts and never answers, and the connections that it has."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as hole:

        def accept() -> None:
            while True:
                try:
                    connections.append(hole.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield hole.getsockname()[1], connections
        finally:
            hole.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in connections:
                each.close()


def await_connection(connections: list[socket.socket], seconds: float = 30) -> None:
    """Return when somebody has come. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not connections:
        assert time.monotonic() < deadline, "nobody came"
        time.sleep(0.01)


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_a_server(server: Slapd, authority: Authority, way: str) -> None:
    """StartTLS, LDAPS and the unix socket: groups, and right, wrong and unknown at HTTP Basic."""
    here = settings(getattr(server, way), ca_file=str(authority.certificate))
    assert groups_of(here, "alice") == ("aws-main-admin",)
    assert groups_of(here, "nobody") is None
    assert verify(here, "Alice", "richtig-Alice") == "alice"
    assert verify(here, "alice", "falsch") is None
    assert verify(here, "bob", "richtig-Alice") is None
    assert verify(here, "locked", "richtig-Alice") is None
    assert verify(here, "nobody", "richtig-Alice") is None


def test_groups_in_groups_and_a_cycle(server: Slapd) -> None:
    """Walked to the end; without `nested` only the group that has alice herself."""
    assert groups_of(settings(server.ldapi, nested="walk"), "alice") == ("aws-main-admin", "second", "third")
    assert groups_of(settings(server.ldapi), "alice") == ("aws-main-admin",)


def test_active_directorys_rule_is_none_of_openldaps(server: Slapd) -> None:
    """A rule that a server lacks finds nothing: no grant, never all groups."""
    assert groups_of(settings(server.ldapi, nested="ad", user_filter="(uid={user})"), "alice") == ()


def test_member_uid(server: Slapd) -> None:
    """posixGroup lists login names."""
    assert groups_of(settings(server.ldapi, member_attribute="memberUid"), "ALICE") == ("posix",)


def test_fifteen_hundred_groups(server: Slapd) -> None:
    """In pages, past the server's limit for one answer; none is lost."""
    assert groups_of(settings(server.ldapi, page_size=100), "bob") == MANY
    walked = groups_of(settings(server.ldapi, page_size=100, nested="walk"), "bob")
    assert walked == MANY


def test_a_server_that_gives_too_few_groups(server: Slapd) -> None:
    """Whoever may see only a hundred of them gets no answer, not a hundred groups. So does max_groups."""
    anonymous = {"bind_dn": None, "ldap_bind_password": None}
    with pytest.raises(ProviderError, match="size limit"):
        groups_of(settings(server.ldapi, page_size=50, **anonymous), "bob")
    with pytest.raises(ProviderError, match="max_groups"):
        groups_of(settings(server.ldapi, page_size=100, max_groups=1499), "bob")


@pytest.mark.parametrize(
    "user", ["*", "*)(uid=*", "alice)(|(uid=*", "alice)(objectClass=*", "a*", "alice\0", "\\2a", "al\\69ce"]
)
def test_a_filter_injection_is_nobody(server: Slapd, user: str) -> None:
    """Neither for groups nor for a password that is somebody's."""
    here = settings(server.ldapi, nested="walk")
    assert groups_of(here, user) is None
    assert verify(here, user, "richtig-Alice") is None


def test_odd_names(server: Slapd) -> None:
    """Special characters in a login name and in a DN: found, escaped, and its password is right."""
    here = settings(server.ldapi, nested="walk")
    assert groups_of(here, ODD) == ("odd",)
    assert verify(here, ODD, "seltsam") == ODD


def test_two_with_one_name(server: Slapd) -> None:
    """Refused, and nobody logs in by it."""
    with pytest.raises(Refusal, match="twin"):
        groups_of(settings(server.ldapi), "twin")
    assert verify(settings(server.ldapi), "twin", "zwilling") is None


def test_an_empty_password_where_anybody_may_bind(server: Slapd) -> None:
    """The server takes it for a bind as nobody and says yes; here it is a no."""
    if shutil.which("ldapwhoami") is None:
        pytest.skip("missing: ldapwhoami (Debian package ldap-utils)")
    for dn, password in ((person_dn("alice"), ""), ("", "")):
        command = ["ldapwhoami", "-x", "-H", server.ldapi, "-D", dn, "-w", password]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stdout == "anonymous\n"
    assert verify(settings(server.ldapi), "alice", "") is None
    assert verify(settings(server.ldapi), "", "") is None
    assert verify(settings(server.ldapi), "", "richtig-Alice") is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("other host", "IP address mismatch"),
        ("unknown authority", "unable to get local issuer"),
        ("expired", "has expired"),
    ],
)
def test_wrong_certificates(
    tmp_path: Path, authority: Authority, server: Slapd, kind: str, text: str
) -> None:
    """No way in by LDAPS or StartTLS; a second server with the right certificate answers instead."""
    issued = {
        "other host": lambda: authority.issue("other", "DNS:ldap.valid.example"),
        "unknown authority": lambda: Authority(tmp_path, "stranger").issue("strange"),
        "expired": lambda: authority.issue("expired", days=-1),
    }[kind]()
    more = {"ca_file": str(authority.certificate)}
    with running_slapd(tmp_path / "wrong", ENTRIES[:2], issued=issued) as wrong:
        for uri in (wrong.ldap, wrong.ldaps):
            with pytest.raises(ProviderError, match=text):
                groups_of(settings(uri, **more), "alice")
            with pytest.raises(ProviderError, match=text):
                verify(settings(uri, **more), "alice", "richtig-Alice")
        assert groups_of(settings(wrong.ldaps, server.ldaps, **more), "alice") == ("aws-main-admin",)


def test_a_server_without_tls(tmp_path: Path) -> None:
    """It refuses StartTLS, and nothing goes there in the clear; on loopback one may say so."""
    with running_slapd(tmp_path / "plain", ENTRIES[:1]) as plain:
        with pytest.raises(ProviderError, match="refuses StartTLS"):
            groups_of(settings(plain.ldap), "alice")
        assert verify(settings(plain.ldap, start_tls=False), "alice", "richtig-Alice") == "alice"


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_dead_first_server(server: Slapd, authority: Authority, scheme: str) -> None:
    """A closed port and one that accepts and never answers: the second one does, and is asked first then."""
    with black_hole() as (port, connections):
        for dead in (closed_port(), port):
            here = settings(
                f"{scheme}://127.0.0.1:{dead}", server.ldaps, ca_file=str(authority.certificate), timeout=1
            )
            for _ in range(3):
                assert groups_of(here, "alice") == ("aws-main-admin",)
            assert verify(here, "alice", "richtig-Alice") == "alice"
        assert len(connections) == 1


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_silent_server_holds_up_nobody_else(server: Slapd, scheme: str) -> None:
    """While one thread waits for it, another one asks and is answered: nothing is held that both need."""
    with black_hole() as (port, connections):
        silent = settings(f"{scheme}://127.0.0.1:{port}", timeout=60)
        waiting = threading.Thread(target=pytest.raises, args=(ProviderError, groups_of, silent, "alice"))
        waiting.start()
        await_connection(connections)
        assert groups_of(settings(server.ldapi), "alice") == ("aws-main-admin",)
        assert waiting.is_alive()
        connections[0].shutdown(socket.SHUT_RDWR)
        waiting.join()


def test_a_process_ends_while_a_thread_waits_for_a_server() -> None:
    """A daemon thread in the midst of a question keeps no program from its end."""
    program = (
        "import sys, threading\n"
        "from imds_proxy.directory.groups import groups_of\n"
        "from imds_proxy.directory.settings import DirectorySettings\n"
        "port = sys.argv[1]\n"
        "settings = DirectorySettings.model_validate({'servers': f'ldap://127.0.0.1:{port}',\n"
        "    'start_tls': False, 'user_base': 'dc=x', 'group_base': 'dc=x', 'timeout': 60})\n"
        "threading.Thread(target=groups_of, args=(settings, 'alice'), daemon=True).start()\n"
        "sys.stdin.read()\n"
        "print('ends')\n"
    )
    with black_hole() as (port, connections):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(port)],
            cwd=REPOSITORY,
            env=bare_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        await_connection(connections)
        out, errors = child.communicate("", timeout=30)
        assert (child.returncode, out, errors) == (0, "ends\n", "")


def test_no_log_and_no_trace_has_a_password(
    server: Slapd, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even with python-ldap's own trace switched on, which writes the arguments of every call."""
    library: Any = importlib.import_module("ldap")
    caplog.set_level("DEBUG")
    before = library._trace_level
    library._trace_level = 9
    try:
        here = settings(server.ldapi)
        groups_of(here, "alice")
        verify(here, "alice", "richtig-Alice")
        verify(here, "alice", "falsch-99")
        with pytest.raises(ProviderError) as caught:
            groups_of(settings(server.ldapi, ldap_bind_password="falsch-99"), "alice")
    finally:
        library._trace_level = before
    captured = capfd.readouterr()
    told = caplog.text + captured.out + captured.err + str(caught.value) + repr(caught.value.__cause__)
    assert "wrong password for 'alice'" in told
    assert "does not let bind_dn in: Invalid credentials" in told
    assert [secret for secret in SECRETS if secret in told] == []


class Asking:
    """Fulfils `provider.Caller`: a person, from nowhere."""

    address = None
    workload = None

    def __init__(self, user: str) -> None:
        self.user = user

    async def confirmed_names(self, domains: object) -> tuple[str, ...]:
        """Fail: nobody should ask."""
        raise AssertionError(domains)


@pytest.mark.parametrize("has_old_names", [False, True])
def test_the_provider_in_the_settings(
    server: Slapd, authority: Authority, tmp_path: Path, *, has_old_names: bool
) -> None:
    """From YAML to grants, with our names and with those of the AWS Federation Proxy."""
    names = {
        "servers": server.ldap,
        "bind_dn": slapd.SEARCHER,
        "user_base": slapd.PEOPLE,
        "group_base": slapd.GROUPS,
        "bind_password_file": str(tmp_path / "password"),
    }
    if has_old_names:
        names = {
            "ldap_uri": server.ldap,
            "ldap_bind_dn": slapd.SEARCHER,
            "ldap_base_users": slapd.PEOPLE,
            "ldap_base_groups": slapd.GROUPS,
            "ldap_bind_password": slapd.SEARCHER_PASSWORD,
        }
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text(f"{slapd.SEARCHER_PASSWORD}\n")
    own = {
        "ca_file": str(authority.certificate),
        "regex": "aws-(?P<account>[^-]+)-(?P<role>.+)",
        "user_filter": "(uid={user})",
        "nested": "walk",
    }
    file = write_settings(
        {
            "people": {"listen": [{"unix": str(tmp_path / "people.sock")}], "identity": {"peer": True}},
            "providers": {"staff": {"type": "ldap", **names, **own}},
            "accounts": {"main": {"id": "000123456789"}},
        },
        tmp_path / "imds-proxy.yaml",
    )
    loaded = registry.load(file, {"AWS_REGION": "eu-central-1"})
    assert [str(fault) for fault in loaded.faults] == []
    provider = loaded.providers["staff"]
    [grant] = asyncio.run(provider.grants_for(Asking("alice")))
    assert (grant.account, grant.role) == ("main", "admin")
    assert asyncio.run(provider.grants_for(Asking("nobody"))) == frozenset[Grant]()


def test_the_old_module_in_the_library(server: Slapd, authority: Authority) -> None:
    """As a program of the AWS Federation Proxy's users has it, and where the certificate is from."""
    config = {
        "module": "aws_federation_proxy.provider.ldap_provider",
        "regex": "aws-(?P<account>.*)-(?P<role>.*)",
        "ldap_uri": server.ldap,
        "ldap_base_users": slapd.PEOPLE,
        "ldap_base_groups": slapd.GROUPS,
        "ldap_bind_dn": slapd.SEARCHER,
        "ldap_bind_password": slapd.SEARCHER_PASSWORD,
        "user_filter": "(uid={user})",
        "ca_file": str(authority.certificate),
    }
    proxy = AWSFederationProxy(user="alice", config=config, account_config={"main": {"id": 123456789012}})
    [(account, roles)] = proxy.get_account_and_role_dict().items()
    assert (account, {role for role, _ in roles}) == ("main", {"admin"})
    stranger = AWSFederationProxy(user="*)(uid=*", config=config, account_config={"main": {"id": 1}})
    assert stranger.get_account_and_role_dict() == {}
