"""A real OpenLDAP server on loopback: a process of the tests' own, with its data in a folder of theirs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.standins.authority import Issued

SUFFIX = "dc=valid,dc=example"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
SEARCHER = f"cn=searcher,{SUFFIX}"
SEARCHER_PASSWORD = "Suchmaschine-77"

_PROGRAMS = {"slapd": "slapd", "slapadd": "slapd"}

_CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
allow bind_anon_cred bind_anon_dn
{tls}
database mdb
maxsize 67108864
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
directory {folder}/data
index uid,member,memberUid eq
{more}
access to attrs=userPassword by anonymous auth
access to * by * read
"""
"""`bind_anon_cred`, `bind_anon_dn`: a bind without a password, or without a name, succeeds as nobody."""


def find_missing() -> list[str]:
    """Return what is missing here, each in words that say what to do; empty: all is there."""
    return [
        f"{program} (Debian package {package})"
        for program, package in _PROGRAMS.items()
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None
    ]


@dataclass(frozen=True)
class Slapd:
    """A running server."""

    ldap: str
    """Its URI; StartTLS where it has a certificate."""
    ldaps: str
    ldapi: str
    folder: Path


def entry(dn: str, **attributes: str | Sequence[str]) -> str:
    """Return an entry as LDIF; an attribute with several values is a list."""
    lines = [f"dn: {dn}"]
    for name, values in attributes.items():
        lines += [f"{name}: {value}" for value in ([values] if isinstance(values, str) else values)]
    return "\n".join(lines) + "\n"


def person(uid: str, password: str | None = None, **more: str | Sequence[str]) -> str:
    """Return the entry of somebody, `cn=UID,ou=people,...`."""
    secret = {} if password is None else {"userPassword": password}
    return entry(person_dn(uid), objectClass="inetOrgPerson", sn=uid, uid=uid, **secret, **more)


def person_dn(uid: str) -> str:
    """Return the DN of somebody."""
    return f"cn={uid},{PEOPLE}"


def group(cn: str, members: Sequence[str]) -> str:
    """Return the entry of a group, whose members are DNs."""
    return entry(group_dn(cn), objectClass="groupOfNames", member=members)


def group_dn(cn: str) -> str:
    """Return the DN of a group."""
    return f"cn={cn},{GROUPS}"


@contextmanager
def running_slapd(
    folder: Path, entries: Sequence[str], *, issued: Issued | None = None, more: str = ""
) -> Iterator[Slapd]:
    """Yield a server that has `entries` below `SUFFIX` and ends with the block.

    With `issued` it speaks TLS. `more` are further lines of the database's section in slapd.conf.
    """
    (folder / "data").mkdir(parents=True)
    tls = f"TLSCertificateFile {issued.certificate}\nTLSCertificateKeyFile {issued.key}" if issued else ""
    configuration = folder / "slapd.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, tls=tls, suffix=SUFFIX, more=more))
    ldif = folder / "entries.ldif"
    ldif.write_text("\n".join([*_BASE, *entries]), "utf-8")
    subprocess.run(
        ["/usr/sbin/slapadd", "-q", "-f", configuration, "-l", ldif], check=True, capture_output=True
    )
    ports = _free_ports(2)
    socket_file = folder / "ldapi"
    server = Slapd(
        ldap=f"ldap://127.0.0.1:{ports[0]}",
        ldaps=f"ldaps://127.0.0.1:{ports[1]}",
        ldapi=f"ldapi://{quote(str(socket_file), safe='')}",
        folder=folder,
    )
    uris = [server.ldap, server.ldapi, *([server.ldaps] if issued else [])]
    command = ["/usr/sbin/slapd", "-d", "0", "-f", str(configuration), "-h", " ".join(uris)]
    child = Child("slapd", command, folder=folder, environment=bare_environment())
    try:
        _await_port(child, ports[0])
        yield server
    finally:
        child.kill()


_BASE = (
    entry(SUFFIX, objectClass=["dcObject", "organization"], dc="valid", o="valid"),
    entry(PEOPLE, objectClass="organizationalUnit", ou="people"),
    entry(GROUPS, objectClass="organizationalUnit", ou="groups"),
    entry(
        SEARCHER,
        objectClass=["organizationalRole", "simpleSecurityObject"],
        cn="searcher",
        userPassword=SEARCHER_PASSWORD,
    ),
)


def settings_for(*uris: str, **more: object) -> Mapping[str, object]:
    """Return settings of a directory that is asked at `uris` as the searcher; `more` replaces and adds."""
    settings: dict[str, object] = {
        "servers": list(uris),
        "bind_dn": SEARCHER,
        "ldap_bind_password": SEARCHER_PASSWORD,
        "user_base": PEOPLE,
        "group_base": GROUPS,
    }
    return settings | more


def _free_ports(count: int) -> list[int]:
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in found]
    for each in found:
        each.close()
    return ports


def _await_port(child: Child, port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert child.is_running, f"slapd has ended:\n{child.stderr}"
            assert time.monotonic() < deadline, f"slapd does not listen:\n{child.stderr}"
            time.sleep(0.05)
        else:
            return
