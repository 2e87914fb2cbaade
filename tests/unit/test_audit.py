"""audit: what is written, what is counted, and that no disk, full, slow or gone, holds anybody up."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.audit import Audit, check_file
from imds_proxy.audit_records import Record
from imds_proxy.errors import FederationError
from tests.standins.clocks import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REFUSED = Record("10.0.0.5", "refused", reason="no PTR record")
GRANTED = Record("10.0.0.5", "granted", role="roleprefix-tuvfoo", access_key_id="ASIA1")


class Log:
    """An audit log with a hand-set clock."""

    def __init__(self, file: str) -> None:
        self.time = HandClock()
        self.complaints: list[str] = []
        self.audit = Audit(file, clock=self.time.clock(), on_error=self.complaints.append)


@contextmanager
def opened(file: Path | str) -> Iterator[Log]:
    log = Log(str(file))
    try:
        yield log
    finally:
        log.audit.close(10)


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def wait_for(is_reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_reached():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


# --- what is written ---------------------------------------------------------------------------------


def test_a_record(file: Path) -> None:
    """A record is a line of JSON: the time in UTC, all fields in order, the count."""
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED)
    (record,) = records(file)
    assert record == {"time": "2027-01-15T08:00:00.000Z", **asdict(GRANTED), "count": 1}
    assert list(record) == ["time", *(field.name for field in fields(Record)), "count"]


def test_every_hand_out(file: Path) -> None:
    """Hand-outs are written one by one, equal ones too."""
    with opened(file) as log:
        for _ in range(2500):
            log.audit.note_hand_out(GRANTED)
    assert len(records(file)) == 2500
    assert (log.audit.written, log.audit.waiting, log.audit.dropped) == (2500, 0, 0)


@given(st.text(), st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"])))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, reason: str, error: str) -> None:
    """Whatever stands in a record, it is one line of ASCII and reads back as it was."""
    file = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    with opened(file) as log:
        log.audit.note_denial(Record("10.0.0.5", "refused", reason=reason, error=error))
    assert file.read_bytes().count(b"\n") == 1
    (record,) = records(file)
    # Two halves of a character that stand side by side read back as the character.
    assert json.dumps([record["reason"], record["error"]]) == json.dumps([reason, error])


def test_no_field_for_a_secret() -> None:
    """A record has no field for a secret key or a session token."""
    assert not [field.name for field in fields(Record) if "secret" in field.name or "token" in field.name]


def test_the_file(file: Path) -> None:
    """The file is made for owner and group alone; one that is there is appended to."""
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED)
    assert stat.S_IMODE(file.stat().st_mode) & ~0o640 == 0
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED)
    assert len(records(file)) == 2


@pytest.mark.parametrize(("name", "stream"), [("-", 0), ("stderr", 1)])
def test_streams(capsys: pytest.CaptureFixture[str], name: str, stream: int) -> None:
    """`-` is stdout, `stderr` is stderr; closing the log leaves them open."""
    with opened(name) as log:
        log.audit.note_hand_out(GRANTED)
    written = capsys.readouterr()
    assert json.loads(written[stream])["outcome"] == "granted"
    assert written[1 - stream] == ""
    assert not sys.stdout.closed
    assert not sys.stderr.closed


# --- what is counted ---------------------------------------------------------------------------------


def counts(file: Path) -> list[int]:
    return [record["count"] for record in records(file)]


def test_repeated_denials(file: Path) -> None:
    """The first denial of a caller is written at once, the same ones of the next minute as a count."""
    with opened(file) as log:
        for _ in range(10):
            log.audit.note_denial(REFUSED)
        wait_for(lambda: log.audit.written == 1)
        log.time.advance(59)
        log.audit.flush_counts()
        log.time.advance(2)
        log.audit.flush_counts()
        wait_for(lambda: log.audit.written == 2)
        for _ in range(5):
            log.audit.note_denial(REFUSED)
    assert counts(file) == [1, 9, 5]


def test_a_denial_after_the_minute(file: Path) -> None:
    """A denial after the minute takes the count along, if nobody has written it before."""
    with opened(file) as log:
        for _ in range(4):
            log.audit.note_denial(REFUSED)
        log.time.advance(61)
        log.audit.note_denial(REFUSED)
    assert counts(file) == [1, 4]


def test_a_quiet_minute(file: Path) -> None:
    """After a minute without it, a denial is written at once again."""
    with opened(file) as log:
        log.audit.note_denial(REFUSED)
        log.time.advance(61)
        log.audit.flush_counts()
        log.audit.note_denial(REFUSED)
        wait_for(lambda: log.audit.written == 2)
    assert counts(file) == [1, 1]


def test_what_is_not_the_same(file: Path) -> None:
    """Another caller, outcome or reason is a record of its own."""
    others = [
        Record("10.0.0.6", "refused", reason="no PTR record"),
        Record("10.0.0.5", "trouble", reason="no PTR record"),
        Record("10.0.0.5", "refused", reason="the address is denied"),
    ]
    with opened(file) as log:
        for record in (REFUSED, *others, REFUSED, *others):
            log.audit.note_denial(record)
    assert counts(file) == [1] * 8


# --- the disk ----------------------------------------------------------------------------------------


def test_a_fifo_that_nobody_reads(file: Path) -> None:
    """Nothing waits for a file that does not move; its records are written once it does."""
    os.mkfifo(file)
    log = Log(str(file))
    for number in range(10_500):
        log.audit.note_denial(Record(f"10.0.{number >> 8}.{number & 255}", "refused"))
    for _ in range(100):
        log.audit.note_hand_out(GRANTED)
    log.audit.reopen(str(file))
    log.audit.flush_counts()
    assert (log.audit.written, log.audit.waiting, log.audit.dropped) == (0, 10_100, 500)
    log.audit.close(0.01)
    with file.open() as reader:
        lines = reader.readlines()
    assert len(lines) == 10_100
    assert sum('"granted"' in line for line in lines) == 100
    assert log.complaints == []


def test_too_many_hand_outs_wait(file: Path) -> None:
    """`is_behind` when so many records wait that a hand-out might go unrecorded; not by refusals alone."""
    os.mkfifo(file)
    log = Log(str(file))
    for number in range(10_500):
        log.audit.note_denial(Record(f"10.0.{number >> 8}.{number & 255}", "refused"))
    behind = [log.audit.is_behind]
    for _ in range(40_000):
        log.audit.note_hand_out(GRANTED)
    behind.append(log.audit.is_behind)
    log.audit.close(0.01)
    with file.open() as reader:
        assert sum(1 for _ in reader) == 50_000
    wait_for(lambda: log.audit.waiting == 0)
    assert [*behind, log.audit.is_behind] == [False, True, False]


def test_a_file_that_can_t_be_made(tmp_path: Path) -> None:
    """A missing folder is complained of once; the records wait, and are written when it is there."""
    file = tmp_path / "missing" / "audit.jsonl"
    with opened(file) as log:
        for _ in range(50):
            log.audit.note_hand_out(GRANTED)
            time.sleep(0.002)
        assert len(log.complaints) == 1
        assert str(file) in log.complaints[0]
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        file.parent.mkdir()
        wait_for(lambda: log.audit.written == 50)
    assert len(records(file)) == 50


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that is full is complained of once; what it did not take is written when there is room."""
    file = tmp_path / "audit.jsonl"
    with opened("/dev/full") as log:
        for _ in range(3):
            log.audit.note_hand_out(GRANTED)
            time.sleep(0.05)
        wait_for(lambda: bool(log.complaints))
        assert "No space left" in log.complaints[0]
        log.audit.reopen(str(file))
        wait_for(lambda: log.audit.waiting == 0)
        log.audit.note_hand_out(GRANTED)
    assert len(records(file)) == 4
    assert len(log.complaints) == 1


