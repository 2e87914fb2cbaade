"""HTTP for people when something does not answer: providers, STS, too many requests; and garbage."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy.base_provider import BaseProvider
from imds_proxy.errors import Trouble
from tests.standins.little_sign_in import running_little_sign_in
from tests.standins.little_sts import running_little_sts
from tests.standins.people_wire import error_of
from tests.standins.site_thread import running_site
from tests.web.people import BASE, PeopleWorld, people_settings, running_people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READER = f"{BASE}/account/main/reader"
WORDS = ("account", "main", "reader", "credentials", "consoleurl", "static", "withid", "callbackurl=", "é")
REASON = "ldap1.valid.example is down"


class Failing(BaseProvider):
    """A site's own provider that can't tell."""

    def get_accounts_and_roles(self) -> Any:
        """Raise."""
        raise Trouble(REASON)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[PeopleWorld]:
    """A site for people whose AWS has been asked for nothing yet."""
    with running_people(tmp_path) as running:
        yield running


def test_a_provider_in_trouble(tmp_path: Path) -> None:
    """503 for lists, credentials and the page; nobody hears why, the record says it; AWS is not asked."""
    with running_little_sts() as sts, running_little_sign_in() as sign_in:
        sections = people_settings(sts, sign_in, tmp_path)
        sections["providers"] = {"people": {"module": __name__, "class": "Failing"}}
        with running_site(sections, tmp_path) as site:
            proxy = PeopleWorld(site, sts, sign_in).proxy()
            for path in (f"{BASE}/account", READER, f"{READER}/credentials", f"{READER}/consoleurl"):
                answer = proxy.get(path)
                assert (answer.status, answer.header("X-Username")) == (503, "alice")
                assert REASON not in error_of(answer)["message"]
            page = proxy.get(f"{BASE}/")
            assert page.status == 503
            assert REASON not in page.text
            assert proxy.get(f"{BASE}/status").status == 200
            site.do(lambda: site.workshop.audit.close(10))
            assert {record["outcome"] for record in site.audit_records()} == {"trouble"}
        assert sts.calls == []


def test_many_wait_for_one_slow_assume_role(world: PeopleWorld) -> None:
    """20 requests for a person's role, and one whose caller hangs up: one AssumeRole, all get its keys.

    Nobody else waits meanwhile.
    """
    world.sts.hold()
    started = threading.Barrier(21)

    def ask() -> str:
        started.wait(10)
        found = json.loads(world.proxy().get(f"{READER}/credentials").body)
        return str(found["AccessKeyId"])

    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(ask) for _ in range(20)]
        proxy = world.proxy()
        with proxy.connected() as connection:
            connection.send(proxy.render("GET", READER, *proxy.headers))
            started.wait(10)
        assert world.proxy("bob").get(f"{BASE}/account").status == 200
        world.sts.release()
        assert len({one.result(30) for one in asking}) == 1
    assert len(world.sts.calls) == 1


def test_many_console_urls_of_one_person(world: PeopleWorld) -> None:
    """64 of them, at a sign-in endpoint that does not answer: nobody else waits for a thread.

    Two are asked for at a time. Others get their credentials, and their console URLs are asked for at once.
    """
    url = f"{READER}/consoleurl"
    assert world.proxy().get(url).status == 200
    asked = len(world.sign_in.paths)
    world.sign_in.hold()
    with ThreadPoolExecutor(65) as pool:
        asking = [pool.submit(lambda: world.proxy().get(url).status) for _ in range(64)]
        wait_in_thread(lambda: world.site.do(lambda: world.site.workshop.sign_in_threads.line) == 64)
        assert world.proxy("bob").get(f"{READER}/credentials").status == 200
        assert len(world.sign_in.paths) - asked == 2
        other = pool.submit(lambda: world.proxy("bob").get(url).status)
        wait_in_thread(lambda: len(world.sign_in.paths) - asked == 3)
        world.sign_in.release()
        assert other.result(30) == 200
        assert {one.result(30) for one in asking} == {200}


def wait_in_thread(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_too_many_requests(tmp_path: Path) -> None:
    """503 and the end of the connection, for whoever asks too much."""
    with running_little_sts() as sts, running_little_sign_in() as sign_in:
        sections = people_settings(sts, sign_in, tmp_path)
        sections["limits"] = {"requests_per_second": 3}
        with running_site(sections, tmp_path) as site:
            site.clock.freeze()
            proxy = PeopleWorld(site, sts, sign_in).proxy()
            assert [proxy.get(f"{BASE}/status").status for _ in range(3)] == [200] * 3
            answer = proxy.get(READER)
            assert (answer.status, answer.header("Connection")) == (503, "close")
            error_of(answer)
            site.clock.ahead = 1
            assert proxy.get(f"{BASE}/status").status == 200
        assert sts.calls == []


def test_a_connection_is_kept(world: PeopleWorld) -> None:
    """Several requests, with errors among them, over one connection; each is judged by itself."""
    proxy, stranger = world.proxy(), world.proxy(None)
    with proxy.connected() as connection:
        for caller, path, status in (
            (proxy, READER, 200),
            (stranger, READER, 401),
            (proxy, f"{BASE}/account/main/x", 403),
            (proxy, "/x", 404),
            (proxy, f"{BASE}/account", 200),
        ):
            connection.send(caller.render("GET", path, *caller.headers))
            assert connection.read_answer().status == status


def test_a_reload(world: PeopleWorld, tmp_path: Path) -> None:
    """Whoever is denied from now on is refused, and a page that is open can still be used by the others."""
    page = world.proxy("bob").get(f"{BASE}/").text
    token = page.partition('data-token="')[2].partition('"')[0]
    sections = people_settings(world.sts, world.sign_in, tmp_path)
    sections["deny"] = ["alice"]
    world.site.replace(sections)
    assert world.proxy("alice").get(READER).status == 403
    assert world.proxy("ALICE").get(READER).status == 403
    form = f"account=main&role=reader&token={token}"
    assert (
        world.proxy("bob").post(f"{BASE}/credentials", form, ("Sec-Fetch-Site", "same-origin")).status == 200
    )
    assert [call["RoleSessionName"] for call in world.sts.calls] == ["bob"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleWorld]:
    """A site for garbage. Nothing of it reaches AWS, and nothing is an error in the log."""
    with running_people(tmp_path_factory.mktemp("fuzz")) as running:
        yield running
        assert running.calls == 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [*WORDS, "", ".", "..", "%2e%2e", "%2F", "%00", "%ff", "%", "?", "&", "#", ";", "\\"]
        ),
        max_size=7,
    ),
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "X"]),
)
def test_odd_paths(target: PeopleWorld, parts: list[str], method: str) -> None:
    """A status of ours, never 500, and credentials for nobody who has no grant."""
    path = f"{BASE}/" + "/".join(parts)
    assert target.proxy("carol").ask(method, path).status in {200, 400, 403, 404, 405, 415}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_garbage(target: PeopleWorld, data: bytes) -> None:
    """The daemon lives."""
    caller = target.caller()
    with caller.connected() as connection:
        connection.send(b"GET " + data + b"\r\n\r\n")
    assert caller.get(f"{BASE}/status").status == 200
