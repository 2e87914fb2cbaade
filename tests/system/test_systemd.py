"""The units of `systemd/` under a systemd that has booted: start, key, reload, hang, what does not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.system.lab.gateway import make_listener
from tests.system.lab.machine import METADATA_V6, ROLE_LIST
from tests.system.lab.unit_gateway import (
    CONFIGURATION,
    PROGRAM,
    SERVICE,
    SITE_PACKAGES,
    SOCKET,
    UnitGateway,
    unit_gateway,
)
from tests.system.verdicts import TUVFOO, assert_granted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.aws_process import AssumeRoleCall
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

AUDIT_FILE = "/var/log/imds-proxy/audit.jsonl"
LINES = 5_000

HANGING = """
import time
from imds_proxy.model import Grant
from imds_proxy.provider import Provider, ProviderSettings

class Hanging(Provider[ProviderSettings]):
    settings_model = ProviderSettings

    async def grants_for(self, caller):
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared(lab: Laboratory) -> Iterator[UnitGateway]:
    with unit_gateway(lab) as gateway:
        yield gateway


@pytest.fixture
def gateway(lab: Laboratory, shared: UnitGateway) -> Iterator[UnitGateway]:
    """The next test finds settings and key as they were, the socket open, nothing running."""
    yield shared
    shared.control("stop", check=False)
    shared.configure(shared.settings())
    shared.give_key(lab.aws)
    shared.host.run("systemctl", "reset-failed", SERVICE, SOCKET)
    shared.host.run("systemctl", "start", SOCKET)


def call_of(lab: Laboratory, name: str) -> AssumeRoleCall:
    """Return the last AssumeRole for the session of that name."""
    return [call for call in lab.calls() if call.session_name == name][-1]


def test_the_first_request_starts_the_daemon(lab: Laboratory, gateway: UnitGateway) -> None:
    """Nothing runs until somebody asks; that request is answered, and those over IPv6 as well."""
    assert gateway.state == "inactive"
    machine = lab.make_machine(gateway, "tuvfoos1.valid.example")
    assert machine.ask_token().status == 200
    assert gateway.state == "active"
    assert_granted(lab, machine, TUVFOO, "tuvfoos1.valid.example")
    pid = gateway.pid
    assert machine.ask(ROLE_LIST, token=machine.fetch_token(METADATA_V6), base=METADATA_V6).status in (
        200,
        404,
    )
    assert gateway.pid == pid
    assert "2 listeners" in gateway.status
    owner = gateway.host.run("ps", "-o", "user=", "-p", str(pid)).stdout.strip()
    assert owner.startswith("imds-pro")  # `ps` may cut it


def test_a_stopped_daemon_starts_again_when_somebody_asks(lab: Laboratory, gateway: UnitGateway) -> None:
    """`systemctl stop` ends it in good order, and a token that it gave is good with the next one."""
    machine = lab.make_machine(gateway, lab.new_name())
    token = machine.fetch_token()
    before = gateway.log
    gateway.control("stop")
    assert gateway.state == "inactive"
    assert gateway.host.show(SERVICE, "Result")["Result"] == "success"
    assert "stopping" in gateway.lines_since(before)
    assert machine.list_role(token).body == TUVFOO
    assert gateway.state == "active"


