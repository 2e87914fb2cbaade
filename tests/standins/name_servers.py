"""DNS as a table: `resolver.Resolver` without a socket, whose answers, failures and silences a test sets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imds_proxy.errors import ResolutionError
from imds_proxy.model import canonical_address
from imds_proxy.resolver import AddressAnswer, PointerAnswer

if TYPE_CHECKING:
    from imds_proxy.model import IPAddress

DEFAULT_TTL = 60.0


class TableResolver:
    """Answers from its tables; what is in none has a negative answer.

    `questions` has every question in order: an address for PTR, a name for A and AAAA. A question's key is
    the same text, `*` stands for all.
    """

    def __init__(self) -> None:
        self.questions: list[str] = []
        self._pointers: dict[IPAddress, PointerAnswer] = {}
        self._addresses: dict[str, AddressAnswer] = {}
        self._failures: dict[str, str] = {}
        self._delays: dict[str, float] = {}
        self._silences: dict[str, asyncio.Event] = {}

    def add_host(self, address: str, *names: str, ttl: float = DEFAULT_TTL) -> None:
        """Give an address its PTR names, and each of them the address."""
        self.set_pointers(address, *names, ttl=ttl)
        for name in names:
            self.set_addresses(name, address, ttl=ttl)

    def set_pointers(self, address: str, *names: str | tuple[bytes, ...], ttl: float = DEFAULT_TTL) -> None:
        """Give an address exactly these PTR names; a tuple is a name's labels as they stand."""
        labels = tuple(
            tuple(label.encode() for label in name.split(".")) if isinstance(name, str) else name
            for name in names
        )
        self._pointers[canonical_address(address)] = PointerAnswer(labels, ttl)

    def set_addresses(self, name: str, *addresses: str, ttl: float = DEFAULT_TTL) -> None:
        """Give a name exactly these addresses."""
        self._addresses[name] = AddressAnswer(frozenset(map(canonical_address, addresses)), ttl)

    def fail(self, question: str = "*", text: str = "SERVFAIL") -> None:
        """Let a question fail."""
        self._failures[question] = text

    def delay(self, seconds: float, question: str = "*") -> None:
        """Let a question take so long."""
        self._delays[question] = seconds

    def silence(self, question: str = "*") -> None:
        """Let a question have no answer until `heal`."""
        self._silences[question] = asyncio.Event()

    def heal(self) -> None:
        """End failures, delays and silences; questions that are waiting get their answers now."""
        self._failures.clear()
        self._delays.clear()
        for silence in self._silences.values():
            silence.set()
        self._silences.clear()

    async def names_of(self, address: IPAddress) -> PointerAnswer:
        """Return the PTR names in the table."""
        await self._suffer(str(address))
        return self._pointers.get(address, PointerAnswer((), 0))

    async def addresses_of(self, name: str, *, version: int) -> AddressAnswer:
        """Return the addresses of that version in the table."""
        await self._suffer(name)
        answer = self._addresses.get(name, AddressAnswer(frozenset(), 0))
        return AddressAnswer(frozenset(a for a in answer.addresses if a.version == version), answer.ttl)

    async def _suffer(self, question: str) -> None:
        self.questions.append(question)
        silence = self._silences.get(question) or self._silences.get("*")
        if silence is not None:
            await silence.wait()
        delay = self._delays.get(question, self._delays.get("*"))
        if delay is not None:
            await asyncio.sleep(delay)
        failure = self._failures.get(question) or self._failures.get("*")
        if failure is not None:
            raise ResolutionError(f"{question}: {failure}")
