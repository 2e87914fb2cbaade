"""journal and what writes to it: entries with fields, a journal that fails, one that is the only place."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.audit import Audit
from imds_proxy.audit_outputs import COPY_PAUSE, Destination, destination_of
from imds_proxy.audit_records import Line, Record, journal_entry, message_of
from imds_proxy.journal import JOURNAL_SOCKET, Journal, is_journal, render_entry
from tests.standins.clocks import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GRANTED = Record(
    "10.0.0.5",
    "granted",
    name="tuvfoo42.valid.example",
    reason="rule loctyp gives tuvfoo",
    account="main",
    role="roleprefix-tuvfoo",
    session_name="tuvfoo42.valid.example",
    access_key_id="ASIA1",
    expiration="2026-11-23T17:08:43Z",
    sts_request_id="request-1",
)
REFUSED = Record("10.0.0.6", "refused", reason="no PTR record")


def parse_entry(data: bytes) -> dict[str, str]:
    """Return the fields of an entry, read as journald reads them; each is there once."""
    fields: dict[str, str] = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, data = rest[8 : 8 + length], rest[9 + length :]
            assert rest[8 + length : 9 + length] == b"\n"
        assert name.decode("ascii") not in fields
        fields[name.decode("ascii")] = value.decode("utf-8")
    return fields


class JournalStandin:
    """A datagram socket in place of journald's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def receive(self) -> dict[str, str]:
        """Return the next entry, from a datagram or a memfd that nobody can change."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as file:
                with pytest.raises(OSError, match="not permitted"):
                    os.pwrite(descriptor, b"x", 0)
                file.seek(0)
                return parse_entry(file.read())
        return parse_entry(data)

    def close(self) -> None:
        """End it, as a stopped journald does."""
        self._socket.close()
        self.path.unlink()


@contextmanager
def standin(path: Path) -> Iterator[JournalStandin]:
    journal = JournalStandin(path)
    try:
        yield journal
    finally:
        if path.exists():
            journal.close()


class Log:
    """An audit log with a hand-set clock."""

    def __init__(self, file: Path | None, journal: Path) -> None:
        self.time = HandClock()
        self.complaints: list[str] = []
        self.audit = Audit(
            Destination(None if file is None else str(file), journal),
            clock=self.time.clock(),
            on_error=self.complaints.append,
        )


@contextmanager
def opened(file: Path | None, journal: Path) -> Iterator[Log]:
    log = Log(file, journal)
    try:
        yield log
    finally:
        log.audit.close(10)


def wait_for(is_reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_reached():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.01)


# --- entries -----------------------------------------------------------------------------------------


def test_a_record_as_an_entry() -> None:
    """A line for people, priority and identifier, and every field that is known."""
    fields = parse_entry(journal_entry(Line(1_800_000_000.5, GRANTED, 1)))
    assert fields == {
        "MESSAGE": "granted role roleprefix-tuvfoo in main to tuvfoo42.valid.example (10.0.0.5): "
        "rule loctyp gives tuvfoo; key ASIA1 until 2026-11-23T17:08:43Z",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "imds-proxy",
        "IMDS_TIME": "2027-01-15T08:00:00.500Z",
        "IMDS_CALLER": "10.0.0.5",
        "IMDS_OUTCOME": "granted",
        "IMDS_NAME": "tuvfoo42.valid.example",
        "IMDS_REASON": "rule loctyp gives tuvfoo",
        "IMDS_ACCOUNT": "main",
        "IMDS_ROLE": "roleprefix-tuvfoo",
        "IMDS_SESSION_NAME": "tuvfoo42.valid.example",
        "IMDS_ACCESS_KEY_ID": "ASIA1",
        "IMDS_EXPIRATION": "2026-11-23T17:08:43Z",
        "IMDS_STS_REQUEST_ID": "request-1",
        "IMDS_STALE": "false",
        "IMDS_COUNT": "1",
    }


@pytest.mark.parametrize(
    ("record", "count", "priority", "message"),
    [
        (REFUSED, 1, "5", "refused: 10.0.0.6: no PTR record"),
        (REFUSED, 7, "5", "refused: 10.0.0.6: no PTR record; 7 times"),
        (Record("10.0.0.7", "trouble", error="STS fails"), 1, "4", "trouble: 10.0.0.7: STS fails"),
        (
            Record("uid:0", "refused", reason="\x1b[2Jx\n\u202e"),
            1,
            "5",
            "refused: uid:0: \\x1b[2Jx\\n\\u202e",
        ),
    ],
)
def test_messages(record: Record, count: int, priority: str, message: str) -> None:
    """What happened, on one printable line; trouble is worse than a no, a no worse than a yes."""
    fields = parse_entry(journal_entry(Line(0, record, count)))
    assert (fields["PRIORITY"], fields["MESSAGE"], fields["IMDS_COUNT"]) == (priority, message, str(count))


@given(st.text(), st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"])))
def test_no_value_becomes_a_field(name: str, reason: str) -> None:
    """Whatever the texts are, the entry has our fields alone, and they read back as they were."""
    record = Record("10.0.0.5", "refused", name=name, reason=reason)
    fields = parse_entry(journal_entry(Line(0, record, 1)))
    assert fields.keys() == {
        "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "IMDS_TIME", "IMDS_CALLER", "IMDS_OUTCOME",
        "IMDS_NAME", "IMDS_REASON", "IMDS_STALE", "IMDS_COUNT",
    }  # fmt: skip
    assert fields["IMDS_NAME"] == name
    assert fields["IMDS_REASON"] == reason.encode("utf-8", "backslashreplace").decode("utf-8")
    assert message_of(Line(0, record, 1)).isprintable()


def test_a_field_in_a_value() -> None:
    """What looks like another field after a newline is part of the value."""
    entry = render_entry([("IMDS_REASON", "x\nIMDS_OUTCOME=granted\n"), ("IMDS_OUTCOME", "refused")])
    assert parse_entry(entry) == {"IMDS_REASON": "x\nIMDS_OUTCOME=granted\n", "IMDS_OUTCOME": "refused"}


# --- the journal -------------------------------------------------------------------------------------


def test_a_large_entry(tmp_path: Path) -> None:
    """What no datagram can hold goes as a memfd."""
    with standin(tmp_path / "journal") as journal:
        sender = Journal(journal.path)
        value = "x" * (17 << 20)  # more than any send buffer that was asked for
        sender.send(render_entry([("MESSAGE", value)]), 5)
        assert journal.receive() == {"MESSAGE": value}
        sender.close()


def test_the_stream_of_the_journal(tmp_path: Path) -> None:
    """`$JOURNAL_STREAM` names a stream by device and inode; another one is not the journal."""
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream.fileno(), environ)
        assert not is_journal(other.fileno(), environ)
        assert not is_journal(stream.fileno(), {})
    assert not is_journal(1_000_000, environ)


def test_destinations() -> None:
    """The file and, if wanted, the journal; the journal alone in place of a stream that leads there."""
    found = os.fstat(1)
    stdout = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert destination_of("-", journal=False, environ=stdout) == Destination("-")
    assert destination_of("/x", journal=True, environ=stdout) == Destination("/x", JOURNAL_SOCKET)
    assert destination_of("-", journal=True, environ={}) == Destination("-", JOURNAL_SOCKET)
    assert destination_of("-", journal=True, environ=stdout) == Destination(None, JOURNAL_SOCKET)


# --- the log -----------------------------------------------------------------------------------------


def test_a_file_and_the_journal(tmp_path: Path) -> None:
    """Each record is in both, in order; counts of repeated refusals, too."""
    file = tmp_path / "audit.jsonl"
    with standin(tmp_path / "journal") as journal, opened(file, journal.path) as log:
        log.audit.note_hand_out(GRANTED)
        for _ in range(3):
            log.audit.note_denial(REFUSED)
        log.audit.close(10)
        entries = [journal.receive() for _ in range(3)]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["caller"], one["count"]) for one in lines] == [
        ("10.0.0.5", 1),
        ("10.0.0.6", 1),
        ("10.0.0.6", 2),
    ]
    assert [(one["IMDS_CALLER"], int(one["IMDS_COUNT"])) for one in entries] == [
        (one["caller"], one["count"]) for one in lines
    ]
    assert (log.audit.written, log.audit.not_copied, log.complaints) == (3, 0, [])


def test_a_missing_journal(tmp_path: Path) -> None:
    """The file has all, the journal's lack is complained of once and counted; it gets what comes later."""
    file, path = tmp_path / "audit.jsonl", tmp_path / "journal"
    with opened(file, path) as log:
        for number in range(1, 4):
            log.audit.note_hand_out(GRANTED)
            wait_for(partial(lambda wanted: log.audit.not_copied == wanted, number))
        assert len(log.complaints) == 1
        assert str(path) in log.complaints[0]
        with standin(path) as journal:
            log.time.advance(COPY_PAUSE + 1)
            log.audit.note_hand_out(GRANTED)
            assert journal.receive()["IMDS_CALLER"] == "10.0.0.5"
    assert (log.audit.written, log.audit.not_copied) == (4, 3)
    assert len(file.read_text().splitlines()) == 4


