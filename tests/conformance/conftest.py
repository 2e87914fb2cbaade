"""The world of a run, made once, and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.clients import Client
from tests.conformance.results import Results
from tests.conformance.world import running_world
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.world import World


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--language", action="append", help="try the clients of this language alone; several count"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--language", None)
    if wanted:
        left_out = [item for item in items if _language_of(item) not in {None, *wanted}]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _language_of(item: pytest.Item) -> str | None:
    """Return the language of the client that a test is about; None for a test without one."""
    client = item.callspec.params.get("client") if hasattr(item, "callspec") else None
    return client.language if isinstance(client, Client) else None


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
