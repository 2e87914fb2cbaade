"""Container credentials on the wire: what an SDK is answered, in what order, and what that costs nobody."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, time, timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from imds_proxy.workload_tokens import Claims, WorkloadTokens, id_of
from tests.standins.old_tokens import issue_old_token
from tests.standins.site_thread import TOKEN_KEYS, WORKLOAD_TOKEN_KEYS
from tests.web.machines import (
    ACCOUNT,
    BAR,
    DENIED,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    FOREIGN,
    NAMELESS,
    OUTSIDE,
    site_settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.standins.wire import WireAnswer
    from tests.web.conftest import StartSite

PATH = "/v1/credentials"
LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = "a-secret-of-the-workload-web"
WEB = "web.pods.example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of secrets with one of the workload web."""
    made = tmp_path / "workloads"
    made.mkdir()
    write(made, WEB, SECRET)
    return made


@pytest.fixture
def site(start_site: StartSite, folder: Path) -> RunningSite:
    """Return a site with a container endpoint where the address decides."""
    return start_site(listen=[listener(folder)])


def write(folder: Path, name: str, *lines: str) -> None:
    """Write a workload's file of secrets."""
    file = folder / name
    file.touch(mode=0o600)
    file.write_text("".join(f"{line}\n" for line in lines))


def listener(folder: Path | None, **container: object) -> dict[str, Any]:
    """Return a listener for containers; `container` is added to its settings."""
    settings = {"secrets": str(folder)} if folder else {}
    return {
        "address": "127.0.0.1:0",
        "callers_except": [f"{OUTSIDE}/32"],
        "container": {**settings, **container},
    }


def ask(
    site: RunningSite,
    *headers: tuple[str, str],
    source: str = FOO,
    method: str = "GET",
    path: str = PATH,
    token: str | None = SECRET,
    host: str = "",
) -> WireAnswer:
    """Return what a container's client is answered."""
    given = headers if token is None else (("Authorization", token), *headers)
    return site.caller(source).ask(method, path, *given, host=host)


def mint(site: RunningSite, *, name: str = WEB, life: int = 60, networks: tuple[Any, ...] = ()) -> str:
    """Return a token under the site's own keys, good from loopback unless `networks` say otherwise."""
    end = int(site.clock.read_wall()) + life
    return WorkloadTokens(WORKLOAD_TOKEN_KEYS).issue(Claims(name, networks or LOOPBACK, end))


def assert_error(answer: WireAnswer, status: int, code: str) -> None:
    """Check for an error as ECS gives it: JSON whose code and message tell no more than the status."""
    assert (answer.status, answer.header("Content-Type")) == (status, "application/json")
    assert answer.header("Cache-Control") == "no-store"
    body = json.loads(answer.body)
    assert list(body) == ["code", "message"]
    assert body["code"] == code


def assert_nobody_was_asked(site: RunningSite, sts: LittleSts) -> None:
    """Check that neither STS nor a provider has been asked, nor the audit written."""
    assert sts.calls == []
    assert site.do(lambda: sum(broker.size for broker in site.site.brokers.values())) == 0
    assert site.do(lambda: site.site.decisions.identities.size) == 0
    assert site.audit_records() == []


# --- what is answered ------------------------------------------------------------------------------


def test_credentials(site: RunningSite, sts: LittleSts) -> None:
    """All the keys of ECS's endpoint, EKS's account id, the end as the SDKs read it; never to be stored."""
    answer = ask(site)
    (issued,) = sts.issued
    expiration = json.loads(answer.body)["Expiration"]
    assert expiration.endswith("Z")
    assert json.loads(answer.body) == {
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{FOO_ROLE}",
        "AccessKeyId": issued.access_key,
        "SecretAccessKey": issued.secret_key,
        "Token": issued.session_token,
        "Expiration": expiration,
        "AccountId": ACCOUNT,
    }
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json")
    assert answer.header("Cache-Control") == "no-store"
    (record,) = site.audit_records()
    assert (record["caller"], record["name"], record["expiration"]) == (FOO, FOO_NAME, expiration)


def test_one_call_for_all(site: RunningSite, sts: LittleSts) -> None:
    """The same keys for each request of the same caller, by secret or by token: STS is asked once."""
    answers = {ask(site).body, ask(site).body, ask(site, token=mint(site)).body}
    assert len(answers) == len(sts.calls) == 1
    ask(site, source=BAR)
    assert len(sts.calls) == 2


