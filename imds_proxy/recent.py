"""Dictionary of bounded size: what was asked for longest ago goes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Dictionary that keeps the `most` values that were set or asked for last.

    It needs less than half the memory of cachetools' LRUCache. Looking through the values does not count as
    asking for them, and must not be mixed with `get`.
    """

    __slots__ = ("_most", "_on_drop", "_values")

    def __init__(self, most: int, *, on_drop: Callable[[Value], None] | None = None) -> None:
        """`on_drop` is called with each value that makes room for newer ones."""
        self._most = most
        self._on_drop = on_drop
        # Python's dictionaries keep the order in which keys were put in, so the first is the oldest. To find
        # it Python passes over what was removed: 7 microseconds where 32,768 are kept.
        self._values: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def get(self, key: Key) -> Value | None:
        """Return the value of `key`, which is the newest from now on; None where there is none."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self._values.pop(key, None)
        if len(self._values) >= self._most:
            self._drop_oldest()
        self._values[key] = value

    def __delitem__(self, key: Key) -> None:
        del self._values[key]

    def pop(self, key: Key) -> Value | None:
        """Remove `key` and return its value; None where there is none."""
        return self._values.pop(key, None)

    def clear(self) -> None:
        """Remove all."""
        self._values.clear()

    def keys(self) -> KeysView[Key]:
        """Return the keys, the oldest first."""
        return self._values.keys()

    def values(self) -> ValuesView[Value]:
        """Return the values, the oldest first."""
        return self._values.values()

    def items(self) -> ItemsView[Key, Value]:
        """Return keys with their values, the oldest first."""
        return self._values.items()

    def _drop_oldest(self) -> None:
        value = self._values.pop(next(iter(self._values)))
        if self._on_drop is not None:
            self._on_drop(value)
