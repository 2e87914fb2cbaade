"""Each client in each trouble: it neither crashes nor hangs, and gets nobody else's keys."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import CASES
from tests.conformance.clients import ClientUnavailableError, tried_clients
from tests.conformance.trials import Course, shifted_clock, stationed
from tests.conformance.troubles import EMPTY_FOR_ERROR, TROUBLES, Outcome, allowed_outcomes
from tests.conformance.world import ROLE_ARN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conformance.clients import Client
    from tests.conformance.modes import Mode
    from tests.conformance.trials import Station, Trial
    from tests.conformance.troubles import Trouble
    from tests.conformance.world import World

pytestmark = pytest.mark.conformance

MOST_REQUESTS = 60
"""To the daemon, for one question to S3: no client asks in a loop."""

_TRIED = {name: case for name, case in CASES.items() if case[0] in tried_clients()}


@pytest.fixture(scope="module")
def stations(shared_world: World) -> Iterator[Mapping[str, Station | ClientUnavailableError]]:
    """A station for each case whose client can be had, or why it can't."""
    ready: dict[str, tuple[Client, Mode, object]] = {}
    for name, (client, mode) in _TRIED.items():
        ready[name] = (client, mode, _prepare(client.name))
    had = {name: case for name, case in ready.items() if not isinstance(case[2], ClientUnavailableError)}
    with stationed(shared_world, list(had.values())) as made:  # type: ignore[arg-type]  # only commands are left
        yield {name: case[2] for name, case in ready.items() if name not in had} | dict(  # type: ignore[misc]
            zip(had, made, strict=True)
        )


@pytest.fixture(scope="module")
def trials(
    shared_world: World,
    stations: Mapping[str, Station | ClientUnavailableError],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Trouble], Mapping[str, Trial]]:
    """What became of all clients in a trouble; run once, when first asked for."""

    done: dict[str, Mapping[str, Trial]] = {}

    def run(trouble: Trouble) -> Mapping[str, Trial]:
        if trouble.name not in done:
            present = [station for station in stations.values() if not isinstance(station, Exception)]
            folder = tmp_path_factory.mktemp(trouble.name)
            done[trouble.name] = Course(trouble, shared_world, present, folder).run()
        return done[trouble.name]

    return run


@cache
def _prepare(name: str) -> object:
    (client,) = (client for client in tried_clients() if client.name == name)
    try:
        return client.prepare()
    except ClientUnavailableError as error:
        return error


@pytest.mark.parametrize("case", _TRIED)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_client_in_trouble(
    trouble: Trouble,
    case: str,
    stations: Mapping[str, Station | ClientUnavailableError],
    trials: Callable[[Trouble], Mapping[str, Trial]],
) -> None:
    """It answers in time, ends when told to, makes of it what is known, and uses no keys but its own."""
    station = stations[case]
    if isinstance(station, ClientUnavailableError):
        pytest.skip(str(station))
    if trouble.seconds_left is not None and not Path(shifted_clock(Path())["LD_PRELOAD"]).exists():
        pytest.skip("missing: the Debian package libfaketime")
    if trouble.is_forbidden and not station.client.reads_s3:
        pytest.skip("the client has no S3")
    trial = trials(trouble)[station.host]
    assert trial.outcome in allowed_outcomes(case, trouble), trial
    if trial.outcome is Outcome.ENDED:  # by itself, and by no signal: a shell says 128 and more for one
        assert 0 <= int(trial.died.split()[3]) < 128, trial
    elif trial.outcome is not Outcome.SILENT:
        assert trial.status == 0, trial
    known_answers = {station.wanted} | ({"ok "} if case in EMPTY_FOR_ERROR else set())
    assert all(answer in known_answers or answer.startswith("error ") for answer in trial.answers), trial
    assert trial.most_at_once <= MOST_REQUESTS, trial
    known = {(seen.role_arn, seen.session_name) for seen in trial.seen if seen.role_arn is not None}
    assert known <= {(ROLE_ARN, station.host)}, trial
    signed = {seen.outcome for seen in trial.seen if seen.access_key_id is not None}
    assert signed <= {"ok", "NoSuchKey", *_known_errors(trouble, trial.outcome)}, trial


def _known_errors(trouble: Trouble, outcome: Outcome) -> set[str]:
    """Return what S3 may have said to requests that were signed."""
    if trouble.is_forbidden:
        return {"AccessDenied"}
    return {"ExpiredToken"} if outcome is Outcome.DEAD else set()