def test_the_metadata_listener_shares_them(start_site: StartSite, folder: Path, sts: LittleSts) -> None:
    """Where the address decides, a machine's containers have the machine's own credentials."""
    site = start_site(listen=[listener(folder), {"address": "127.0.0.1:0", "imds_v1": True}])
    key = json.loads(ask(site).body)["AccessKeyId"]
    roles = "/latest/meta-data/iam/security-credentials/"
    assert json.loads(site.caller(FOO, listener=1).get(roles + FOO_ROLE, None).body)["AccessKeyId"] == key
    assert len(sts.calls) == 1
    assert site.caller(FOO, listener=1).get(PATH, None).status == 404
    assert ask(site, path=roles).status == 404


@pytest.mark.parametrize(
    "path", [PATH, "/v1/credentials/", "//v1//credentials", "/v1/credentials?id=1", "/v1/%63redentials"]
)
def test_spellings_of_the_path(path: str, site: RunningSite) -> None:
    """Repeated and last slashes don't matter, a query is ignored."""
    assert ask(site, path=path).status == 200


def test_a_path_of_ones_own(start_site: StartSite, folder: Path) -> None:
    """`path` is where they are, and nowhere else."""
    site = start_site(listen=[listener(folder, path="/v2/creds/web")])
    assert [ask(site, path=path).status for path in ("/v2/creds/web", PATH, "/v2/creds")] == [200, 404, 404]


@pytest.mark.parametrize(
    "host", ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1:80", "localhost"]
)
def test_hosts(host: str, site: RunningSite) -> None:
    """Clients name the addresses of ECS and EKS even when the packets end elsewhere."""
    assert ask(site, host=host).status == 200


def test_without_a_token(start_site: StartSite, sts: LittleSts) -> None:
    """`token: false`: the address is enough, and whatever is shown does not matter."""
    site = start_site(listen=[listener(None, token=False)])
    assert [ask(site, token=None).status, ask(site, token="anything").status] == [200, 200]
    assert ask(site, token=None, source=FOREIGN).status == 403
    assert len(sts.calls) == 1


def test_head(site: RunningSite, sts: LittleSts) -> None:
    """HEAD starts nothing: it says what is known, which is nothing at first."""
    assert ask(site, method="HEAD").status == 503
    assert_nobody_was_asked_but_sized(site, sts)
    whole = ask(site)
    head = ask(site, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.header("Content-Length") == str(len(whole.body))


def assert_nobody_was_asked_but_sized(site: RunningSite, sts: LittleSts) -> None:
    """Check that nothing was started; that a caller is known by its address costs nothing."""
    assert sts.calls == []
    assert site.do(lambda: site.site.decisions.identities.size) == 0
    assert site.audit_records() == []


# --- who is turned away ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "x",
        SECRET[:-1],
        SECRET + "x",
        SECRET.upper(),
        f"Bearer {SECRET}",
        f"{SECRET}, {SECRET}",
        "é" * 20,
    ],
)
def test_no_good_token(token: str | None, site: RunningSite, sts: LittleSts) -> None:
    """401 for whoever shows none or another, and nobody is asked on their account."""
    assert_error(ask(site, token=token), 401, "Unauthorized")
    assert_nobody_was_asked(site, sts)


def test_two_tokens(site: RunningSite, sts: LittleSts) -> None:
    """Two headers say nothing, whichever of them is good, equal ones too."""
    for second in ("x", SECRET):
        assert_error(ask(site, ("authorization", second)), 401, "Unauthorized")
    assert_nobody_was_asked(site, sts)


def test_tokens_that_are_not_good(site: RunningSite, sts: LittleSts) -> None:
    """A token that has ended, one for another network, one of another key, one of the key of IMDS tokens, an
    IMDS token: 401.
    """
    foreign = WorkloadTokens([b"o" * 32]).issue(Claims(WEB, LOOPBACK, int(site.clock.read_wall()) + 60))
    imds = site.do(lambda: site.site.tokens.issue(ip_address(FOO), 60, site.clock.read_wall()))
    shared = WorkloadTokens(TOKEN_KEYS).issue(Claims(WEB, LOOPBACK, int(site.clock.read_wall()) + 600))
    ended = mint(site, life=60)
    elsewhere = mint(site, networks=(ip_network(f"{BAR}/32"),))
    site.clock.ahead += 61
    for token in (foreign, shared, imds, ended, elsewhere):
        assert_error(ask(site, token=token), 401, "Unauthorized")
    assert_nobody_was_asked(site, sts)
    assert ask(site, token=mint(site, networks=(ip_network(f"{BAR}/32"),)), source=BAR).status == 200


