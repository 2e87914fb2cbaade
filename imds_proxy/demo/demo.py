"""`imds-proxy demo`: the whole thing on loopback, to look at, or with `--once` as a proof that ends."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from imds_proxy.demo.children import DemoError, Outcome, bare_environment, python_command, run
from imds_proxy.demo.evidence import AuditRecord, ClientReport, Evidence, Verdict, find_faults, utc_now
from imds_proxy.demo.guide import guide
from imds_proxy.demo.machines import BUCKET, HONEST, KEY, SPOOFER
from imds_proxy.demo.stage import choose_port, set_stage

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from imds_proxy.demo.stage import Stage

_EXTRA = ("moto", "flask", "flask_cors")
_WHOLE_TIME = 60.0  # seconds for `--once`, start and end included
_AUDIT_TIME = 10.0  # seconds; the daemon writes its records in batches
_EXPLAINED = (0, 1)  # exit statuses of `explain` that carry a verdict: granted, refused

Model = TypeVar("Model", bound=BaseModel)


def run_demo(*, once: bool) -> int:
    """Run the demo and return the exit status: 0 when all was real (`once`) or when the visitor ended it."""
    if any(importlib.util.find_spec(package) is None for package in _EXTRA):
        _tell("the demo needs moto's server: pip install 'imds-proxy[demo]'")
        return 1
    try:
        return asyncio.run(_until_told_to_stop(_prove() if once else _stay(), status_when_stopped=int(once)))
    except DemoError as error:
        _tell(f"demo failed: {error}")
        return 1


def _tell(line: str) -> None:
    """Write progress and trouble to stderr: stdout is for what the demo shows."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _until_told_to_stop(work: Coroutine[None, None, int], *, status_when_stopped: int) -> int:
    """Return what `work` returns; SIGINT, SIGTERM or SIGHUP ends it, its children included.

    A second signal does not wait for the children to end by themselves.
    """
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        _tell("demo stopped")
        return status_when_stopped


async def _stay() -> int:
    """Run until told to stop, showing the audit records as they come."""
    async with set_stage(port=choose_port(), tell=_tell) as stage:
        _show(guide(stage))
        audit = asyncio.create_task(_show_audit(stage.audit))
        ends = [asyncio.create_task(child.end()) for child in stage.children]
        done, _ = await asyncio.wait({audit, *ends}, return_when=asyncio.FIRST_COMPLETED)
        raise DemoError(next(str(task.result()) for task in done))


async def _show_audit(audit: asyncio.Queue[str]) -> str:
    while True:
        _show(f"audit: {await audit.get()}")


async def _prove() -> int:
    """Let a separate process of plain boto3 do its work, compare what all sides saw, and show it."""
    try:
        async with asyncio.timeout(_WHOLE_TIME), set_stage(port=0, tell=_tell) as stage:
            evidence = await _gather(stage)
    except TimeoutError:
        raise DemoError(f"not done within {_WHOLE_TIME:.0f} s") from None
    for line in evidence.lines():
        _show(line)
    faults = find_faults(evidence, utc_now())
    for fault in faults:
        _tell(f"demo failed: {fault}")
    return 1 if faults else 0


async def _gather(stage: Stage) -> Evidence:
    _tell("running boto3 in a process of its own")
    client = _parse(ClientReport, await _run_client(stage), "the boto3 client", statuses=(0,))
    _tell("asking the daemon why")
    verdict = await _explain(stage, HONEST.address)
    spoofer = await _explain(stage, SPOOFER.address)
    try:
        async with asyncio.timeout(_AUDIT_TIME):
            audit = await _find_audit_record(stage.audit, client.access_key_id)
    except TimeoutError:
        raise DemoError(f"no audit record of access key {client.access_key_id}") from None
    return Evidence(client, verdict, audit, spoofer)


async def _run_client(stage: Stage) -> Outcome:
    environment = {
        **bare_environment(stage.home),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": stage.metadata_url,
        "AWS_ENDPOINT_URL": stage.aws_url,
    }
    program = Path(__file__).with_name("client.py")
    return await run("the boto3 client", python_command(str(program), BUCKET, KEY), environment)


async def _explain(stage: Stage, address: str) -> Verdict:
    arguments = ("explain", address, "--json", "--config", str(stage.config))
    command = python_command("-m", "imds_proxy", *arguments)
    outcome = await run("explain", command, bare_environment(stage.home))
    return _parse(Verdict, outcome, f"explain {address}", statuses=_EXPLAINED)


def _parse(model: type[Model], outcome: Outcome, name: str, *, statuses: tuple[int, ...]) -> Model:
    if outcome.status not in statuses:
        raise DemoError(f"{name}: {outcome.complaint}")
    try:
        return model.model_validate_json(outcome.stdout)
    except ValidationError as error:
        raise DemoError(f"{name} answered something else than expected: {error.errors()[0]['msg']}") from None


async def _find_audit_record(audit: asyncio.Queue[str], access_key_id: str | None) -> AuditRecord:
    while True:
        line = await audit.get()
        try:
            record = AuditRecord.model_validate_json(line)
        except ValidationError:
            raise DemoError(f"not an audit record: {line}") from None
        if record.access_key_id == access_key_id:
            return record