def test_the_key_comes_from_systemd(lab: Laboratory, gateway: UnitGateway) -> None:
    """The daemon can't read the key's file; STS sees that key. Another one counts after a restart."""
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    with lab.in_aws():
        other = lab.aws.add_user(
            "other-gateway", "000123456789", {"Version": "2012-10-17", "Statement": [allow]}
        )
    first = lab.make_machine(gateway, "tuvfoos3.valid.example")
    assert_granted(lab, first, TUVFOO, "tuvfoos3.valid.example")
    assert call_of(lab, "tuvfoos3.valid.example").signer == lab.aws.access_key_id
    denied = gateway.host.run(
        "runuser", "-u", "imds-proxy", "cat", "/etc/imds-proxy/aws-credentials", check=False
    )
    assert (denied.returncode, denied.stdout) == (1, "")
    gateway.give_key(other)
    gateway.control("reload")
    second = lab.make_machine(gateway, "tuvfoos4.valid.example")
    assert_granted(lab, second, TUVFOO, "tuvfoos4.valid.example")
    assert call_of(lab, "tuvfoos4.valid.example").signer == lab.aws.access_key_id
    gateway.control("restart")
    third = lab.make_machine(gateway, "tuvfoos5.valid.example")
    # The roles trust the first key's user alone: STS has seen another.
    assert third.ask(ROLE_LIST, token=third.fetch_token()).status == 404
    assert call_of(lab, "tuvfoos5.valid.example").signer == other.access_key_id
    gateway.give_key(lab.aws)
    gateway.control("restart")


def test_without_a_key_it_starts_and_says_so(lab: Laboratory, gateway: UnitGateway) -> None:
    """Machines get a TOKEN, then a 503; the log says what is missing. With key and restart all is well."""
    gateway.give_key(None)
    machine = lab.make_machine(gateway, lab.new_name())
    before = gateway.log
    token = machine.fetch_token()
    assert machine.ask(ROLE_LIST + TUVFOO, token=token).status == 503
    gateway.host.wait_for(
        lambda: gateway.find_in_log("Unable to locate credentials", before), "a word on the key"
    )
    assert gateway.state == "active"
    gateway.give_key(lab.aws)
    gateway.control("restart")
    assert machine.ask(ROLE_LIST + TUVFOO, token=token).status == 200


def test_reload_waits_for_the_new_settings(lab: Laboratory, gateway: UnitGateway) -> None:
    """When `systemctl reload` comes back the new settings are in force, in the same process."""
    machine = lab.make_machine(gateway, "tuvfoos7.valid.example")
    token = machine.fetch_token()
    assert machine.list_role(token).status == 200
    pid = gateway.pid
    gateway.configure(gateway.settings(deny=["tuvfoos7.valid.example"]))
    gateway.control("reload")
    assert machine.list_role(token).status == 404
    gateway.configure(gateway.settings())
    gateway.control("reload")
    assert machine.list_role(token).status == 200
    assert gateway.pid == pid


def test_a_faulty_file_is_told_and_changes_nothing(lab: Laboratory, gateway: UnitGateway) -> None:
    """`systemctl status` has it; machines notice nothing. The next good file clears it."""
    machine = lab.make_machine(gateway, lab.new_name())
    token = machine.fetch_token()
    pid = gateway.pid
    gateway.write(CONFIGURATION, gateway.host.read(CONFIGURATION) + "no_such_key: 1\n")
    gateway.control("reload", check=False)
    gateway.host.wait_for(
        lambda: "1 fault" in gateway.status, f"a status that says so, not {gateway.status!r}"
    )
    assert "1 fault" in gateway.host.run("systemctl", "status", SERVICE).stdout
    assert gateway.state == "active"
    assert machine.list_role(token).body == TUVFOO
    gateway.configure(gateway.settings())
    gateway.control("reload")
    assert "fault" not in gateway.status
    assert gateway.pid == pid


def test_a_faulty_file_at_the_start_is_tried_again_without_haste(
    lab: Laboratory, gateway: UnitGateway
) -> None:
    """No start, the faults in the journal, no storm of starts; repaired, it serves by itself."""
    machine = lab.make_machine(gateway, lab.new_name())
    gateway.write(CONFIGURATION, "no_such_key: 1\n")
    before = gateway.log
    assert gateway.control("start", check=False).returncode != 0
    assert "no_such_key: unknown key" in gateway.lines_since(before)
    gateway.configure(gateway.settings())
    gateway.host.wait_for(lambda: gateway.state == "active", "it serves")
    assert machine.fetch_token()
    assert gateway.lines_since(before).count("Starting ") <= 4


