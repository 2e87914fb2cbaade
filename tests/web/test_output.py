"""What the daemon writes: at no level a secret, of no caller's making a line."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

from tests.standins.aws_process import running_aws
from tests.standins.commands import run_command
from tests.standins.daemon import running_daemon, settings_for, write_settings
from tests.standins.wire import ROLES_PATH, TOKEN_HEADER, WireCaller
from tests.web.machines import FOO_ROLE, HOSTS, caller_of, site_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts

EXTERNAL_ID = "between-us-only"


def admin_page(daemon: Daemon, path: str) -> str:
    """Return an admin page's text."""
    host, _, port = daemon.admin_url.removeprefix("http://").rpartition(":")
    return WireCaller((host, int(port))).get(path).text


def test_no_secret_at_any_level(tmp_path: Path) -> None:
    """With `log.level: debug`, after hand-outs, refusals, errors of STS, explanations and a scrape: no
    secret key, session token, IMDS token, external id or key of our own in anything written or shown.
    """
    with running_aws(tmp_path) as aws:
        aws.add_roles(FOO_ROLE, external_id=EXTERNAL_ID)
        settings = settings_for(
            aws,
            hosts=HOSTS,
            accounts={"main": {"id": "000123456789", "external_id": EXTERNAL_ID}},
            log={"level": "debug"},
            admin={"address": "127.0.0.1:0", "socket": str(tmp_path / "admin.sock")},
        )
        with running_daemon(settings, tmp_path) as daemon:
            foo = caller_of(daemon)
            token = foo.fetch_token()
            document = json.loads(foo.get(ROLES_PATH + foo.fetch_role(token), token).body)
            foo.exchange(foo.render("GET", f"/latest/{token}", ("Bad\0Header", token)))
            for source, faults in (
                ("127.0.0.3", []),
                ("127.0.0.2", [{"kind": "malformed"}]),
                ("127.0.0.66", [{"kind": "signature_mismatch"}]),
                ("127.0.0.4", [{"kind": "access_denied"}]),
            ):
                aws.set_faults(*faults)
                caller = caller_of(daemon, source)
                caller.get(ROLES_PATH, caller.fetch_token())
            aws.set_faults()
            file = tmp_path / "imds-proxy.yaml"
            shown = [
                run_command("explain", "127.0.0.1", "--assume", "--json", "--config", file),
                run_command("explain", "127.0.0.1", "--assume", "--offline", "--config", file),
                run_command("config", "--config", file),
                run_command("check", "--config", file),
            ]
            texts = [each.stdout + each.stderr for each in shown]
            texts += [admin_page(daemon, "/metrics"), admin_page(daemon, "/readyz")]
            daemon.stop()
            log, audit = daemon.log, daemon.audit_text
    assert '"outcome": "granted"' in audit
    assert "aws_secret_access_key" not in log
    secrets = (document["SecretAccessKey"], document["Token"], token, EXTERNAL_ID, aws.secret_access_key)
    for secret in secrets:
        for text in (log, audit, *texts):
            assert secret not in text


def test_callers_write_no_lines(sts: LittleSts, tmp_path: Path) -> None:
    """What a caller sends can't forge a line of the log or a record of the audit, nor make them huge."""
    with running_daemon(site_settings(sts, log={"level": "debug"}), tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        caller.fetch_role(token)
        forged = "%0Aconfiguration%20reloaded%0A%7B%22outcome%22%3A%22granted%22%7D%0A"
        for role in (forged, "%1b[31mred", "%ff%fe", "x" * 8000, "%F0%9F%94%91"):
            assert caller.get(ROLES_PATH + role, token).status in {400, 404}
        caller.get("/", None, (TOKEN_HEADER, "\x7f\x1b[31m"))
        daemon.stop()
        records = daemon.audit_records
        audit, log = daemon.audit_text, daemon.log
    assert "configuration reloaded" not in log
    assert not [record for record in records if record["outcome"] == "granted"]
    assert audit.isascii()
    assert "\x1b" not in audit + log
    assert max(map(len, audit.splitlines())) < 2000


def test_a_disk_that_is_full(sts: LittleSts, tmp_path: Path) -> None:
    """No key goes out that can't be recorded; it is said once, refusals go on, and a reload repairs it."""
    settings = site_settings(sts, audit={"file": "/dev/full"})
    with running_daemon(settings, tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        for _ in range(3):
            assert caller.get(ROLES_PATH + FOO_ROLE, token).status == 503
            assert caller.get(ROLES_PATH + "another", token).status == 404
        daemon.await_log(r"(error: audit: /dev/full: .*)")
        assert daemon.log.count("audit: /dev/full") == 1
        assert caller.get(ROLES_PATH, token).status == 503
        file = tmp_path / "audit.jsonl"
        write_settings(settings | {"audit": {"file": str(file)}}, tmp_path / "imds-proxy.yaml")
        daemon.signal(signal.SIGHUP)
        daemon.await_log(r".*(configuration reloaded)")
        wait_for_status(lambda: caller.get(ROLES_PATH + FOO_ROLE, token).status, 200)
        daemon.stop()
    granted = [json.loads(line) for line in file.read_text().splitlines() if '"granted"' in line]
    assert {record["role"] for record in granted} == {FOO_ROLE}


def wait_for_status(ask: Callable[[], int], status: int) -> None:
    end = time.monotonic() + 20
    while (found := ask()) != status:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_a_killed_daemon(sts: LittleSts, tmp_path: Path) -> None:
    """Each key that went out is on record at the moment its caller has it, whatever becomes of the daemon."""
    file = tmp_path / "audit.jsonl"
    with running_daemon(site_settings(sts, audit={"file": str(file)}), tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        document = json.loads(caller.get(ROLES_PATH + FOO_ROLE, token).body)
        records = file.read_text()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    assert [json.loads(line)["access_key_id"] for line in records.splitlines()] == [document["AccessKeyId"]]
    assert file.read_text() == records


def test_a_flood_of_refusals(sts: LittleSts, tmp_path: Path) -> None:
    """2,000 different refusals of one caller are some records and a count, and hide no hand-out."""
    file = tmp_path / "audit.jsonl"
    with running_daemon(site_settings(sts, audit={"file": str(file)}), tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        began = time.monotonic()
        statuses = [
            caller.get(f"{ROLES_PATH}role-{number}-{'x' * 300}", token).status for number in range(500)
        ]
        seconds = time.monotonic() - began
        assert caller.get(ROLES_PATH + FOO_ROLE, token).status == 200
        daemon.stop()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    denials = [record for record in records if record["outcome"] != "granted"]
    assert len(records) == len(denials) + 1
    assert len(denials) <= 10 * (seconds + 2) + 2
    refused = [record["count"] for record in denials if record["outcome"] == "refused"]
    assert sum(refused) == sum(status == 404 for status in statuses)
    assert max(len(record["error"] or "") for record in records) <= 200


def test_nobody_reads_the_output(sts: LittleSts, tmp_path: Path) -> None:
    """The audit goes to a file of its own where the settings say so, and stdout stays empty."""
    file = tmp_path / "audit.jsonl"
    with running_daemon(site_settings(sts, audit={"file": str(file)}), tmp_path) as daemon:
        caller = caller_of(daemon)
        token = caller.fetch_token()
        assert caller.get(ROLES_PATH + caller.fetch_role(token), token).status == 200
        daemon.stop()
        assert daemon.audit_text == ""
    (record,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (record["outcome"], record["role"]) == ("granted", FOO_ROLE)
    assert file.stat().st_mode & 0o007 == 0
