"""TLS in front of a server that has none.

`python -m tests.system.lab.tls_front CERTIFICATE KEY ADDRESS:PORT BEHIND:PORT`, until it is killed.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import suppress


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _main(certificate: str, key: str, address: str, behind: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    host, _, port = behind.rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    own, _, own_port = address.rpartition(":")
    server = await asyncio.start_server(relay, own, int(own_port), ssl=tls)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