def test_a_hung_event_loop_is_replaced(lab: Laboratory, gateway: UnitGateway) -> None:
    """A provider that blocks the loop holds up everybody until the watchdog puts another process there."""
    gateway.host.write(f"{SITE_PACKAGES}/hanging_provider.py", HANGING)
    settings = gateway.settings()
    providers = settings["providers"]
    assert isinstance(providers, dict)
    settings["providers"] = {**providers, "hanging": {"module": "hanging_provider", "class": "Hanging"}}
    settings["listen"] = [
        make_listener("169.254.169.254:80", provider="hanging"),
        make_listener("[fd00:ec2::254]:80", provider="machines"),
    ]
    gateway.configure(settings)
    victim = lab.make_machine(gateway, lab.new_name())
    neighbour = lab.make_machine(gateway, lab.new_name())
    assert neighbour.ask_token(base=METADATA_V6).status == 200
    before, pid = gateway.log, gateway.pid
    victim.namespace.run(
        "curl", "--silent", "--max-time", "1", "--request", "PUT", "--header",
        "X-aws-ec2-metadata-token-ttl-seconds: 60", "http://169.254.169.254/latest/api/token", check=False,
    )  # fmt: skip
    gateway.host.wait_for(lambda: gateway.pid not in (0, pid), "another process")
    gateway.host.wait_for(lambda: gateway.state == "active", "it is ready")
    said = gateway.lines_since(before)
    assert "Watchdog timeout" in said
    # Where it hung, without a core dump.
    assert "Fatal Python error: Aborted" in said
    assert "in grants_for" in said
    assert "status=6/ABRT" in said
    assert "core-dump" not in said
    assert neighbour.ask_token(base=METADATA_V6).status == 200


def test_a_listener_without_its_socket_is_named(gateway: UnitGateway) -> None:
    """One that is in the configuration alone: no start, and the log names the address and what to do."""
    extra = make_listener(f"{gateway.address}:8080", provider="machines")
    settings = gateway.settings()
    listeners = settings["listen"]
    assert isinstance(listeners, list)
    gateway.configure(settings | {"listen": [*listeners, extra]})
    before = gateway.log
    assert gateway.control("start", check=False).returncode != 0
    said = gateway.lines_since(before)
    assert f"{gateway.address}:8080" in said
    assert "imds-proxy render systemd" in said
    gateway.configure(settings | {"listen": listeners[:1]})
    before = gateway.log
    gateway.control("stop", check=False)
    assert gateway.control("start", check=False).returncode != 0
    said = gateway.lines_since(before)
    assert "[fd00:ec2::254]:80" in said
    assert "imds-proxy render systemd" in said


def test_the_sockets_are_those_that_are_rendered(gateway: UnitGateway) -> None:
    """For the settings here `render systemd` gives the socket unit that a package brings."""
    rendered = "/tmp/rendered"
    gateway.host.run(PROGRAM, "render", "systemd", "--dir", rendered)
    again = gateway.host.run(PROGRAM, "render", "systemd", "--dir", rendered).stdout
    assert "written" not in again
    listens = [
        [
            line
            for line in gateway.host.read(f"{folder}/{SOCKET}").splitlines()
            if line.startswith("ListenStream=")
        ]
        for folder in (rendered, "/etc/systemd/system")
    ]
    assert listens[0] == listens[1]


