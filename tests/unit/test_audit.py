"""audit: what is written, what is counted, and that no disk, full, slow or gone, holds anybody up."""

from __future__ import annotations

import json
import os
import stat
import subprocess
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
    """Whatever stands in a record, it is one line of ASCII and reads back as it was, cut to its length."""
    file = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    with opened(file) as log:
        log.audit.note_denial(Record("10.0.0.5", "refused", reason=reason, error=error))
    assert file.read_bytes().count(b"\n") == 1
    (record,) = records(file)
    # Two halves of a character that stand side by side read back as the character.
    cut = [text if len(text) <= 200 else f"{text[:199]}…" for text in (reason, error)]
    assert json.dumps([record["reason"], record["error"]]) == json.dumps(cut)


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


# --- floods ------------------------------------------------------------------------------------------


def refusal(caller: str, number: int) -> Record:
    """Return a refusal that is like no other."""
    return Record(caller, "refused", name="people", role=f"role-{number}", error=f"asked for {number}")


@pytest.mark.parametrize("caller", ["10.0.0.5", "uid:1000", "2001:db8::5"])
def test_refusals_with_texts_of_their_own(file: Path, caller: str) -> None:
    """Ten a second of one caller are written; all the others are one record with their count."""
    with opened(file) as log:
        for number in range(2000):
            log.audit.note_denial(refusal(caller, number))
        log.time.advance(61)
        log.audit.flush_counts()
        wait_for(lambda: log.audit.waiting == 0)
        assert counts(file) == [1] * 10 + [1990]
    *_, more = records(file)
    network = "2001:db8::/64" if ":db8:" in caller else caller
    assert (more["caller"], more["outcome"], more["role"], more["name"]) == (network, "refused", None, None)
    assert more["reason"] == "more refusals or trouble of this caller, for any reason"


def test_the_next_second(file: Path) -> None:
    """Of each second ten are written; trouble is counted apart from refusals."""
    with opened(file) as log:
        for number in range(100):
            log.audit.note_denial(refusal("10.0.0.5", number))
            log.audit.note_denial(Record("10.0.0.5", "trouble", name="people", role=str(number)))
            log.time.advance(0.1)
    written = records(file)
    assert sum(record["count"] for record in written) == 200
    assert len([record for record in written if record["role"]]) == 100
    ends = {record["outcome"]: record["count"] for record in written if record["role"] is None}
    assert ends == {"refused": 50, "trouble": 50}


def test_names_that_a_stranger_makes_up(file: Path) -> None:
    """One address may write 50 a second, whatever names its people, or it, come with."""
    with opened(file) as log:
        for number in range(2000):
            log.audit.note_denial(Record("10.0.0.5", "refused", name=f"user-{number}"))
    assert counts(file) == [1] * 50 + [1950]


def test_a_neighbour_of_a_flood(file: Path) -> None:
    """Others who are refused meanwhile are written with all that is known."""
    with opened(file) as log:
        for number in range(2000):
            log.audit.note_denial(refusal("10.0.0.5", number))
        log.audit.note_denial(Record("10.0.0.6", "refused", reason="no PTR record"))
    assert ("10.0.0.6", "no PTR record", 1) in [
        (record["caller"], record["reason"], record["count"]) for record in records(file)
    ]


def test_addresses_of_one_network(file: Path) -> None:
    """The addresses of a /64 are one caller; those of IPv4 are not."""
    with opened(file) as log:
        for number in range(1000):
            log.audit.note_denial(Record(f"2001:db8::{number:x}", "refused"))
    assert counts(file) == [1] * 10 + [990]


def test_counts_that_are_pushed_out(file: Path) -> None:
    """More callers than are remembered: each refusal is in some record, written when it is pushed out."""
    total = 0
    with opened(file) as log:
        for number in range(12_000):
            if number % 400 == 0:
                log.time.advance(1)
            for _ in range(3):
                log.audit.note_denial(Record(f"10.{number >> 8}.{number & 255}.5", "refused", reason="no"))
                total += 1
        wait_for(lambda: log.audit.waiting == 0)
        written = sum(counts(file))
        assert written > 12_000
        assert log.audit.collapsed <= 20_000
    assert sum(counts(file)) == total


