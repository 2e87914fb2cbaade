"""broker: what the audit log says of hand-outs and denials, and that nothing new goes out unrecorded."""

from __future__ import annotations

import asyncio
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
MOST_WAITING = 50_000


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


# --- the log is too slow -----------------------------------------------------------------------------


@contextmanager
def core_with_a_slow_log(folder: Path) -> Iterator[tuple[Core, list[str]]]:
    """Make a core whose log is a FIFO that nobody reads; the lines are there when the block is over."""
    os.mkfifo(folder / "audit.jsonl")
    lines: list[str] = []

    def read() -> None:
        with (folder / "audit.jsonl").open() as fifo:
            lines.extend(fifo)

    reader = threading.Thread(target=read)
    try:
        with running_core(folder) as core:
            try:
                yield core, lines
            finally:
                reader.start()
    finally:
        reader.join(30)


def fill(core: Core) -> None:
    while not core.audit.is_behind:
        core.audit.note_hand_out(Record("192.0.2.1", "granted"))
    assert core.audit.waiting == MOST_WAITING


@in_virtual_time
async def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """A slow disk holds up no caller, and all hand-outs are written once it moves."""
    with core_with_a_slow_log(tmp_path) as (core, lines):
        for number in range(1, 200):
            core.dns.add_host(f"10.0.{number}.5", f"tuvfoo{number}.valid.example")
            answers = await core.round(f"10.0.{number}.5", role="roleprefix-tuvfoo")
            assert answers[0] == (404 if len(f"tuvfoo{number}") != 8 else ROLE)
        assert core.audit.written == 0
    granted = [line for line in lines if '"granted"' in line]
    assert len(granted) == 90


@in_virtual_time
async def test_a_full_backlog(tmp_path: Path) -> None:
    """When too many records wait, LIST and ROLE of a caller who got nothing yet are 503."""
    with core_with_a_slow_log(tmp_path) as (core, lines):
        core.dns.add_host(ADDRESS, NAME)
        fill(core)
        await core.token()
        assert (await core.role(), await core.role_list(), await core.role()) == (503, 503, 503)
        assert core.metrics.hand_outs.counts == {}
    assert len(lines) == MOST_WAITING


@in_virtual_time
async def test_a_full_backlog_and_known_keys(tmp_path: Path) -> None:
    """Keys that were handed out before are no news: they are served on; what LIST has promised, too."""
    with core_with_a_slow_log(tmp_path) as (core, lines):
        core.dns.add_host(ADDRESS, NAME)
        core.dns.add_host("10.0.0.6", "tuvfoo43.valid.example")
        await core.round()
        assert await core.role_list("10.0.0.6") == ROLE
        fill(core)
        assert await core.round() == (ROLE, FIRST_KEY)
        assert await core.role(address="10.0.0.6") == "ASIA00000002"
    assert sum('"ASIA' in line for line in lines) == 2
