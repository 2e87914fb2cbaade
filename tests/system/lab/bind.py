"""BIND as the laboratory's only name server: the root, the zones, records that change, zones that fail."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tests.standins.processes import Child
from tests.system.lab.namespaces import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.lab.namespaces import Namespace

SERVER = "10.77.0.3"
SERVER_V6 = "fd77::3"
SILENT_SERVER = "10.77.0.4"
"""Drops every question."""
CLOSED_SERVER = "10.77.0.5"
"""Answers every question with "port unreachable"."""

ALLOWED_DOMAIN = "valid.example"
# Its labels end as the allowed domain's text does: what compares strings takes one for the other.
SUFFIX_TRICK_DOMAIN = "evilvalid.example"
FORBIDDEN_DOMAIN = "other.example"
# RFC 2317 section 4: the names of 10.77.9.0/26 are CNAMEs into this zone.
CLASSLESS_ZONE = "0/26.9.77.10.in-addr.arpa"
CLASSLESS_ADDRESS = "10.77.9.5"
BREAKABLE_ADDRESSES = ("10.77.66.1", "10.77.67.1")
"""Each has a reverse zone of its own, which a test may break."""
SLOW_ADDRESS = "10.77.68.1"
"""Its reverse zone is delegated to the silent server: BIND itself waits for an answer in vain."""

OPEN_ZONE = "88.10.in-addr.arpa"
"""Takes updates from everybody."""

_ZONES = (
    ".",
    ALLOWED_DOMAIN,
    SUFFIX_TRICK_DOMAIN,
    FORBIDDEN_DOMAIN,
    "77.10.in-addr.arpa",
    CLASSLESS_ZONE,
    "66.77.10.in-addr.arpa",
    "67.77.10.in-addr.arpa",
    OPEN_ZONE,
    "99.10.in-addr.arpa",
    "7.7.d.f.ip6.arpa",
)
_HEAD = """\
$TTL 300
@ SOA ns.lab. hostmaster.lab. 1 3600 600 86400 1
@ NS ns.lab.
"""
_MORE_RECORDS = {
    ".": f"ns.lab. A {SERVER}\nsilent.lab. A {SILENT_SERVER}\n",
    "77.10.in-addr.arpa": (
        f"68 NS silent.lab.\n{CLASSLESS_ZONE}. NS ns.lab.\n$GENERATE 0-63 $.9 CNAME $.{CLASSLESS_ZONE}.\n"
    ),
}
# 300 s outlast every test: an answer that changed is never seen because it had run out.
_TTL = 300
_PATIENCE = 15.0


class NameServer:
    """One `named` process with all the zones, authoritative and recursive. It runs until `stop`."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._broken: set[str] = set()
        self._published: set[str] = set()
        for zone in _ZONES:
            text = _HEAD + _MORE_RECORDS.get(zone, "")
            self._zone_file(zone).write_text(text)
        (self._folder / "broken.zone").write_text("this is no zone\n")
        self._write_configuration()
        # -g: the log goes to stderr, all of it, the questions too.
        command = namespace.command("named", "-g", "-n", "1", "-c", str(folder / "named.conf"))
        self._process = Child("named", command, folder=folder, environment=ENVIRONMENT)

    def wait_until_ready(self) -> None:
        """Return once it answers for all zones. Raises AssertionError with its log if it does not."""
        self._process.await_lines(r"(.* all zones loaded)")
        self._wait_for(ALLOWED_DOMAIN, status="NOERROR")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()

    def register(self, address: str, *names: str) -> None:
        """Give the address its names, both ways: PTR and A or AAAA."""
        self.point(address, *names)
        for name in names:
            self.publish(name, address)

    def point(self, address: str, *names: str) -> None:
        """Let the address's PTR lead to the names, whether or not those lead back."""
        owner = ip_address(address).reverse_pointer
        self._update(*(f"update add {owner}. {_TTL} PTR {name}." for name in names))

    def point_classless(self, address: str, name: str) -> None:
        """Let the PTR of an address in 10.77.9.0/26, kept in the zone of RFC 2317, lead to the name."""
        last_octet = address.rpartition(".")[2]
        self._update(f"update add {last_octet}.{CLASSLESS_ZONE}. {_TTL} PTR {name}.")

    def publish(self, name: str, address: str) -> None:
        """Let the name lead to the address. Raises ValueError for a name that another test has taken."""
        if name.lower() in self._published:
            raise ValueError(f"{name} has an address: a name belongs to one test")
        self._published.add(name.lower())
        kind = "AAAA" if ":" in address else "A"
        self._update(f"update add {name}. {_TTL} {kind} {address}")

    def withdraw(self, address: str, *names: str) -> None:
        """Remove the address's PTR and all that stands under the names."""
        owner = ip_address(address).reverse_pointer
        self._update(f"update delete {owner}. PTR", *(f"update delete {name}." for name in names))

    def break_reverse_zone(self, address: str) -> None:
        """Answer SERVFAIL for one of BREAKABLE_ADDRESSES: its zone's file no longer loads."""
        zone = ip_address(address).reverse_pointer.partition(".")[2]
        self._broken.add(zone)
        self._write_configuration()
        self._namespace.run("rndc", "-c", str(self._folder / "rndc.conf"), "reconfig")
        self._wait_for(zone, status="SERVFAIL")

    def address_questions(self, name: str) -> list[str]:
        """Return the log lines of questions for the name's A or AAAA."""
        question = re.compile(rf"query: {re.escape(name)} IN (A|AAAA) ", re.IGNORECASE)
        return [line for line in self._process.stderr.splitlines() if question.search(line)]

    def is_asked_over_tcp(self, address: str) -> bool:
        """Tell whether anyone has asked for the address's PTR over TCP (a T among BIND's query flags)."""
        owner = re.escape(ip_address(address).reverse_pointer)
        return re.search(rf"query: {owner} IN PTR \S*T", self._process.stderr, re.IGNORECASE) is not None

    def resolve(self, name: str) -> list[str]:
        """Return the IPv4 addresses that the name leads to."""
        return self._dig("+short", name, "A").split()

    def look_up_ptr(self, address: str) -> list[str]:
        """Return what the address's PTR leads to, CNAMEs on the way included, as `dig` writes it."""
        return self._dig("+short", "-x", address).split()

    def _update(self, *lines: str) -> None:
        # One transaction a line: nsupdate allows no two zones in one. PTR targets that are no host names
        # are what some tests are about, hence check-names.
        script = "".join(f"{line}\nsend\n" for line in lines)
        self._namespace.run("nsupdate", stdin=f"server 127.0.0.1\ncheck-names off\n{script}")

    def _wait_for(self, zone: str, *, status: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while f"status: {status}" not in (answer := self._dig(zone, "SOA")):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {status} for {zone}\n{answer}\n{self._process.stderr[-4000:]}")
            time.sleep(0.05)

    def _dig(self, *words: str) -> str:
        return self._namespace.run("dig", f"@{SERVER}", "+tries=1", "+time=2", *words, check=False).stdout

    def _zone_file(self, zone: str) -> Path:
        # The slash in RFC 2317's zone name can't stand in a file name.
        return self._folder / f"{zone.replace('/', '-') if zone != '.' else 'root'}.zone"

    def _write_configuration(self) -> None:
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "broken.zone"; }};\n'
            if zone in self._broken
            else f'zone "{zone}" {{ type primary; file "{self._zone_file(zone).name}"; '
            f"allow-update {{ {'any' if zone == OPEN_ZONE else '127.0.0.1'}; }}; }};\n"
            for zone in _ZONES
        )
        secret = "c3lzdGVtIHRlc3QgY29udHJvbCBjaGFubmVsIGtleQ=="
        key = f'key "lab" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
        (self._folder / "rndc.conf").write_text(
            f'{key}options {{ default-server 127.0.0.1; default-key "lab"; }};\n'
        )
        (self._folder / "named.conf").write_text(
            f"""\
options {{
    directory "{self._folder}";
    listen-on {{ 127.0.0.1; {SERVER}; }};
    listen-on-v6 {{ {SERVER_V6}; }};
    recursion yes;
    allow-recursion {{ any; }};
    allow-query {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    check-names primary ignore;
    notify no;
    pid-file none;
    session-keyfile none;
    querylog yes;
}};
{key}controls {{ inet 127.0.0.1 allow {{ 127.0.0.1; }} keys {{ "lab"; }}; }};
{zones}"""
        )
