"""imds-proxy forget, as an operator runs it against a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, write_settings
from tests.standins.little_sts import running_little_sts
from tests.standins.wire import ROLES_PATH
from tests.web.machines import BAR, BAR_NAME, BAR_ROLE, FOO, FOO_NAME, FOO_ROLE, caller_of, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts


class Forgetting:
    """A daemon with an admin socket, its STS, and the file that says where the socket is."""

    def __init__(self, daemon: Daemon, sts: LittleSts, file: Path, socket: Path) -> None:
        self.daemon = daemon
        self.sts = sts
        self.file = file
        self.socket = socket

    def fetch(self, source: str, role: str) -> str:
        """Return the answer with a machine's keys."""
        caller = caller_of(self.daemon, source)
        token = caller.fetch_token()
        assert caller.fetch_role(token) == role
        return caller.get(ROLES_PATH + role, token).text


@pytest.fixture(scope="module")
def forgetting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forgetting]:
    """A daemon for the tests of this module."""
    folder = tmp_path_factory.mktemp("forgetting")
    socket = folder / "admin.sock"
    with running_little_sts() as sts:
        settings = site_settings(sts, admin={"socket": str(socket)})
        with running_daemon(settings, folder) as daemon:
            yield Forgetting(daemon, sts, folder / "imds-proxy.yaml", socket)


def test_forget(forgetting: Forgetting) -> None:
    """What was forgotten is said and logged; the host is served anew, and others as before."""
    old, other = forgetting.fetch(FOO, FOO_ROLE), forgetting.fetch(BAR, BAR_ROLE)
    calls = len(forgetting.sts.calls)
    done = run_command("forget", FOO_NAME, "--config", forgetting.file)
    # The name is from `hosts`, which is no look-up and nothing to forget.
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "forgotten: 0 identities, 1 verdict, 1 session\n"
    forgetting.daemon.await_log(
        rf".*forgot ({FOO_NAME}): identities 0, verdicts 1, sessions 1, asked by uid:\d+"
    )
    assert forgetting.fetch(BAR, BAR_ROLE) == other
    assert forgetting.fetch(FOO, FOO_ROLE) != old
    assert len(forgetting.sts.calls) == calls + 1


def test_forget_over_a_socket(forgetting: Forgetting) -> None:
    """By address, without reading the settings; what is not known is no failure."""
    forgetting.fetch(BAR, BAR_ROLE)
    for host, said in (
        (BAR, "forgotten: 0 identities, 1 verdict, 1 session\n"),
        (BAR, f"nothing known of {BAR}\n"),
        (BAR_NAME.upper(), f"nothing known of {BAR_NAME}\n"),
    ):
        done = run_command("forget", host, "--socket", forgetting.socket)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_callers_can_t_forget(forgetting: Forgetting) -> None:
    """The page is on the admin socket alone."""
    caller = caller_of(forgetting.daemon)
    order = b'{"host": "127.0.0.1"}'
    head = caller.render("POST", "/forget", ("Content-Length", str(len(order))))
    assert caller.exchange(head + order).status in {404, 405}


def test_forget_what_is_no_host(tmp_path: Path) -> None:
    """Exit status 2 and a line that says so."""
    for host in ("10.0.0.0/8", "a b", ""):
        done = run_command("forget", host, "--socket", tmp_path / "admin.sock")
        assert done.returncode == 2
        assert "no address and no host name" in done.stderr


def test_forget_without_a_daemon(sts: LittleSts, tmp_path: Path) -> None:
    """Exit status 3 and one line: no socket set, or nobody there."""
    for admin in ({}, {"socket": str(tmp_path / "admin.sock")}):
        file = write_settings(site_settings(sts, admin=admin), tmp_path / "a.yaml")
        done = run_command("forget", FOO, "--config", file)
        assert (done.returncode, done.stdout) == (3, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("imds-proxy: ")
