"""A record of the audit log, and how it is written: as a line of JSON, or as an entry of the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from imds_proxy.journal import render_entry
from imds_proxy.text import visible

_PRIORITIES = {"granted": "6", "refused": "5", "trouble": "4"}
"""As in syslog(3): informational, notice, warning."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a decision. `outcome` is granted, refused or trouble. No field is a secret."""

    caller: str
    outcome: str
    name: str | None = None
    reason: str | None = None
    account: str | None = None
    role: str | None = None
    session_name: str | None = None
    access_key_id: str | None = None
    expiration: str | None = None
    error: str | None = None
    sts_request_id: str | None = None
    stale: bool = False
    """The name stands in for an answer that DNS does not give at the moment."""


_FIELDS = tuple(field.name for field in fields(Record))

LONGEST_TEXT = 200
"""Characters of a text in a record. Callers, the DNS and directories have a say in many of them."""

_EXPLAINING = ("reason", "error")
_TEXTS = tuple(name for name in _FIELDS if name not in ("stale", "outcome"))


def shortened(record: Record) -> Record:
    """Return the record with long texts cut.

    Of a hand-out only the explanations are: the rest, which says who got which key, AWS and the DNS bound.
    """
    names = _EXPLAINING if record.outcome == "granted" else _TEXTS
    texts = {name: getattr(record, name) for name in names}
    cut: dict[str, Any] = {
        name: _cut(text) for name, text in texts.items() if text and len(text) > LONGEST_TEXT
    }
    return replace(record, **cut) if cut else record


def _cut(text: str) -> str:
    return text[: LONGEST_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class Line:
    """A record that waits to be written."""

    time: float
    """Seconds UTC since 1970."""
    record: Record
    count: int
    """How many equal ones it stands for."""


def json_line(line: Line) -> str:
    """Return the record as a line of JSON: ASCII, all fields in order."""
    known = {name: getattr(line.record, name) for name in _FIELDS}
    return json.dumps({"time": _utc(line.time), **known, "count": line.count}, ensure_ascii=True) + "\n"


def journal_entry(line: Line) -> bytes:
    """Return the record as an entry: a line for people, and its fields as `IMDS_...`; what is not known is
    left out.
    """
    record = line.record
    known = {name: getattr(record, name) for name in _FIELDS} | {"stale": str(record.stale).lower()}
    return render_entry(
        [
            ("MESSAGE", message_of(line)),
            ("PRIORITY", _PRIORITIES.get(record.outcome, "5")),
            ("SYSLOG_IDENTIFIER", "imds-proxy"),
            ("IMDS_TIME", _utc(line.time)),
            *((f"IMDS_{name.upper()}", value) for name, value in known.items() if value is not None),
            ("IMDS_COUNT", str(line.count)),
        ]
    )


def message_of(line: Line) -> str:
    """Return what happened as one printable line, whatever the texts in it are."""
    record = line.record
    who = f"{record.name} ({record.caller})" if record.name else record.caller
    role = f" role {record.role} in {record.account}" if record.role else ""
    words = [
        f"{record.outcome}{role} to {who}"
        if record.outcome == "granted"
        else f"{record.outcome}{role}: {who}"
    ]
    words += [text for text in (record.error, record.reason) if text]
    if record.access_key_id:
        words.append(f"key {record.access_key_id} until {record.expiration}")
    if line.count > 1:
        words.append(f"{line.count} times")
    text = ": ".join((words[0], "; ".join(words[1:]))) if words[1:] else words[0]
    return visible(text)


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
