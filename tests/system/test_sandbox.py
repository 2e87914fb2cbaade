"""What the daemon may do under its unit's sandbox, and what it may not: tried in it, on a booted host."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.standins import slapd
from tests.standins.authority import Authority
from tests.standins.processes import Child
from tests.standins.slapd import group, person, person_dn, running_slapd
from tests.system.lab import bind, confined
from tests.system.lab.installed import PREFIX
from tests.system.lab.namespaces import ENVIRONMENT
from tests.system.lab.unit_gateway import (
    PROGRAM,
    SERVICE,
    SITE_PACKAGES,
    SOCKET,
    UnitGateway,
    unit_gateway,
)
from tests.system.verdicts import TUVFOO, assert_granted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

NEEDED = {
    "write its state",
    "write its runtime folder",
    "write /tmp",
    "read its configuration",
    "read its key",
    "run a program",
    "open a TCP socket",
    "open a UDP socket",
    "open a unix socket",
}
"""All that a confined daemon can do of what `confined` tries."""

PEOPLE_SOCKET = "/run/imds-proxy/people.sock"
PEOPLE = {"listen": [{"unix": PEOPLE_SOCKET, "mode": "0666"}], "identity": {"peer": True}}
REGEX = "aws-(?P<account>[^-]+)-(?P<role>.+)"


@pytest.fixture(scope="module")
def gateway(lab: Laboratory) -> Iterator[UnitGateway]:
    with unit_gateway(lab) as gateway:
        gateway.host.run("mkdir", "--parents", "/home/somebody")
        yield gateway


def probe(gateway: UnitGateway) -> dict[str, str]:
    """Return what came of all attempts, made in the service's own sandbox before the daemon starts in it."""
    program = f"{PREFIX}/confined.py"
    gateway.host.write(program, Path(confined.__file__).read_text("utf-8"))
    gateway.add_to_unit("probe", f"ExecStartPre={PREFIX}/bin/python {program}")
    before = gateway.log
    gateway.control("restart")
    gateway.add_to_unit("probe")
    found = re.search(r"confined (\{.*\})", gateway.lines_since(before))
    assert found, gateway.lines_since(before)
    outcomes: dict[str, str] = json.loads(found[1])
    return outcomes


def test_it_can_do_what_it_needs_and_no_more(gateway: UnitGateway) -> None:
    """Its own files, programs, TCP, UDP and unix sockets; of the rest, which root can do here, nothing."""
    unconfined = gateway.host.run("python3", "-c", Path(confined.__file__).read_text("utf-8")).stdout
    could = json.loads(unconfined.removeprefix("confined "))
    outcomes = probe(gateway)
    assert {name for name, outcome in outcomes.items() if outcome == "allowed"} == NEEDED, outcomes
    assert set(outcomes) == set(confined.ATTEMPTS)
    # Those that not even root can do on this host show nothing.
    impossible = {name for name, outcome in could.items() if outcome != "allowed"} - NEEDED
    assert impossible <= {
        "see /dev/mem",
        "set a kernel tunable",
        "set a network tunable",
        "read its key",
        "trace a process",
        "set the clock",
    }, could


def test_its_tmp_is_its_own(gateway: UnitGateway) -> None:
    """What it writes there nobody else sees."""
    gateway.host.run("rm", "--force", "/tmp/probe")
    assert probe(gateway)["write /tmp"] == "allowed"
    assert gateway.host.run("test", "-e", "/tmp/probe", check=False).returncode == 1


def test_dns_by_datagram_and_by_stream(lab: Laboratory, gateway: UnitGateway) -> None:
    """A long PTR answer comes over TCP."""
    label = "x" * 60
    foreign = [f"{label}.{label}.{label}.{number}.{bind.FORBIDDEN_DOMAIN}" for number in range(7)]
    machine = lab.make_machine(gateway, "tuvfoob1.valid.example")
    lab.names.point(machine.address, *foreign)
    assert_granted(lab, machine, TUVFOO, "tuvfoob1.valid.example")
    assert lab.names.is_asked_over_tcp(machine.address)


