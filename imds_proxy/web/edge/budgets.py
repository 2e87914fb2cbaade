"""Bytes that all connections together may have us keep, and which connection goes when they are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

READ_BYTES = 16_384
"""Bytes of one connection that are looked at in one turn of the event loop."""

MAX_HEAD_BYTES = 16_384
MAX_HEAD_FIELDS = 64
MAX_FIELD_BYTES = 8190
"""Of one head: all of it, its fields, and the request line or one field."""

MAX_BODY_BYTES = 64
"""Of a machine's request, which needs none: s3fs sends an empty chunked one."""

MAX_PEOPLE_BODY_BYTES = 16_384 + 512
"""Of a request of people, as it comes over the wire, chunk sizes included."""

MAX_HELD_HEADS = 16 << 20
"""Bytes of all requests together that are unfinished, wait for their turn or are not answered yet."""

MAX_UNSENT = 16 << 20
"""Bytes of all answers together that their callers have not taken yet."""

_STEP = 512

Owner = TypeVar("Owner", bound="Hashable")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request may have, at most."""

    head_bytes: int
    fields: int
    body_bytes: int
    """Over the wire, chunk sizes included."""
    reads_bodies: bool
    """Whether the service wants to see bodies; else they are skipped unparsed."""


MACHINES = Bounds(MAX_HEAD_BYTES, MAX_HEAD_FIELDS, MAX_BODY_BYTES, reads_bodies=False)
PEOPLE = Bounds(MAX_HEAD_BYTES, MAX_HEAD_FIELDS, MAX_PEOPLE_BODY_BYTES, reads_bodies=True)


class ByteBudget(Generic[Owner]):
    """A number of bytes for all owners together, and how many each of them has."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._sizes: dict[Owner, int] = {}
        self._classes: dict[int, dict[Owner, None]] = {}

    @property
    def is_exceeded(self) -> bool:
        """Tell whether all owners together have more than the budget."""
        return self.total > self.limit

    def set(self, owner: Owner, size: int) -> None:
        """Note how many bytes an owner has now."""
        before = self._sizes.pop(owner, 0)
        if before:
            sizes = self._classes[before // _STEP]
            del sizes[owner]
            if not sizes:
                del self._classes[before // _STEP]
        if size:
            self._sizes[owner] = size
            self._classes.setdefault(size // _STEP, {})[owner] = None
        self.total += size - before

    def largest(self) -> Owner:
        """Return the owner with the most bytes; of several as large, the one that has them for longest.

        Sizes are compared in steps, of which there are few: nobody can make this slow by having many.
        """
        return next(iter(self._classes[max(self._classes)]))
