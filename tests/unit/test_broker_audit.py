"""broker: what the audit log says of hand-outs and denials, and that nothing new goes out unrecorded."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_proxy.audit_records import Record
from imds_proxy.errors import AWSError, Refusal
from tests.standins.core import ADDRESS, NAME, ROLE, Core, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_KEY = "ASIA00000001"
MOST_WAITING = 10_000


@in_virtual_time
async def test_a_hand_out(tmp_path: Path) -> None:
    """The first hand-out says who got what, why, until when, and AWS's request id; no secret."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        (record,) = core.records()
        assert record == {
            "time": "2027-01-15T08:00:00.000Z",
            "caller": ADDRESS,
            "outcome": "granted",
            "name": NAME,
            "reason": f"{NAME} is {ADDRESS} (confirmed), rule loctyp gives tuvfoo",
            "account": "main",
            "role": ROLE,
            "session_name": NAME,
            "access_key_id": FIRST_KEY,
            "expiration": "2027-01-15T09:00:00Z",
            "error": None,
            "sts_request_id": "request-1",
            "stale": False,
            "count": 1,
        }


@in_virtual_time
async def test_once_per_caller_and_key(tmp_path: Path) -> None:
    """A key is recorded for each caller who gets it, once; the next key anew."""
    with running_core(tmp_path, is_shared=True) as core:
        for number in (5, 6):
            core.dns.add_host(f"10.0.0.{number}", f"tuvfoo0{number}.valid.example")
        for _ in range(65):
            for number in (5, 6):
                assert (await core.round(f"10.0.0.{number}"))[0] == ROLE
            await asyncio.sleep(60)
        handed = [(record["caller"], record["access_key_id"]) for record in core.records()]
        assert handed == [
            (caller, f"ASIA{key:08}") for key in (1, 2, 3) for caller in ("10.0.0.5", "10.0.0.6")
        ]
        assert core.metrics.hand_outs.counts == {(): 6}


@in_virtual_time
async def test_a_refusal(tmp_path: Path) -> None:
    """A refusal says why; repeated ones of a caller are one record with a count."""
    with running_core(tmp_path) as core:
        for _ in range(10):
            await core.round()
            await core.round("10.0.0.6")
        records = core.records()
        assert {(record["outcome"], record["reason"]) for record in records} == {("refused", "no PTR record")}
        assert [(record["caller"], record["count"]) for record in records] == [
            (ADDRESS, 1),
            ("10.0.0.6", 1),
            (ADDRESS, 19),
            ("10.0.0.6", 19),
        ]


@in_virtual_time
async def test_trouble(tmp_path: Path) -> None:
    """Trouble is no refusal in the log either."""
    with running_core(tmp_path) as core:
        core.dns.fail()
        await core.role_list()
        (record,) = core.records()
        assert (record["outcome"], record["reason"]) == ("trouble", f"{ADDRESS}: SERVFAIL")


@pytest.mark.parametrize(
    ("failure", "outcome", "request_id"),
    [
        (Refusal("STS: AccessDenied: no"), "refused", None),
        (AWSError("STS: Throttling", code="Throttling", request_id="request-7"), "trouble", "request-7"),
    ],
    ids=["refused", "trouble"],
)
@in_virtual_time
async def test_sts_says_no(tmp_path: Path, failure: Exception, outcome: str, request_id: str | None) -> None:
    """What STS says to a granted role is the error; role and session name say what was asked for."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.sts.failure = failure
        await core.round()
        record = core.records()[0]
        assert (record["outcome"], record["error"], record["sts_request_id"]) == (
            outcome,
            str(failure),
            request_id,
        )
        assert (record["role"], record["session_name"]) == (ROLE, NAME)
        assert record["access_key_id"] is None


@in_virtual_time
async def test_a_role_of_somebody_else(tmp_path: Path) -> None:
    """Who asks for another role's name is refused, and the log has the name as it was asked for."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.role("admin\n\ud800")
        (record,) = core.records()
        assert record["outcome"] == "refused"
        assert record["error"] == f"asked for the role {'admin' + chr(10) + chr(0xD800)!r}, has {ROLE}"


@pytest.mark.parametrize("later", ["trouble", "refused"])
@in_virtual_time
async def test_a_hand_out_by_what_list_has_promised(tmp_path: Path, later: str) -> None:
    """Keys that go out because LIST named the role are recorded with name and role as ever."""
    provider = ScriptedProvider()
    with running_core(tmp_path, provider=provider, hosts={ADDRESS: NAME}) as core:
        assert await core.role_list() == ROLE
        if later == "trouble":
            provider.failure = RuntimeError("broken")
        else:
            provider.grants = frozenset()
        await asyncio.sleep(6)
        await core.token()
        assert await core.role() == FIRST_KEY
        (record,) = core.records()
        assert (record["outcome"], record["role"], record["name"]) == ("granted", ROLE, NAME)
        assert (record["account"], record["session_name"]) == ("main", NAME)