def test_a_token_that_was_taken_back(
    start_site: StartSite, folder: Path, sts: LittleSts, caplog: pytest.LogCaptureFixture
) -> None:
    """An id in `tokens.revoked` ends its token at the reload, on an open connection too, and it alone."""
    site = start_site(listen=[listener(folder)])
    taken_back, kept = mint(site), mint(site)
    assert [ask(site, token=token).status for token in (taken_back, kept)] == [200, 200]
    caller = site.caller(FOO)
    with caller.connected() as connection:
        request = caller.render("GET", PATH, ("Authorization", taken_back))
        connection.send(request)
        assert connection.read_answer().status == 200
        site.replace(site_settings(sts, listen=[listener(folder)], tokens={"revoked": [id_of(taken_back)]}))
        records, calls = len(site.audit_records()), len(sts.calls)
        connection.send(request)
        assert_error(connection.read_answer(), 401, "Unauthorized")
    assert_error(ask(site, token=taken_back, source=BAR), 401, "Unauthorized")
    assert (len(site.audit_records()), len(sts.calls)) == (records, calls)
    assert site.do(lambda: sum(broker.size for broker in site.site.brokers.values())) == 0
    assert site.metrics.refusals.counts["revoked_token",] == 2
    assert ask(site, token=kept).status == 200
    assert taken_back not in caplog.text


def test_tokens_from_anywhere(start_site: StartSite, folder: Path, sts: LittleSts) -> None:
    """One that says no network counts only with `tokens.any_network`."""
    site = start_site(listen=[listener(folder)])
    claims = Claims(WEB, (), int(site.clock.read_wall()) + 60)
    token = WorkloadTokens(WORKLOAD_TOKEN_KEYS, any_network=True).issue(claims)
    assert_error(ask(site, token=token), 401, "Unauthorized")
    assert_nobody_was_asked(site, sts)
    site.replace(site_settings(sts, listen=[listener(folder)], tokens={"any_network": "true"}))
    assert ask(site, token=token).status == 200


def test_tokens_of_the_old_kind(
    start_site: StartSite, folder: Path, sts: LittleSts, caplog: pytest.LogCaptureFixture
) -> None:
    """They count until the day that the settings name. Each is counted, its workload named once an hour."""
    wall = datetime.now(UTC)
    day = datetime.combine(wall.date() + timedelta(days=1), time(), UTC)
    site = start_site(listen=[listener(folder)], tokens={"old_workload_tokens_until": f"{day:%Y-%m-%d}"})
    site.clock.freeze()
    claims = Claims(WEB, (), int(day.timestamp()) + 86400)
    token = issue_old_token(TOKEN_KEYS[0], claims)

    def seen() -> tuple[int, int]:
        warnings = caplog.text.count(f"the token of {WEB}, shown from {FOO}, is of the old kind")
        return warnings, site.metrics.old_workload_tokens.counts[()]

    assert ask(site, token=issue_old_token(WORKLOAD_TOKEN_KEYS[0], claims)).status == 401
    assert_nobody_was_asked(site, sts)
    assert [ask(site, token=token).status for _ in range(3)] == [200, 200, 200]
    assert seen() == (1, 3)
    site.clock.ahead = 3601
    site.clock.freeze_wall(wall.timestamp() - 3601)  # an hour later, and no later by the calendar
    assert ask(site, token=token).status == 200
    assert seen() == (2, 4)
    calls = len(sts.calls)
    site.clock.freeze_wall(day.timestamp() - 3601)
    assert_error(ask(site, token=token), 401, "Unauthorized")
    assert (seen(), len(sts.calls)) == ((2, 4), calls)
    assert token not in caplog.text


def test_a_past_day_ends_old_tokens_at_once(start_site: StartSite, folder: Path, sts: LittleSts) -> None:
    """Who fears for the shared key names a day that is over."""
    site = start_site(listen=[listener(folder)], tokens={"old_workload_tokens_until": "2026-01-01"})
    end = int(site.clock.read_wall()) + 86400
    assert_error(
        ask(site, token=issue_old_token(TOKEN_KEYS[0], Claims(WEB, LOOPBACK, end))), 401, "Unauthorized"
    )
    assert_nobody_was_asked(site, sts)


