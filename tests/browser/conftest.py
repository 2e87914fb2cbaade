"""One Chromium for all tests here; each test gets a profile of its own in it, and a site to look at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.browser.axe import axe_source
from tests.browser.devtools import connected
from tests.browser.people_site import BASE, PeopleSite, serving
from tests.standins.client_venvs import ClientUnavailableError
from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.browser.devtools import Browser

_OPTIONS = [
    "--headless=new",
    "--no-sandbox",  # the tests run as root, and it shows nothing but their own pages
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing outside this machine, whatever a page or the browser itself may want.
    "--host-resolver-rules=MAP plain.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the browser's DevTools listen."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("missing: chromium (Debian package chromium)")
    folder = tmp_path_factory.mktemp("chromium")
    environment = bare_environment({"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")})
    command = [program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    child = Child("chromium", command, folder=folder, environment=environment)
    try:
        [url] = child.await_lines(r"DevTools listening on (ws://\S+)", timeout=60)
        yield url
    finally:
        child.kill()


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with connected(chromium) as browser:
        yield browser


@pytest.fixture
async def site() -> AsyncIterator[PeopleSite]:
    """A site with the page; what it shows is up to the test."""
    site = PeopleSite()
    async with serving(site.app()) as origin:
        site.url = f"{origin}{BASE}/"
        yield site


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility rules, as a script."""
    try:
        return axe_source()
    except ClientUnavailableError as error:
        pytest.skip(f"missing: axe-core: {error}")
