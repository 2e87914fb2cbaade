"""Each client in each of its modes: it finds its credentials, and they are the right ones."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.conformance.clients import (
    ASKS_WITH_TOKEN,
    Cannot,
    Client,
    ClientUnavailableError,
    Works,
    all_clients,
    tried_clients,
)
from tests.conformance.modes import Mode
from tests.conformance.probes import ProbeEndedError, read_version
from tests.conformance.world import BODY, PLACES, ROLE, ROLE_ARN, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from tests.conformance.results import Results
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.conformance


def _cells(is_wanted: Callable[[Works | Cannot], bool]) -> list[ParameterSet]:
    return [
        pytest.param(client, mode, id=f"{client.language}-{client.name}-{mode}".replace(" ", "-"))
        for client in tried_clients()
        for mode in Mode
        if is_wanted(client.modes[mode])
    ]


def _works(cell: Works | Cannot) -> bool:
    return isinstance(cell, Works)


def _cannot(cell: Works | Cannot) -> bool:
    return isinstance(cell, Cannot) and cell != ASKS_WITH_TOKEN


ROUNDS = 2
"""Fetches by one process: the second is what a program does that runs on."""


@cache
def _command(client_name: str) -> Sequence[str] | ClientUnavailableError:
    (client,) = (client for client in all_clients() if client.name == client_name)
    try:
        return client.prepare()
    except ClientUnavailableError as error:  # a failed build is not tried again for each mode
        return error


@pytest.mark.parametrize(("client", "mode"), _cells(_works))
def test_client_reads_what_its_role_may_read(
    client: Client, mode: Mode, world: World, results: Results, tmp_path: Path
) -> None:
    """Twice in one process, then it ends by itself; S3 saw the role's session, the audit names the caller."""
    with results.judging(client, mode):
        command = _command_or_skip(client, results, tmp_path)
        works = client.modes[mode]
        assert isinstance(works, Works)
        with world.running_daemon(mode, tmp_path, works) as daemon:
            with world.running_probe(client, mode, command, daemon, tmp_path) as probe:
                answers = [probe.ask() for _ in range(ROUNDS)]
                status = probe.finish()
                assert answers == [f"ok {BODY if client.reads_s3 else ROLE}"] * ROUNDS, probe.log
                assert status == 0, probe.log
            if client.reads_s3:
                _check_sessions(world, mode)
                _check_audit(daemon, mode)
            if mode is Mode.V1:
                assert _count_token_requests(world, daemon) == 0


@pytest.mark.parametrize(("client", "mode"), _cells(_cannot))
def test_client_that_cannot_gets_nothing(
    client: Client, mode: Mode, world: World, results: Results, tmp_path: Path
) -> None:
    """What the page calls impossible is tried with what is usual in the mode: it fails, without a crash."""
    with results.judging(client, mode):
        command = _command_or_skip(client, results, tmp_path)
        with (
            world.running_daemon(mode, tmp_path) as daemon,
            world.running_probe(client, mode, command, daemon, tmp_path) as probe,
        ):
            with suppress(ProbeEndedError):
                assert not probe.ask().startswith("ok")
            assert probe.finish() >= 0, probe.log
        assert [seen for seen in world.s3.requests if seen.outcome == "ok"] == []


def _command_or_skip(client: Client, results: Results, home: Path) -> Sequence[str]:
    """Return what runs the client, once its version is known."""
    command = _command(client.name)
    if isinstance(command, ClientUnavailableError):
        pytest.skip(str(command))
    if client.name not in results.versions:
        results.versions[client.name] = read_version(command, home)
    return command


def _check_sessions(world: World, mode: Mode) -> None:
    """Check that what S3 let through was the role's session named after the caller, and nobody else's."""
    granted = [seen for seen in world.s3.requests if seen.outcome == "ok"]
    assert len(granted) >= ROUNDS, world.s3.requests
    known = [seen for seen in world.s3.requests if seen.role_arn is not None]
    assert {(seen.role_arn, seen.session_name) for seen in known} == {(ROLE_ARN, PLACES[mode].host)}


def _check_audit(daemon: Daemon, mode: Mode) -> None:
    """Check that the daemon wrote down to whom it gave keys, and to nobody else."""
    handed_out = [record for record in daemon.audit_records if record["outcome"] == "granted"]
    assert handed_out, daemon.audit_text
    callers = {(record["caller"], record["name"], record["role"]) for record in handed_out}
    assert callers == {(PLACES[mode].caller, PLACES[mode].host, ROLE)}


def _count_token_requests(world: World, daemon: Daemon) -> float:
    """Return how often somebody asked for a token, whatever the answer was."""
    direct = build_opener(ProxyHandler({}))
    with world.namespace.entered(), direct.open(f"{daemon.admin_url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    assert any(line.startswith('imds_proxy_requests_total{path="role"') for line in lines), lines
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith('imds_proxy_requests_total{path="token"')
    )
