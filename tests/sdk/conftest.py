"""The stand-ins of these tests: one AWS for all of them, a name server and daemons for each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.standins.aws_process import Aws, running_aws
from tests.standins.daemon import Daemon, running_daemon
from tests.standins.dns_server import NameServer, running_name_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class StartDaemon(Protocol):
    """Starts a daemon that runs until the test ends, or until the test stops it."""

    def __call__(self, settings: Mapping[str, object], *, name: str = ...) -> Daemon:
        """Return the daemon once it listens. `name` tells several of one test apart."""


@pytest.fixture(scope="session")
def aws_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """AWS, shared: it takes a second to start."""
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


@pytest.fixture
def aws(aws_process: Aws) -> Aws:
    """AWS with no calls counted and no faults on. Roles of other tests may be there."""
    aws_process.reset()
    return aws_process


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    """A name server without records."""
    with running_name_server() as server:
        yield server


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """A function that starts daemons; at the end each must exit with 0 after SIGTERM."""
    with ExitStack() as running:

        def start(settings: Mapping[str, object], *, name: str = "imds-proxy") -> Daemon:
            return running.enter_context(running_daemon(settings, tmp_path, name=name))

        yield start