def test_a_full_journal(tmp_path: Path) -> None:
    """A journal that takes nothing more holds up no record of the file."""
    file = tmp_path / "audit.jsonl"
    with standin(tmp_path / "journal") as journal, opened(file, journal.path) as log:
        for _ in range(5000):
            log.audit.note_hand_out(GRANTED)
        wait_for(lambda: log.audit.written == 5000)
        wait_for(lambda: log.audit.not_copied > 4000)
        assert journal.receive()["IMDS_CALLER"] == "10.0.0.5"
    assert len(file.read_text().splitlines()) == 5000
    assert len(log.complaints) == 1


def test_the_journal_alone(tmp_path: Path) -> None:
    """Where it is the only place, records wait while it is not there, as they do for a file."""
    path = tmp_path / "journal"
    with opened(None, path) as log:
        for _ in range(3):
            log.audit.note_hand_out(GRANTED)
        wait_for(lambda: bool(log.complaints))
        assert (log.audit.written, log.audit.waiting) == (0, 3)
        with standin(path) as journal:
            entries = [journal.receive() for _ in range(3)]
            wait_for(lambda: log.audit.waiting == 0)
    assert {entry["IMDS_ACCESS_KEY_ID"] for entry in entries} == {"ASIA1"}
    assert (log.audit.written, log.audit.not_copied, len(log.complaints)) == (3, 0, 1)


def test_another_destination(tmp_path: Path) -> None:
    """A reload takes the journal in, or leaves it."""
    file = tmp_path / "audit.jsonl"
    with standin(tmp_path / "journal") as journal, opened(file, journal.path) as log:
        log.audit.note_hand_out(GRANTED)
        assert journal.receive()["IMDS_CALLER"] == "10.0.0.5"
        log.audit.reopen(str(file))
        # The thread may still be at the hand-out: what comes at once may go where that went.
        log.audit.note_denial(Record("10.0.0.8", "refused"))
        wait_for(lambda: log.audit.written == 2)
        log.audit.note_denial(REFUSED)
        wait_for(lambda: log.audit.written == 3)
        log.audit.reopen(Destination(str(file), journal.path))
        log.audit.note_denial(Record("10.0.0.7", "refused"))
        callers = [journal.receive()["IMDS_CALLER"]]
        while callers[-1] == "10.0.0.8":
            callers.append(journal.receive()["IMDS_CALLER"])
        assert callers[-1] == "10.0.0.7"
    assert not [one for one in threading.enumerate() if one.name == "audit"]