def test_journald_drops_no_line_of_the_unit(gateway: UnitGateway) -> None:
    """5,000 lines at once where journald takes a hundred: with the unit's own limits all of them are kept."""
    text = gateway.host.read(f"/etc/systemd/system/{SERVICE}")
    limits = [line for line in text.splitlines() if line.startswith("LogRateLimit")]
    strict = "[Journal]\nRateLimitIntervalSec=1h\nRateLimitBurst=100\n"
    gateway.host.write("/etc/systemd/journald.conf.d/zz-strict.conf", strict)
    gateway.host.run("systemctl", "restart", "systemd-journald")

    def kept(name: str, *properties: str) -> int:
        options = [f"--property={each}" for each in properties]
        script = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done"
        gateway.host.run("systemd-run", "--quiet", "--wait", f"--unit={name}", *options, "sh", "-c", script)
        gateway.host.run("journalctl", "--sync")
        return gateway.host.journal(name).count(": line ")

    try:
        # So the question is a good one.
        assert kept("flood.service") < LINES
        assert kept("flood-with-the-unit-s.service", *limits) == LINES
    finally:
        gateway.host.run("rm", "/etc/systemd/journald.conf.d/zz-strict.conf")
        gateway.host.run("systemctl", "restart", "systemd-journald")


def test_each_key_is_in_the_file_of_the_unit(lab: Laboratory, gateway: UnitGateway) -> None:
    """Under a flood of refusals, and when the daemon is killed: each key that a machine got is on record."""
    stranger = lab.make_machine(gateway)
    token = stranger.fetch_token()
    machines = [lab.make_machine(gateway, lab.new_name()) for _ in range(5)]
    keys = []
    urls = f"for i in $(seq 400); do echo http://169.254.169.254{ROLE_LIST}role-$i-$RANDOM; done"
    curl = f"curl --silent --max-time 5 --output /dev/null --header 'X-aws-ec2-metadata-token: {token}'"
    for machine in machines:
        stranger.namespace.run("bash", "-c", f"{urls} | xargs -P 8 -n 50 {curl}", check=False)
        keys.append(machine.fetch_credentials(TUVFOO)["AccessKeyId"])
    gateway.host.run("systemctl", "kill", "--signal=KILL", SERVICE)
    assert set(keys) <= set(granted_keys(gateway))
    owner = gateway.host.run("stat", "--format=%U %a", AUDIT_FILE).stdout.split()
    assert owner == ["imds-proxy", "600"]


def test_a_full_disk_below_the_unit(lab: Laboratory, gateway: UnitGateway) -> None:
    """No key goes out without its record; a machine that has one keeps it; with room again all goes on."""
    folder = AUDIT_FILE.rpartition("/")[0]
    gateway.control("stop", check=False)
    gateway.host.run("mkdir", "-p", folder)
    gateway.host.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=750", "tmpfs", folder)
    try:
        known = lab.make_machine(gateway, lab.new_name())
        keys = [known.fetch_credentials(TUVFOO)["AccessKeyId"]]
        gateway.host.run("sh", "-c", f"cat /dev/zero >{folder}/filler", check=False)
        # A few records still fit into the last page of the file.
        machine = lab.make_machine(gateway, lab.new_name())
        while (answer := machine.ask(ROLE_LIST + TUVFOO, token=machine.fetch_token())).status != 503:
            assert len(keys) < 20, "the disk is full, and keys go out"
            keys.append(json.loads(answer.body)["AccessKeyId"])
            machine = lab.make_machine(gateway, lab.new_name())
        assert known.fetch_credentials(TUVFOO)["AccessKeyId"] == keys[0]
        assert sorted(keys) == sorted(granted_keys(gateway))
        assert "No space left on device" in gateway.log
        gateway.host.run("rm", f"{folder}/filler")
        gateway.host.wait_for(
            lambda: machine.ask(ROLE_LIST + TUVFOO, token=machine.fetch_token()).status == 200, "a key"
        )
        keys.append(machine.fetch_credentials(TUVFOO)["AccessKeyId"])
        assert sorted(keys) == sorted(granted_keys(gateway))
    finally:
        gateway.control("stop", check=False)
        gateway.host.run("umount", folder)


def granted_keys(gateway: UnitGateway) -> list[str]:
    """Return the access keys of all hand-outs in the unit's audit log."""
    records = [json.loads(line) for line in gateway.host.read(AUDIT_FILE).splitlines()]
    return [record["access_key_id"] for record in records if record["outcome"] == "granted"]