def test_closing_with_a_full_disk() -> None:
    """A log that can't be written ends all the same when it is closed."""
    log = Log("/dev/full")
    log.audit.note_hand_out(GRANTED)
    wait_for(lambda: bool(log.complaints))
    log.audit.close(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "audit"]


def test_logrotate(file: Path) -> None:
    """After the file was moved away and the log was told, records go to a new file of the same name."""
    moved = file.with_suffix(".1")
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED)
        wait_for(lambda: log.audit.written == 1)
        file.rename(moved)
        log.audit.note_hand_out(GRANTED)
        wait_for(lambda: log.audit.written == 2)
        log.audit.reopen(str(file))
        log.audit.note_hand_out(GRANTED)
    assert (len(records(moved)), len(records(file))) == (2, 1)


def test_another_file(tmp_path: Path, file: Path) -> None:
    """A reload may name another file."""
    other = tmp_path / "other.jsonl"
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED)
        wait_for(lambda: log.audit.written == 1)
        log.audit.reopen(str(other))
        log.audit.note_hand_out(GRANTED)
    assert (len(records(file)), len(records(other))) == (1, 1)


@pytest.mark.parametrize("name", ["-", "stderr"])
def test_streams_can_be_written(name: str) -> None:
    """Streams pass the check at start."""
    check_file(name)


def test_the_check_at_start(tmp_path: Path, file: Path) -> None:
    """A file that can be made passes; a folder, or one that is missing, is an error that names it."""
    check_file(str(file))
    os.mkfifo(tmp_path / "fifo")
    check_file(str(tmp_path / "fifo"))
    for bad in (tmp_path, tmp_path / "missing" / "audit.jsonl"):
        with pytest.raises(FederationError, match=str(bad)):
            check_file(str(bad))
