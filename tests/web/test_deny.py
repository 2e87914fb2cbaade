"""deny, host names, where the provider asks for none: real DNS, a real reload, no keys, no user-data."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.aws_process import Aws
from tests.standins.daemon import running_daemon, settings_for, write_settings
from tests.standins.dns_server import running_name_server
from tests.standins.little_sts import running_little_sts
from tests.standins.wire import ROLES_PATH
from tests.web.machines import FOO, FOO_NAME, caller_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.dns_server import NameServer
    from tests.standins.little_sts import LittleSts

ROLE = "fixed-role"
BAD = "bad.other.example"
_PATHS = (ROLES_PATH, ROLES_PATH + ROLE, "/latest/user-data")


class Site:
    """A daemon with the provider simple, its name server and its STS."""

    def __init__(self, daemon: Daemon, names: NameServer, sts: LittleSts, folder: Path) -> None:
        self.daemon = daemon
        self.names = names
        self.sts = sts
        self.folder = folder

    def reload(self, *denied: str) -> None:
        """Put another `deny` into force."""
        write_settings(settings(self.names, self.sts, self.folder, *denied), self.folder / "imds-proxy.yaml")
        seen = self.daemon.log.count("\nconfiguration ")
        self.daemon.signal(signal.SIGHUP)
        assert self.daemon.await_log("(configuration .*)", seen + 1)[-1] == "configuration reloaded"

    def statuses(self, token: str) -> list[int]:
        """Ask for the role's name, its keys and user-data until there is an answer; return the statuses."""
        caller = caller_of(self.daemon)
        return [caller.settle(path, token).status for path in _PATHS]


def settings(names: NameServer, sts: LittleSts, folder: Path, *denied: str) -> dict[str, Any]:
    return settings_for(
        Aws(sts.url, "AKIAEXAMPLE", "our/own/secret/key"),
        listen=[{"address": "127.0.0.1:0", "callers": ["127.0.0.0/8"]}],
        providers={"fixed": {"type": "simple", "grants": [{"account": "main", "role": ROLE}]}},
        dns={"nameservers": [names.endpoint], "recheck": "0s"},
        metadata={"user_data": str(folder / "user-data")},
        deny=list(denied),
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A daemon that denies nobody yet."""
    (tmp_path / "user-data").mkdir()
    (tmp_path / "user-data" / FOO).write_text("a secret\n")
    with (
        running_name_server() as names,
        running_little_sts() as sts,
        running_daemon(settings(names, sts, tmp_path), tmp_path) as daemon,
    ):
        yield Site(daemon, names, sts, tmp_path)


def test_a_reload_that_denies_a_name(site: Site) -> None:
    """DNS is asked from then on. Who has that name gets neither keys nor user-data, whatever token it has."""
    site.names.set_pointers(FOO, FOO_NAME, BAD)
    token = caller_of(site.daemon).fetch_token()
    assert site.statuses(token) == [200, 200, 200]
    assert site.names.queries() == 0
    calls = len(site.sts.calls)
    site.reload(BAD)
    assert site.statuses(token) == [404, 404, 404]
    assert caller_of(site.daemon, "127.0.0.9").fetch_role() == ROLE
    assert site.names.queries(BAD) == 0
    site.reload()
    assert site.statuses(token) == [200, 200, 200]
    assert [call["RoleSessionName"] for call in site.sts.calls[calls:]] == ["127.0.0.9"]


def test_what_can_t_be_told(site: Site) -> None:
    """While the name server fails and nothing is known: 503, no user-data, and STS is not asked."""
    site.names.fault_all("SERVFAIL")
    site.reload(BAD)
    caller = caller_of(site.daemon)
    token = caller.fetch_token()
    assert [caller.get(path, token).status for path in _PATHS] == [503, 503, 503]
    assert site.sts.calls == []
    site.reload("127.0.0.77")
    assert site.statuses(token) == [200, 200, 200]


def test_a_name_that_comes_later(site: Site) -> None:
    """The record changes while keys are held: over with the next token."""
    site.reload(BAD)
    site.names.set_pointers(FOO, FOO_NAME)
    caller = caller_of(site.daemon)
    assert site.statuses(caller.fetch_token()) == [200, 200, 200]
    site.names.set_pointers(FOO, BAD)
    assert site.statuses(caller.fetch_token()) == [404, 404, 404]
    assert [one["reason"] for one in site.daemon.audit_records if one["outcome"] == "refused"] == [
        f"the name {BAD} is denied"
    ]
