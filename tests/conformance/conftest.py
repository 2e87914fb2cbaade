"""The world of a run, made once, and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.results import Results
from tests.conformance.world import running_world
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.world import World


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if missing := find_missing(["ip"]):
        pytest.skip(f"missing: {'; '.join(missing)}")
    with running_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    """The world with nothing recorded and no faults on."""
    shared_world.aws.reset()
    shared_world.s3.forget_requests()
    return shared_world


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """What the run finds out; written at its end."""
    results = Results()
    yield results
    results.write()