def test_who_is_let_in(site: RunningSite, sts: LittleSts) -> None:
    """A peer outside `callers`, a foreign Host, a forwarding header: 403, empty, with a good token too."""
    answers = [
        ask(site, source=OUTSIDE),
        ask(site, host="attacker.example"),
        ask(site, path="http://attacker.example" + PATH),
        *(ask(site, (name, "10.0.0.5")) for name in ("X-Forwarded-For", "Forwarded", "Via")),
    ]
    assert [(answer.status, answer.body) for answer in answers] == [(403, b"")] * 6
    assert_nobody_was_asked(site, sts)


@pytest.mark.parametrize(
    "path", ["/", "/v1", PATH + "/x", "/V1/credentials", "/latest/api/token", "/v1%2Fcredentials"]
)
def test_other_paths(path: str, site: RunningSite, sts: LittleSts) -> None:
    """404, whatever is shown; there is no metadata here, and no IMDS token."""
    for method, token in (("GET", SECRET), ("GET", None), ("PUT", SECRET)):
        assert_error(ask(site, path=path, method=method, token=token), 404, "NotFound")
    assert_nobody_was_asked(site, sts)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(method: str, site: RunningSite, sts: LittleSts) -> None:
    """405 with what is allowed, before the token is looked at."""
    for token in (SECRET, None):
        answer = ask(site, method=method, token=token)
        assert_error(answer, 405, "MethodNotAllowed")
        assert answer.header("Allow") == "GET, HEAD"
    assert_nobody_was_asked(site, sts)


def test_the_order(start_site: StartSite, folder: Path) -> None:
    """403 before 503 before 404 before 405 before 401."""
    site = start_site(listen=[listener(folder)], limits={"requests_per_second": 1})
    site.clock.freeze()

    def status(method: str, path: str, *headers: tuple[str, str]) -> int:
        return ask(site, *headers, method=method, path=path, token="bad").status

    assert status("GET", PATH) == 401  # takes this second's request
    assert status("DELETE", "/x", ("Via", "1.1 x")) == 403
    assert status("DELETE", "/x") == 503
    for method, path, expected in (("DELETE", "/x", 404), ("DELETE", PATH, 405), ("GET", PATH, 401)):
        site.clock.ahead += 1
        assert status(method, path) == expected


# --- the verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [FOREIGN, DENIED])
def test_refused(source: str, site: RunningSite, sts: LittleSts) -> None:
    """A caller without a grant gets 403 and no reason; the audit has it."""
    assert_error(ask(site, source=source), 403, "AccessDenied")
    (record,) = site.audit_records()
    assert (record["caller"], record["outcome"]) == (source, "refused")
    assert sts.calls == []


def test_trouble(site: RunningSite, sts: LittleSts) -> None:
    """503 while DNS fails, which clients ask again; the audit says why."""
    assert_error(ask(site, source=NAMELESS), 503, "ServiceUnavailable")
    (record,) = site.audit_records()
    assert record["outcome"] == "trouble"
    assert sts.calls == []


def test_refused_by_sts(site: RunningSite, sts: LittleSts) -> None:
    """A role that can't be assumed: 403, and none of what STS says of it."""
    sts.refuse(403, "AccessDenied")
    answer = ask(site)
    assert_error(answer, 403, "AccessDenied")
    assert FOO_ROLE not in answer.text


# --- workloads -------------------------------------------------------------------------------------


@pytest.fixture
def shared_host(start_site: StartSite, folder: Path) -> RunningSite:
    """Return a site where the workload decides: all its containers come from one address."""
    write(folder, "db.pods.example", "a-secret-of-the-workload-db")
    grants = [
        {"workloads": ["web.pods.example"], "account": "main", "role": "web-role"},
        {"workloads": ["db.pods.example"], "account": "main", "role": "db-role"},
        {"account": "main", "role": "host-role"},
    ]
    return start_site(
        listen=[listener(folder, identity="workload"), {"address": "127.0.0.1:0", "imds_v1": True}],
        providers={"here": {"type": "simple", "grants": grants}},
        deny=["old.pods.example"],
    )


