"""What a cold SDK asks: TOKEN, LIST, ROLE on one connection; once without mercy, or patiently."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench.callers import caller_address
from bench.client import Connection, connect
from bench.wire import LIST_PATH, Answer, get_request, token_request

TIMEOUT = 1.0
"""Seconds an SDK waits for one answer (Go v2 waits 0.5 for the first byte, most others 1)."""
PAUSE = 1.0
"""Seconds until a patient SDK asks again."""

STEPS = ("TOKEN", "LIST", "ROLE")
_AT_ONCE = 32  # callers of a fleet in their first round at once


@dataclass(frozen=True, slots=True)
class Round:
    """How a round went: seconds per step answered, and what ended it when it did not come through."""

    took: tuple[float, ...]
    failure: str = ""
    """`LIST 503`, `ROLE time-out`; empty for a success."""

    @property
    def is_success(self) -> bool:
        """Tell whether all steps were answered with 200."""
        return not self.failure


@dataclass(frozen=True, slots=True)
class Served:
    """What a caller has after a round: what it needs to ask for its role again."""

    role: str
    token: bytes
    document: bytes


async def first_round(port: int, source: str, *, steps: int = len(STEPS)) -> Round:
    """Ask once for everything as a cold SDK does: 1 s for each answer, connecting included, no retry.

    With fewer `steps` the caller goes away after TOKEN (1) or LIST (2).
    """
    took: list[float] = []
    request, token, connection = token_request(port), b"", None
    try:
        for step in STEPS[:steps]:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(TIMEOUT):
                    connection = connection or await connect(port, source)
                    answer = await connection.ask(request)
            except TimeoutError:
                return Round(tuple(took), f"{step} time-out")
            except OSError as error:
                return Round(tuple(took), f"{step} {type(error).__name__}")
            took.append(time.perf_counter() - began)
            if answer.status != 200:
                return Round(tuple(took), f"{step} {answer.status}")
            if step == "TOKEN":
                token, request = answer.body, get_request(port, LIST_PATH, answer.body)
            else:
                request = get_request(port, LIST_PATH + answer.body.decode(), token)
    finally:
        if connection is not None:
            connection.close()
    return Round(tuple(took))


class PatientCaller:
    """Asks until it is served: after a 503, a time-out or a lost connection again one second later."""

    def __init__(self, port: int, source: str) -> None:
        self._port = port
        self._source = source
        self._connection: Connection | None = None
        self.failures: list[str] = []

    async def serve(self) -> Served:
        """Return what the caller got. Has no end of its own: bound it from outside."""
        try:
            token = await self._persist("TOKEN", token_request(self._port))
            role = await self._persist("LIST", get_request(self._port, LIST_PATH, token.body))
            name = role.body.decode()
            document = await self._persist("ROLE", get_request(self._port, LIST_PATH + name, token.body))
            return Served(name, token.body, document.body)
        finally:
            self._disconnect()

    async def _persist(self, step: str, request: bytes) -> Answer:
        while True:
            try:
                async with asyncio.timeout(TIMEOUT):
                    self._connection = self._connection or await connect(self._port, self._source)
                    answer = await self._connection.ask(request)
                if answer.status == 200:
                    return answer
                self.failures.append(f"{step} {answer.status}")
            except TimeoutError:
                self.failures.append(f"{step} time-out")
                self._disconnect()
            except OSError as error:
                self.failures.append(f"{step} {type(error).__name__}")
                self._disconnect()
            await asyncio.sleep(PAUSE)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def serve(port: int, source: str, *, limit: float = 15.0) -> Served:
    """Return what a patient caller gets within `limit` seconds. Raises TimeoutError with its failures."""
    caller = PatientCaller(port, source)
    try:
        async with asyncio.timeout(limit):
            return await caller.serve()
    except TimeoutError:
        raise TimeoutError(f"{source} was not served within {limit:.0f} s: {caller.failures}") from None


async def serve_fleet(port: int, count: int) -> list[tuple[str, Served]]:
    """Serve `count` callers their first round, a few at a time; return each address with what it got."""
    indices = iter(range(count))
    fleet: list[tuple[str, Served]] = []

    async def serve_some() -> None:
        for index in indices:
            source = caller_address(index)
            fleet.append((source, await serve(port, source)))

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(serve_some())
    return fleet