def test_sts_over_tls_with_an_authority_of_the_site(
    lab: Laboratory, gateway: UnitGateway, tmp_path: Path
) -> None:
    """`aws.ca_bundle` below /etc/imds-proxy vouches for STS."""
    machine = lab.make_machine(gateway, "tuvfoob2.valid.example")
    authority = Authority(tmp_path)
    issued = authority.issue("sts", f"IP:{machine.address}")
    front = f"{machine.address}:8443"
    words = [str(issued.certificate), str(issued.key), front, urlsplit(lab.aws.url).netloc]
    command = machine.namespace.command(sys.executable, "-m", "tests.system.lab.tls_front", *words)
    child = Child("tls", command, folder=tmp_path, environment=ENVIRONMENT)
    try:
        child.await_lines("(listening)", on="stdout")
        gateway.write("/etc/imds-proxy/authority.pem", authority.certificate.read_text())
        settings = gateway.settings()
        aws = settings["aws"]
        assert isinstance(aws, dict)
        over_tls = {"sts_endpoint": f"https://{front}", "ca_bundle": "/etc/imds-proxy/authority.pem"}
        gateway.configure(settings | {"aws": aws | over_tls})
        gateway.control("restart")
        assert_granted(lab, machine, TUVFOO, "tuvfoob2.valid.example")
    finally:
        child.kill()
        gateway.configure(gateway.settings())
        gateway.control("restart")


@pytest.fixture(scope="module")
def people(gateway: UnitGateway) -> Iterator[UnitGateway]:
    """The same daemon with a socket for people, rendered from its settings; the user eva is on the host."""
    gateway.host.run("groupadd", "aws-main-tuvfoo")
    gateway.host.run("useradd", "--groups", "aws-main-tuvfoo", "--no-create-home", "eva")
    gateway.host.run("useradd", "--no-create-home", "otto")
    serve_people(gateway, {"type": "grp", "regex": REGEX})
    yield gateway
    gateway.configure(gateway.settings())
    gateway.host.run(
        "systemctl", "disable", "--now", SERVICE, SOCKET, "imds-proxy-people.socket", check=False
    )


def serve_people(gateway: UnitGateway, provider: dict[str, object]) -> None:
    """Configure a socket for people with that provider, render the units, and start them."""
    settings = gateway.settings(people={**PEOPLE, "provider": "staff"})
    machines, listeners = settings["providers"], settings["listen"]
    assert isinstance(machines, dict)
    assert isinstance(listeners, list)
    settings["listen"] = [{**each, "provider": "machines"} for each in listeners]
    gateway.configure(settings | {"providers": {**machines, "staff": provider}})
    gateway.render_sockets()
    gateway.control("stop")
    gateway.host.run("systemctl", "restart", SOCKET, "imds-proxy-people.socket")


def accounts_of(gateway: UnitGateway, user: str) -> tuple[int, str]:
    """Return the exit status of `imds-proxy accounts` run as a user of the host, and what it said."""
    words = ["runuser", "--user", user, "--", PROGRAM, "accounts", "--socket", PEOPLE_SOCKET]
    done = gateway.host.run(*words, check=False)
    return done.returncode, done.stdout + done.stderr


def test_people_are_who_the_kernel_says(people: UnitGateway) -> None:
    """The socket shows their real uid, NSS their groups; it starts the daemon and outlives a restart."""
    assert people.state == "inactive"
    status, said = accounts_of(people, "eva")
    assert (status, "tuvfoo" in said) == (0, True), said
    people.control("restart")
    assert "tuvfoo" in accounts_of(people, "eva")[1]
    people.control("stop")
    assert "tuvfoo" in accounts_of(people, "eva")[1]
    assert "tuvfoo" not in accounts_of(people, "otto")[1]


def test_it_is_as_confined_with_people(people: UnitGateway) -> None:
    """Without PrivateUsers, which the socket needs, all the other walls stand."""
    assert {name for name, outcome in probe(people).items() if outcome == "allowed"} == NEEDED


def test_a_directory_is_asked(people: UnitGateway, tmp_path: Path) -> None:
    """python-ldap talks to a directory over TCP with StartTLS from within the sandbox."""
    if people.host.run("test", "-d", f"{SITE_PACKAGES}/ldap", check=False).returncode:
        pytest.skip("python-ldap could not be built for the system's Python")
    missing = slapd.find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    authority = Authority(tmp_path)
    entries = [person("eva"), group("aws-main-probar", [person_dn("eva")])]
    with (
        people.host.namespace.entered(),
        running_slapd(tmp_path / "slapd", entries, issued=authority.issue("ldap")) as server,
    ):
        people.write("/etc/imds-proxy/authority.pem", authority.certificate.read_text())
        people.write("/etc/imds-proxy/searcher", f"{slapd.SEARCHER_PASSWORD}\n")
        directory = {
            "servers": [server.ldap],
            "bind_dn": slapd.SEARCHER,
            "bind_password_file": "/etc/imds-proxy/searcher",
            "ca_file": "/etc/imds-proxy/authority.pem",
            "user_base": slapd.PEOPLE,
            "user_filter": "(uid={user})",
            "group_base": slapd.GROUPS,
        }
        serve_people(people, {"type": "ldap", "regex": REGEX, **directory})
        status, said = accounts_of(people, "eva")
        assert (status, "probar" in said) == (0, True), said + people.log[-3000:]
