"""One STS and one site for all tests of a module that only read; others build their own."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.site_thread import RunningSite, running_site
from tests.web.machines import site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartSite(Protocol):
    """Starts a site that runs until the test ends."""

    def __call__(self, **sections: object) -> RunningSite:
        """Return the site once it listens; `sections` replace those of `machines.site_settings`."""


@pytest.fixture
def sts() -> Iterator[LittleSts]:
    """An STS that gives credentials to whoever asks, with no calls so far."""
    with running_little_sts() as server:
        yield server


@pytest.fixture
def start_site(sts: LittleSts, tmp_path: Path) -> Iterator[StartSite]:
    """A function that starts sites."""
    with ExitStack() as running:

        def start(**sections: object) -> RunningSite:
            folder = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return running.enter_context(running_site(site_settings(sts, **sections), folder))

        yield start


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """The site of `machines`, for tests that leave it as it is; its STS accepts everything."""
    with running_little_sts() as server:
        folder = tmp_path_factory.mktemp("shared-site")
        with running_site(site_settings(server), folder) as site:
            yield site
