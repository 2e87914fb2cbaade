"""One question to one name server: over UDP, and over TCP where the answer did not fit.

dnspython reads and writes the messages. Its own resolver class costs more time for a question than the
message and both system calls together, and identification is what limits how many new callers a second
this daemon can take.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message

if TYPE_CHECKING:
    from imds_proxy.model import IPAddress

Server = tuple["IPAddress", int]
"""A name server's address and port."""


class _Answer(asyncio.DatagramProtocol):
    """Waits for the datagram that answers a question and takes no notice of others."""

    def __init__(self, query: dns.message.QueryMessage, arrival: asyncio.Future[dns.message.Message]) -> None:
        self._query = query
        self._arrival = arrival

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take an answer to the question. Garbage may be forged: the true answer can still come."""
        del addr  # the socket is connected, so the kernel lets nobody else's datagrams in
        if self._arrival.done():
            return
        try:
            message = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return
        if self._query.is_response(message):
            self._arrival.set_result(message)

    def error_received(self, exc: Exception) -> None:
        """Give up at once when nobody listens there (ICMP port unreachable)."""
        if not self._arrival.done():
            self._arrival.set_exception(exc)


async def exchange(query: dns.message.QueryMessage, server: Server, patience: float) -> dns.message.Message:
    """Return the server's answer to a question, whatever its rcode.

    The socket, and so the source port, is this question's own: with plain DNS that is half of what
    keeps a forged answer out (RFC 5452 section 9.2), the random id is the other half.
    Raises TimeoutError after `patience` seconds, OSError when the server can't be reached, and
    DNSException when what came over TCP is malformed.
    """
    address, port = server
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    arrival: asyncio.Future[dns.message.Message] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Answer(query, arrival), remote_addr=(str(address), port)
    )
    try:
        transport.sendto(query.to_wire())
        async with asyncio.timeout_at(until):
            message = await arrival
    finally:
        transport.close()
    if message.flags & dns.flags.TC:
        return await _exchange_over_tcp(query, server, until - loop.time())
    return message


async def _exchange_over_tcp(
    query: dns.message.QueryMessage, server: Server, patience: float
) -> dns.message.Message:
    # Long answers are rare, and this module is large: a tenth of a second at start.
    from dns.asyncquery import tcp

    address, port = server
    try:
        return await tcp(query, str(address), timeout=max(patience, 0.0), port=port)
    except dns.exception.Timeout as error:
        raise TimeoutError("no whole answer over TCP in time") from error
    except EOFError as error:
        # Not a time-out: a server that hangs up at once would be asked again at once, all the time there is.
        raise ConnectionResetError("the connection was closed without a whole answer") from error
