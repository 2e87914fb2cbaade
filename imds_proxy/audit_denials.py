"""Refusals and trouble for the audit log: which are written at once, and counts of all the others.

Nothing is forgotten: each one is written, or is in a count that will be written.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, TypeAlias

from imds_proxy.audit_records import Record
from imds_proxy.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.clock import Clock

_MOST_COLLAPSED = 10_000
_COLLAPSE_SECONDS = 60.0

_MOST_OF_NAME = 10
"""Records a second of one caller under one name."""

_MOST_OF_CALLER = 50
"""Records a second of one caller: a proxy's address has many people, and a stranger can make up names."""

_MOST_OF_ALL = 500
"""Records a second of all callers."""

_MORE = "more refusals or trouble of this caller, for any reason"
_MORE_OF_ALL = "more refusals or trouble of several callers, for any reason"
_ALL_CALLERS = "*"
_IPV6_PREFIX = 64

_Source: TypeAlias = "tuple[str, str | None]"
_Key: TypeAlias = "tuple[str | None, ...]"


class _Counted:
    __slots__ = ("count", "last", "written_at")

    def __init__(self, last: Record, written_at: float) -> None:
        self.last = last
        self.written_at = written_at
        self.count = 0

    def is_due(self, now: float) -> bool:
        return now - self.written_at >= _COLLAPSE_SECONDS


class _Rate:
    """Number of records in the current second."""

    __slots__ = ("number", "second")

    def __init__(self) -> None:
        self.second = -1
        self.number = 0

    def number_in(self, second: int) -> int:
        if second != self.second:
            self.second, self.number = second, 0
        return self.number


class Denials:
    """Collapses equal denials of a caller, and counts what comes faster than it may be written."""

    def __init__(self, write: Callable[[Record, int], bool], *, clock: Clock) -> None:
        """`write` takes a record and its count, or returns False when it has no room."""
        self._write = write
        self._clock = clock
        self._equal: Recent[_Key, _Counted] = Recent(_MOST_COLLAPSED, on_drop=self._on_equal_dropped)
        self._more: Recent[_Key, _Counted] = Recent(_MOST_COLLAPSED, on_drop=self._on_more_dropped)
        self._rates: Recent[_Source, _Rate] = Recent(_MOST_COLLAPSED)
        self._rate_of_all = _Rate()
        self._of_all = 0
        self.dropped = 0
        """Records that found no room."""

    def __len__(self) -> int:
        return len(self._equal) + len(self._more)

    def note(self, record: Record) -> None:
        """Write the denial, or count it."""
        now = self._clock.monotonic()
        # Many people may come from one address, a proxy's, and ask for many roles.
        key = (record.caller, record.outcome, record.reason, record.name, record.account, record.role)
        known = self._equal.get(key)
        if known is not None:
            known.last = record
            known.count += 1
            if known.is_due(now):
                self._write_count(known, now)
        elif self._has_room(record, now):
            self._equal[key] = _Counted(record, now)
            self._write_or_count(record, 1)
        else:
            self._count_more(record, 1, now)

    def flush(self) -> None:
        """Write the counts whose minute is over, as far as the rates allow; the others wait."""
        now = self._clock.monotonic()
        self._flush(self._equal, now)
        self._flush(self._more, now)
        self._write_rest()

    def flush_all(self) -> None:
        """Write all counts now."""
        for table in (self._equal, self._more):
            for counted in table.values():
                if counted.count:
                    self._write_or_count(counted.last, counted.count)
                    counted.count = 0
        self._write_rest()

    def _flush(self, table: Recent[_Key, _Counted], now: float) -> None:
        for key, counted in list(table.items()):
            if not counted.is_due(now):
                continue
            if counted.count:
                self._write_count(counted, now)
            else:
                del table[key]

    def _write_rest(self) -> None:
        rest = Record(_ALL_CALLERS, "refused", reason=_MORE_OF_ALL)
        if self._of_all and self._write(rest, self._of_all):
            self._of_all = 0

    def _write_count(self, counted: _Counted, now: float) -> None:
        if self._has_room(counted.last, now):
            self._write_or_count(counted.last, counted.count)
            counted.count = 0
            counted.written_at = now

    def _write_or_count(self, record: Record, count: int) -> None:
        if not self._write(record, count):
            self.dropped += 1
            self._of_all += count

    def _count_more(self, record: Record, count: int, now: float) -> None:
        source = (_network(record.caller), record.outcome)
        counted = self._more.get(source)
        if counted is None:
            counted = self._more[source] = _Counted(Record(*source, reason=_MORE), now)
        counted.count += count

    def _on_equal_dropped(self, counted: _Counted) -> None:
        if not counted.count:
            return
        now = self._clock.monotonic()
        if self._has_room(counted.last, now):
            self._write_or_count(counted.last, counted.count)
        else:
            self._count_more(counted.last, counted.count, now)

    def _on_more_dropped(self, counted: _Counted) -> None:
        if not counted.count:
            return
        if self._has_room(counted.last, self._clock.monotonic()):
            self._write_or_count(counted.last, counted.count)
        else:
            self._of_all += counted.count

    def _has_room(self, record: Record, now: float) -> bool:
        """Tell whether one more record may be written this second, and count it if so."""
        second = int(now)
        caller = _network(record.caller)
        rates = (
            (self._rate_of_all, _MOST_OF_ALL),
            (self._rate((caller, None)), _MOST_OF_CALLER),
            (self._rate((caller, record.name or "")), _MOST_OF_NAME),
        )
        if any(rate.number_in(second) >= most for rate, most in rates):
            return False
        for rate, _ in rates:
            rate.number += 1
        return True

    def _rate(self, source: _Source) -> _Rate:
        rate = self._rates.get(source)
        if rate is None:
            rate = self._rates[source] = _Rate()
        return rate


def _network(caller: str) -> str:
    """Return the caller, or its /64: whoever has one IPv6 address of that may have them all."""
    if ":" not in caller:
        return caller
    try:
        address = IPv6Address(caller)
    except ValueError:  # uid:1000
        return caller
    return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
