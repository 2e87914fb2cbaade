"""The audit log in the real journal of a booted host: found by its fields, once, by a daemon in a sandbox."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.system.lab.booted import booted_host, skip_unless_bootable
from tests.system.lab.gateway import make_listener, make_settings
from tests.system.lab.installed import PREFIX, InstallError, installed_daemon
from tests.system.verdicts import TUVFOO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.booted import BootedHost
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

CONFIGURATION = "/etc/imds-proxy/imds-proxy.yaml"
FILE = "/var/log/imds-proxy/audit.jsonl"
UNITS = {"-": "on-stdout.service", FILE: "on-disk.service"}
SANDBOX = (
    "Type=exec",
    "DynamicUser=yes",
    "PrivateUsers=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "SystemCallFilter=@system-service",
    "LogsDirectory=imds-proxy",
    "RuntimeDirectory=imds-proxy",
)


@pytest.fixture(scope="module")
def host(lab: Laboratory) -> Iterator[BootedHost]:
    """A booted host with the daemon installed and the metadata address."""
    skip_unless_bootable()
    try:
        layers = installed_daemon()
    except InstallError as error:
        pytest.skip(str(error))
    with booted_host(lab, *layers) as booted:
        booted.namespace.configure("address add 169.254.169.254/32 dev lo")
        # What no capability in a user namespace of its own allows.
        booted.namespace.run("sysctl", "--quiet", "--write", "net.ipv4.ip_unprivileged_port_start=80")
        yield booted


@pytest.fixture(params=["-", FILE])
def file(request: pytest.FixtureRequest, lab: Laboratory, host: BootedHost) -> Iterator[str]:
    """Run the daemon with `audit.journal`, and its file on stdout, which is the journal, or on the disk."""
    audit = {"file": request.param, "journal": True}
    settings = make_settings(lab.aws, listen=[make_listener("169.254.169.254:80")], audit=audit)
    aws = settings["aws"]
    assert isinstance(aws, dict)
    key, secret = aws.pop("access_key"), aws.pop("secret_key")
    unit = UNITS[request.param]
    host.write(CONFIGURATION, yaml.safe_dump(settings))
    start = ["systemd-run", "--quiet", f"--unit={unit}", *(f"--property={one}" for one in SANDBOX)]
    start += [f"--setenv=AWS_ACCESS_KEY_ID={key}", f"--setenv=AWS_SECRET_ACCESS_KEY={secret}"]
    host.run(*start, f"{PREFIX}/bin/imds-proxy", "serve", "--config", CONFIGURATION)
    host.wait_for(lambda: "listening 169.254.169.254:80" in host.journal(unit), "the daemon listens")
    yield request.param
    host.run("systemctl", "stop", unit)


def test_records_are_found_by_their_fields(lab: Laboratory, host: BootedHost, file: str) -> None:
    """`journalctl IMDS_CALLER=...` has what a caller got and what it did not, each once, from our unit."""
    number = 1 if file == "-" else 2
    machine = lab.make_machine(host, f"tuvfooj{number}.valid.example")
    document = machine.fetch_credentials(TUVFOO)
    stranger = lab.make_machine(host)
    stranger.list_role(stranger.fetch_token())

    def entries(*words: str) -> list[dict[str, str]]:
        found = host.run("journalctl", "--quiet", "--output=json", *words).stdout
        return [json.loads(line) for line in found.splitlines()]

    host.wait_for(lambda: bool(entries(f"IMDS_CALLER={stranger.address}")), "the stranger is on record")
    (granted,) = entries(f"IMDS_CALLER={machine.address}")
    assert granted["IMDS_ACCESS_KEY_ID"] == document["AccessKeyId"]
    assert granted["IMDS_EXPIRATION"] == document["Expiration"]
    assert (granted["IMDS_OUTCOME"], granted["PRIORITY"]) == ("granted", "6")
    assert (granted["IMDS_NAME"], granted["IMDS_ROLE"]) == (f"tuvfooj{number}.valid.example", TUVFOO)
    assert (granted["SYSLOG_IDENTIFIER"], granted["_SYSTEMD_UNIT"]) == ("imds-proxy", UNITS[file])
    assert document["SecretAccessKey"] not in json.dumps(granted)
    assert entries(f"IMDS_ACCESS_KEY_ID={document['AccessKeyId']}") == [granted]
    (refused,) = entries(f"IMDS_CALLER={stranger.address}", "IMDS_OUTCOME=refused")
    assert refused["IMDS_REASON"] == "no PTR record"
    # A line of JSON on stdout would have made each record twice.
    assert not [one for one in entries(f"_SYSTEMD_UNIT={UNITS[file]}") if one["MESSAGE"].startswith("{")]
    if file != "-":
        records = [json.loads(line) for line in host.read(file).splitlines()]
        assert [one["caller"] for one in records] == [machine.address, stranger.address]