def test_more_callers_than_can_be_told(file: Path) -> None:
    """500 a second are written of all callers; of those whose counts are pushed out, too, the number is."""
    with opened(file) as log:
        for number in range(30_000):
            log.audit.note_denial(Record(f"10.{number >> 8}.{number & 255}.5", "refused", reason="no"))
        wait_for(lambda: log.audit.waiting == 0)
        assert len(records(file)) == 500
        log.time.advance(1)
        log.audit.flush_counts()
        wait_for(lambda: log.audit.waiting == 0)
        rest = records(file)[-1]
        assert (rest["caller"], rest["count"]) == ("*", 30_000 - 500 - 10_000)
    assert sum(counts(file)) == 30_000


def test_a_caller_is_told_at_its_pace(file: Path) -> None:
    """Counts that are due at the same time are written ten a second, too; at the end all of them are."""
    with opened(file) as log:
        for second in range(6):
            for number in range(10):
                for _ in range(2):
                    log.audit.note_denial(refusal("10.0.0.5", second * 10 + number))
            log.time.advance(1)
        log.time.advance(61)
        log.audit.flush_counts()
        wait_for(lambda: log.audit.waiting == 0)
        assert len(records(file)) == 60 + 10
    assert counts(file) == [1] * 120


def test_long_texts(file: Path) -> None:
    """A refusal's texts have 200 characters at most; a hand-out keeps all that says who got what."""
    with opened(file) as log:
        log.audit.note_denial(
            Record("10.0.0.5", "refused", name="n" * 300, reason="r" * 300, account="a" * 201, role="x" * 200)
        )
        log.audit.note_hand_out(
            Record("10.0.0.6", "granted", name="n" * 253, reason="r" * 300, error="e" * 300, role="x" * 64)
        )
    granted, refused = sorted(records(file), key=lambda record: str(record["outcome"]))
    cut = {"name": "n" * 199 + "…", "reason": "r" * 199 + "…", "account": "a" * 199 + "…", "role": "x" * 200}
    assert cut.items() <= refused.items()
    kept = {"name": "n" * 253, "reason": "r" * 199 + "…", "error": "e" * 199 + "…", "role": "x" * 64}
    assert kept.items() <= granted.items()


# --- the disk ----------------------------------------------------------------------------------------


def test_a_fifo_that_nobody_reads(file: Path) -> None:
    """Nothing waits for a file that does not move; its records are written once it does, hand-outs first."""
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
        found = [json.loads(line) for line in reader]
    assert [record["outcome"] for record in found[:100]] == ["granted"] * 100
    assert sum(record["count"] for record in found[100:]) == 10_500
    assert (found[-1]["caller"], found[-1]["count"]) == ("*", 500)
    assert log.complaints == []


def test_a_hand_out_among_refusals(file: Path) -> None:
    """A hand-out that comes while thousands of refusals wait for a slow reader passes them."""
    os.mkfifo(file)
    log = Log(str(file))
    for number in range(5000):
        if number % 400 == 0:
            log.time.advance(1)
        log.audit.note_denial(Record(f"10.{number >> 8}.{number & 255}.5", "refused", reason="x" * 200))
    with file.open() as reader:
        before = [json.loads(reader.readline()) for _ in range(200)]
        written = log.audit.note_hand_out(GRANTED)
        after: list[dict[str, Any]] = []
        while not after or after[-1]["outcome"] != "granted":
            after.append(json.loads(reader.readline()))
        written.result(20)
        rest = threading.Thread(target=reader.read)
        rest.start()
        log.audit.close(20)
        rest.join(20)
    assert {record["outcome"] for record in before} == {"refused"}
    # What the pipe holds (64 KiB), and the batch that is being written.
    assert len(after) <= 400


