"""What is known of each caller, kept so that strangers can't push out those who have a grant."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from imds_proxy.caller import NEVER
from imds_proxy.recent import Recent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from imds_proxy.cache import Entry
    from imds_proxy.model import IPAddress
    from imds_proxy.verdict import Verdict

    Key = IPAddress | tuple[IPAddress, str]

MOST_STANDINGS = 32_768
"""With a grant; and as many without one."""


class Standing:
    """What is known of one caller. Handed to the web layer, which hands it back."""

    __slots__ = (
        "_entry",
        "_named_entry",
        "address",
        "flight",
        "flight_began_at",
        "handed_key",
        "is_current",
        "named_at",
        "named_role",
        "named_verdict",
        "not_before",
        "recording",
        "verdict",
        "workload",
    )

    def __init__(self, address: IPAddress, workload: str | None = None) -> None:
        self.address = address
        self.workload = workload
        """Which workload it has proved to be; None where its address alone says who it is."""
        self.is_current = True
        self.verdict: Verdict | None = None
        # The cache alone keeps an entry alive: what makes room there is gone, keys included.
        self._entry: ref[Entry] | None = None
        self._named_entry: ref[Entry] | None = None
        self.flight: asyncio.Task[None] | None = None
        self.flight_began_at = NEVER
        self.not_before = NEVER
        self.named_role: str | None = None
        self.named_verdict: Verdict | None = None
        self.named_at = NEVER
        self.handed_key: str | None = None
        """The access key that went out last, which is on record."""
        self.recording: tuple[str, asyncio.Future[None]] | None = None
        """An access key whose record waits to be written, and when it is."""

    @property
    def entry(self) -> Entry | None:
        """The entry of the caller's role session; None: there is none, or the cache has dropped it."""
        return None if self._entry is None else self._entry()

    @entry.setter
    def entry(self, entry: Entry | None) -> None:
        self._entry = None if entry is None else ref(entry)

    @property
    def named_entry(self) -> Entry | None:
        """The entry of the role that LIST has named; None likewise."""
        return None if self._named_entry is None else self._named_entry()

    @named_entry.setter
    def named_entry(self, entry: Entry | None) -> None:
        self._named_entry = None if entry is None else ref(entry)


class Standings:
    """The standings of all callers of one provider, bounded in number."""

    def __init__(self, *, most: int = MOST_STANDINGS) -> None:
        # Apart, so that nobody who has many addresses and no grant pushes out those who have one.
        self._granted: Recent[Key, Standing] = Recent(most, on_drop=_retire)
        self._others: Recent[Key, Standing] = Recent(most, on_drop=_retire)

    def __len__(self) -> int:
        return len(self._granted) + len(self._others)

    def of(self, address: IPAddress, workload: str | None = None) -> Standing:
        """Return what is known of the caller at `address`, or of the workload that asks from there."""
        standing = self.find(address, workload)
        if standing is None:
            standing = self._others[_key(address, workload)] = Standing(address, workload)
        return standing

    def find(self, address: IPAddress, workload: str | None = None) -> Standing | None:
        """Return what is known of a caller, None: nothing."""
        key = _key(address, workload)
        return self._granted.get(key) or self._others.get(key)

    def file(self, standing: Standing) -> None:
        """Put a standing where its verdict belongs."""
        if not standing.is_current:
            return
        keeps, drops = self._others, self._granted
        if standing.verdict is not None and standing.verdict.session is not None:
            keeps, drops = drops, keeps
        key = _key(standing.address, standing.workload)
        drops.pop(key)
        keeps[key] = standing

    def current(self) -> Iterator[Standing]:
        """Yield all that are known."""
        for shelf in (self._granted, self._others):
            yield from shelf.values()

    def drop(self, standing: Standing) -> None:
        """Forget one of them, as `retire` forgets all."""
        for shelf in (self._granted, self._others):
            shelf.pop(_key(standing.address, standing.workload))
        _retire(standing)

    def retire(self) -> None:
        """Forget all; whoever holds a standing learns by `is_current` that it no longer counts."""
        for shelf in (self._granted, self._others):
            for standing in shelf.values():
                _retire(standing)
            shelf.clear()


def _key(address: IPAddress, workload: str | None) -> Key:
    return address if workload is None else (address, workload)


def _retire(standing: Standing) -> None:
    standing.is_current = False