# --- the log can't be written ------------------------------------------------------------------------


class SlowLog:
    """A FIFO that nobody reads before `read`."""

    def __init__(self, file: Path, core: Core) -> None:
        self._file = file
        self._core = core
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read_all)
        core.is_log_moving = False

    def read(self) -> None:
        """Read from now on, until the log is closed."""
        self.reader.start()
        self._core.is_log_moving = True

    def _read_all(self) -> None:
        with self._file.open() as fifo:
            self.lines.extend(fifo)


@contextmanager
def core_with_a_slow_log(folder: Path) -> Iterator[tuple[Core, SlowLog]]:
    """Make a core whose log is a FIFO; all its lines are there when the block is over."""
    os.mkfifo(folder / "audit.jsonl")
    with running_core(folder) as core:
        log = SlowLog(folder / "audit.jsonl", core)
        try:
            yield core, log
        finally:
            if not log.reader.is_alive():
                log.read()
    log.reader.join(30)


def fill(core: Core) -> None:
    while not core.audit.is_behind:
        core.audit.note_hand_out(Record("192.0.2.1", "granted"))
    assert core.audit.waiting == MOST_WAITING


def granted(log: SlowLog) -> list[tuple[str, str]]:
    """Return caller and access key of each hand-out on record."""
    records = [json.loads(line) for line in log.lines]
    return [(one["caller"], one["access_key_id"]) for one in records if one["access_key_id"]]


@in_virtual_time
async def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """No key goes out before its record is written; once the log moves all goes on, one record for a key."""
    with core_with_a_slow_log(tmp_path) as (core, log):
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host("10.0.0.6", "tuvfoo43.valid.example")
        # The first one finds out; then LIST knows better than to name a role that ROLE can't hand out.
        assert await core.round() == (ROLE, 503)
        await asyncio.sleep(1)
        assert await core.round() == (503, 503)
        assert await core.round("10.0.0.6") == (503, 503)
        assert (core.audit.written, core.metrics.hand_outs.counts) == (0, {})
        log.read()
        await asyncio.sleep(1)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert await core.round("10.0.0.6") == (ROLE, "ASIA00000002")
        assert core.metrics.hand_outs.counts == {(): 2}
    assert granted(log) == [(ADDRESS, FIRST_KEY), ("10.0.0.6", "ASIA00000002")]


@in_virtual_time
async def test_a_full_backlog(tmp_path: Path) -> None:
    """When too many records wait, LIST and ROLE of a caller who got nothing yet are 503."""
    with core_with_a_slow_log(tmp_path) as (core, log):
        core.dns.add_host(ADDRESS, NAME)
        fill(core)
        await core.token()
        assert (await core.role(), await core.role_list(), await core.role()) == (503, 503, 503)
        assert core.metrics.hand_outs.counts == {}
    assert len([line for line in log.lines if '"granted"' in line]) == MOST_WAITING


@in_virtual_time
async def test_a_full_disk(tmp_path: Path) -> None:
    """Keys that are on record are served on, new ones are not, what LIST has named included."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host("10.0.0.6", "tuvfoo43.valid.example")
        assert await core.round() == (ROLE, FIRST_KEY)
        assert await core.role_list("10.0.0.6") == ROLE
        core.clock.stand_still_while(lambda: not core.audit.is_behind)
        core.audit.reopen("/dev/full")
        assert await core.role(address="10.0.0.6") == 503
        assert await core.role_list("10.0.0.6") == 503
        assert await core.round() == (ROLE, FIRST_KEY)
        assert len(core.complaints) == 1
        core.clock.stand_still_while(lambda: core.audit.waiting > 0)
        core.audit.reopen(str(core.audit_file))
        await asyncio.sleep(1)
        assert await core.round("10.0.0.6") == (ROLE, "ASIA00000002")
        handed = [one["access_key_id"] for one in core.records() if one["outcome"] == "granted"]
        assert handed == [FIRST_KEY, "ASIA00000002"]


@in_virtual_time
async def test_many_who_wait_for_one_record(tmp_path: Path) -> None:
    """Requests of one caller that come while the record is being written are one hand-out."""
    with core_with_a_slow_log(tmp_path) as (core, log):
        core.dns.add_host(ADDRESS, NAME)
        await core.token()
        requests = [asyncio.create_task(core.role()) for _ in range(20)]
        await asyncio.sleep(0.1)
        log.read()
        assert set(await asyncio.gather(*requests)) == {FIRST_KEY}
        assert core.metrics.hand_outs.counts == {(): 1}
    assert granted(log) == [(ADDRESS, FIRST_KEY)]