def test_too_many_hand_outs_wait(file: Path) -> None:
    """`is_behind` when so many records wait that a hand-out might go unrecorded; not by refusals alone."""
    os.mkfifo(file)
    log = Log(str(file))
    for number in range(10_500):
        log.audit.note_denial(Record(f"10.0.{number >> 8}.{number & 255}", "refused"))
    behind = [log.audit.is_behind]
    futures = [log.audit.note_hand_out(GRANTED) for _ in range(10_000)]
    behind.append(log.audit.is_behind)
    assert not any(each.done() for each in futures)
    with file.open() as reader:
        log.audit.close(0.01)
        assert sum('"granted"' in line for line in reader) == 10_000
    wait_for(lambda: log.audit.waiting == 0)
    assert all(each.done() for each in futures)
    assert [*behind, log.audit.is_behind] == [False, True, False]


def test_a_hand_out_that_waits_for_long(file: Path) -> None:
    """`is_behind` when one record has waited for longer than a caller does."""
    os.mkfifo(file)
    log = Log(str(file))
    log.audit.note_hand_out(GRANTED)
    behind = [log.audit.is_behind]
    log.time.advance(1)
    behind.append(log.audit.is_behind)
    with file.open() as reader:
        assert '"granted"' in reader.readline()
        wait_for(lambda: log.audit.waiting == 0)
        behind.append(log.audit.is_behind)
        log.audit.close(10)
    assert behind == [False, True, False]


def test_the_future_of_a_hand_out(file: Path) -> None:
    """It is done when the record can be read in the file, and nothing cancels it."""
    with opened(file) as log:
        written = log.audit.note_hand_out(GRANTED)
        assert not written.cancel()
        written.result(20)
        assert [record["outcome"] for record in records(file)] == ["granted"]


def test_a_line_that_a_killed_process_has_left(file: Path) -> None:
    """What a kill or a power cut has torn stays a line of its own: the next record can be read."""
    file.write_text('{"time": "2027-01-15T08:00:00.000Z", "cal')
    for _ in range(2):
        with opened(file) as log:
            log.audit.note_hand_out(GRANTED)
    first, *others = file.read_text().splitlines()
    assert first.endswith('"cal')
    assert [json.loads(line)["outcome"] for line in others] == ["granted", "granted"]


def test_a_disk_that_takes_half_a_line(tmp_path: Path) -> None:
    """A disk that is full within a record leaves no piece of it; later each record is there once."""
    script = """
import json, resource, signal, sys, time
from imds_proxy.audit import Audit
from imds_proxy.audit_records import Record
from imds_proxy.clock import SYSTEM_CLOCK
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
complaints = []
audit = Audit(sys.argv[1], clock=SYSTEM_CLOCK, on_error=complaints.append)
written = []
for number in range(10):
    written.append(audit.note_hand_out(Record("10.0.0.5", "granted", access_key_id=f"ASIA{number}")))
    time.sleep(0.02)
while not complaints:
    time.sleep(0.01)
content = open(sys.argv[1]).read()
done = [each.done() for each in written]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
written[-1].result(20)
audit.close(10)
print(json.dumps([content, done, complaints]))
"""
    file = tmp_path / "audit.jsonl"
    found = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    content, done, complaints = json.loads(found.stdout)
    assert content.endswith("\n")
    assert [json.loads(line)["access_key_id"] for line in content.splitlines()] == [
        f"ASIA{number}" for number in range(sum(done))
    ]
    assert 0 < sum(done) < 10
    assert len(complaints) == 1
    assert [record["access_key_id"] for record in records(file)] == [f"ASIA{number}" for number in range(10)]


def test_a_file_that_is_removed(file: Path) -> None:
    """Records do not go where nobody can read them: the file is made anew."""
    with opened(file) as log:
        log.audit.note_hand_out(GRANTED).result(20)
        file.unlink()
        log.audit.note_hand_out(GRANTED).result(20)
        assert len(records(file)) == 1


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