def test_two_workloads_at_one_address(shared_host: RunningSite, sts: LittleSts) -> None:
    """Each has its own role, keys, session and record, in whatever order they ask, on one connection too."""
    with shared_host.caller(FOO).connected() as connection:

        def fetch(token: str) -> dict[str, str]:
            connection.send(shared_host.caller(FOO).render("GET", PATH, ("Authorization", token)))
            found: dict[str, str] = json.loads(connection.read_answer().body)
            return found

        web, db = fetch(SECRET), fetch("a-secret-of-the-workload-db")
        again = fetch(mint(shared_host)), fetch(mint(shared_host, name="db.pods.example"))
    assert [one["RoleArn"].rpartition("/")[2] for one in (web, db)] == ["web-role", "db-role"]
    assert again == (web, db)
    assert len(sts.calls) == 2
    assert {call["RoleSessionName"] for call in sts.calls} == {WEB, "db.pods.example"}
    names = [(one["caller"], one["name"], one["access_key_id"]) for one in shared_host.audit_records()]
    assert names == [(FOO, WEB, web["AccessKeyId"]), (FOO, "db.pods.example", db["AccessKeyId"])]


def test_the_host_is_no_workload(shared_host: RunningSite) -> None:
    """The same address at a metadata listener has the role of the host, and none of the workloads'."""
    ask(shared_host)
    roles = "/latest/meta-data/iam/security-credentials/"
    assert shared_host.caller(FOO, listener=1).get(roles, None).text == "host-role"


@pytest.mark.parametrize("name", ["old.pods.example", "new.pods.example"])
def test_a_workload_without_a_grant(name: str, shared_host: RunningSite, sts: LittleSts) -> None:
    """A denied workload and an unknown one are refused on record, each by its own name."""
    assert_error(ask(shared_host, token=mint(shared_host, name=name)), 403, "AccessDenied")
    (record,) = shared_host.audit_records()
    assert (record["name"], record["outcome"]) == (name, "refused")
    assert sts.calls == []


def test_a_denied_workload_where_the_address_decides(
    start_site: StartSite, folder: Path, sts: LittleSts
) -> None:
    """Its token and its secret open no door any more."""
    site = start_site(listen=[listener(folder)], deny=[WEB])
    assert_error(ask(site), 401, "Unauthorized")
    assert_error(ask(site, token=mint(site)), 401, "Unauthorized")
    assert_nobody_was_asked(site, sts)
    assert ask(site, token=mint(site, name="db.pods.example")).status == 200


# --- while it runs ---------------------------------------------------------------------------------


def test_secrets_change(site: RunningSite, folder: Path) -> None:
    """A secret that is added or taken out counts without a reload."""
    assert ask(site).status == 200
    write(folder, WEB, "another-secret-of-the-workload-web")
    write(folder, "db.pods.example", "a-secret-of-the-workload-db")
    site.clock.ahead += 2
    assert [ask(site, token=one).status for one in (SECRET, "another-secret-of-the-workload-web")] == [
        401,
        200,
    ]
    (folder / WEB).chmod(0o644)
    site.clock.ahead += 2
    assert ask(site, token="another-secret-of-the-workload-web").status == 401
    assert ask(site, token="a-secret-of-the-workload-db").status == 200


def test_without_the_folder(site: RunningSite, folder: Path, sts: LittleSts) -> None:
    """Whose a secret is can't be told: 503, not 401; what we have signed needs no folder."""
    folder.rename(folder.parent / "away")
    assert_error(ask(site), 503, "ServiceUnavailable")
    assert_nobody_was_asked(site, sts)
    assert ask(site, token=mint(site)).status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
@pytest.mark.parametrize("is_above", [False, True])
def test_a_folder_that_others_can_change(
    is_above: bool, site: RunningSite, folder: Path, sts: LittleSts
) -> None:
    """A secret counts for nobody while another user owns the folder, or one that leads there."""
    os.chown(folder.parent if is_above else folder, 4242, 0)
    assert_error(ask(site), 503, "ServiceUnavailable")
    assert_nobody_was_asked(site, sts)
    os.chown(folder.parent if is_above else folder, 0, 0)
    site.clock.ahead += 2
    assert ask(site).status == 200


def test_a_reload(site: RunningSite, folder: Path, sts: LittleSts) -> None:
    """Another configuration decides from the next request on; the credentials stay."""
    assert ask(site).status == 200
    site.replace(site_settings(sts, listen=[listener(folder, path="/new")]))
    assert [ask(site).status, ask(site, path="/new").status] == [404, 200]
    assert len(sts.calls) == 1


def test_counted(site: RunningSite) -> None:
    """Requests count under `container`, those for other paths under `unknown`."""
    for path, token in ((PATH, SECRET), (PATH, "x"), ("/x", SECRET)):
        ask(site, path=path, token=token)
    counts = {(str(path), status): n for (path, status), n in site.metrics.requests.counts.items()}
    assert counts == {("container", 200): 1, ("container", 401): 1, ("unknown", 404): 1}
