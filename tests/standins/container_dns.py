"""Docker's DNS on a user-defined network, as seen from inside a container on it: 127.0.0.11.

    python -m tests.standins.container_dns FILE

FILE is JSON, `{NETWORK: {CONTAINER: ADDRESS}}`, and is read for every question: writing it anew is what
starting and stopping containers is. Answered is what moby's resolver answers:

- PTR: `CONTAINER.NETWORK.`, TTL 600; nothing at all where `in-addr.arpa` is not in lower case.
- A: every split of the name into container and network is tried, and the bare container name.
- Another type of a name that is there: an empty answer.
- All else would be asked of the host's name servers, and here there are none: NXDOMAIN.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

ADDRESS = "127.0.0.11"
TTL = 600

Networks = dict[str, dict[str, str]]


def write_networks(file: Path, networks: Networks) -> None:
    """Let these containers run and no others. A question sees all of it or nothing."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(networks), "utf-8")
    fresh.replace(file)


def find_pointer(networks: Networks, address: str) -> str | None:
    """Return the absolute name of whoever has the address."""
    for network, containers in networks.items():
        for container, its_address in containers.items():
            if its_address == address:
                return f"{container}.{network}."
    return None


def find_address(networks: Networks, name: str) -> str | None:
    """Return the address of a name without its last dot, in whatever network it is found first."""
    labels = name.split(".")
    for cut in range(len(labels), 0, -1):
        container, network = ".".join(labels[:cut]), ".".join(labels[cut:])
        for its_name, containers in networks.items():
            if network in {"", its_name} and container in containers:
                return containers[container]
    return None


def answer(query: dns.message.Message, networks: Networks) -> dns.message.Message:
    """Return the answer to a question."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    question = query.question[0]
    text = question.name.to_text(omit_final_dot=True).lower()
    value, kind = find_address(networks, text), dns.rdatatype.A
    if question.name.is_subdomain(dns.reversename.ipv4_reverse_domain):
        address = dns.reversename.to_address(question.name)
        value, kind = find_pointer(networks, address), dns.rdatatype.PTR
    if value is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == kind:
        response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, value))
    return response


def _is_odd_pointer(query: dns.message.Message) -> bool:
    question = query.question[0]
    return question.rdtype == dns.rdatatype.PTR and not question.name.to_text().endswith(".in-addr.arpa.")


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, file: Path) -> None:
        self._file = file

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # 3.11's own is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if _is_odd_pointer(dns.message.from_wire(data)):
            return
        networks: Networks = json.loads(self._file.read_text("utf-8"))
        self._transport.sendto(answer(dns.message.from_wire(data), networks).to_wire(), addr)


async def _serve(file: Path) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Datagrams(file), local_addr=(ADDRESS, 53))
    sys.stdout.write("answering\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
