"""A load on a fixed schedule, run on a machine: `python -m tests.system.lab.steady_load RATE` until SIGTERM.

Half of the requests are TOKENs, each on a connection of its own; the other half are ROLEs on connections
that are kept, with one IMDS token for all. Nothing is asked twice: what is not answered is lost. At the end
it prints what became of them, as one line of JSON (`Outcome`).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

HOST = "169.254.169.254"
PATIENCE = 10.0
_ROLES = "/latest/meta-data/iam/security-credentials/"
_TOKEN = f"PUT /latest/api/token HTTP/1.1\r\nHost: {HOST}\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"
_KEPT_CONNECTIONS = 20


@dataclass(frozen=True)
class Outcome:
    """What became of the requests. Times are seconds from when a request was due to the end of its answer."""

    answered: int
    lost: dict[str, int]
    """Those without an answer within PATIENCE, and those answered otherwise than with 200, by reason."""
    over_one_second: int
    slowest: float
    median: float


class Load:
    """The requests under way, and what came of those that have ended."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._times: list[float] = []
        self._lost: Counter[str] = Counter()
        self._stop = asyncio.Event()
        self._role = b""

    async def run(self) -> Outcome:
        """Ask until SIGTERM; wait for the answers that are still to come."""
        self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        token = await self._ask_anew(_TOKEN)
        known = f"Host: {HOST}\r\nX-aws-ec2-metadata-token: {token}\r\n"
        role = await self._ask_anew(f"GET {_ROLES} HTTP/1.1\r\n{known}")
        self._role = f"GET {_ROLES}{role} HTTP/1.1\r\n{known}\r\n".encode()
        sys.stdout.write("asking\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._open_new_ones(group))
            for number in range(_KEPT_CONNECTIONS):
                group.create_task(self._use_one(number))
        self._times.sort()
        return Outcome(
            answered=len(self._times),
            lost=dict(self._lost),
            over_one_second=sum(time > 1 for time in self._times),
            slowest=self._times[-1],
            median=self._times[len(self._times) // 2],
        )

    async def _open_new_ones(self, group: asyncio.TaskGroup) -> None:
        due = self._loop.time()
        while not self._stop.is_set():
            group.create_task(self._judge(due, self._ask_anew(_TOKEN)))
            due += 2 / self._rate
            await asyncio.sleep(due - self._loop.time())

    async def _use_one(self, number: int) -> None:
        pause = 2 * _KEPT_CONNECTIONS / self._rate
        due = self._loop.time() + pause * number / _KEPT_CONNECTIONS
        connection = Connection()
        while not self._stop.is_set():
            await asyncio.sleep(due - self._loop.time())
            await self._judge(due, connection.ask(self._role))
            due += pause
        connection.close()

    async def _judge(self, due: float, question: Any) -> None:
        try:
            await asyncio.wait_for(question, PATIENCE - max(0.0, self._loop.time() - due))
        except TimeoutError:
            self._lost["no answer in time"] += 1
        except (OSError, EOFError, ValueError) as error:
            self._lost[f"{type(error).__name__}: {error}"] += 1
        else:
            self._times.append(self._loop.time() - due)

    async def _ask_anew(self, head: str) -> str:
        connection = Connection()
        try:
            return await connection.ask(f"{head}Connection: close\r\n\r\n".encode())
        finally:
            connection.close()


class Connection:
    """One connection at a time, opened again when the server has closed it between two requests."""

    def __init__(self) -> None:
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> str:
        """Return the body of the answer. Raises ValueError when its status is not 200, OSError, EOFError."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(HOST, 80)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line for line in head.splitlines() if line.startswith("content-length:"))
            body = await reader.readexactly(int(length.partition(":")[2]))
        except BaseException:
            self.close()
            raise
        if "\r\nconnection: close\r\n" in head:
            self.close()
        if not head.startswith("http/1.1 200"):
            raise ValueError(head.splitlines()[0])
        return body.decode()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _main(rate: float) -> None:
    sys.stdout.write(f"{json.dumps(asdict(await Load(rate).run()))}\n")


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1])))
