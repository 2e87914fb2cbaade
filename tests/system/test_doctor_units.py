"""imds-proxy doctor on a booted host: units as systemd has loaded them, and a key that the unit alone has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.lab.unit_gateway import PROGRAM, SERVICE, SOCKET, UnitGateway, unit_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system

UNIT_FILE = f"/etc/systemd/system/{SOCKET}"


@pytest.fixture(scope="module")
def gateway(lab: Laboratory) -> Iterator[UnitGateway]:
    """A booted gateway whose units start at boot; the rendered units and the firewall are in place."""
    with unit_gateway(lab) as gateway:
        gateway.configure(gateway.settings(network={"interfaces": ["eth0"]}))
        run(gateway, PROGRAM, "render", "systemd", "--dir", "/etc/systemd/system")
        run(gateway, PROGRAM, "render", "nftables", "--dir", "/etc/imds-proxy")
        gateway.host.namespace.run("nft", "-f", "-", stdin=run(gateway, PROGRAM, "render", "nftables"))
        run(gateway, "systemctl", "daemon-reload")
        run(gateway, "systemctl", "enable", "--now", SOCKET, SERVICE)
        yield gateway


def run(gateway: UnitGateway, *words: str) -> str:
    """Return what a program on the host writes to stdout."""
    return gateway.host.run(*words).stdout


def examine(gateway: UnitGateway, *arguments: str) -> dict[str, dict[str, Any]]:
    """Return the findings of the doctor on the host by their titles."""
    done = gateway.host.run(PROGRAM, "doctor", "--json", *arguments, check=False)
    assert (done.returncode in {0, 1}, done.stderr) == (True, "")
    return {one["title"]: one for one in json.loads(done.stdout)["findings"]}


def test_a_booted_gateway(lab: Laboratory, gateway: UnitGateway) -> None:
    """All is well: nothing has to be told where the admin socket is, and the daemon has the key."""
    machine = lab.make_machine(gateway, lab.new_name())
    found = examine(gateway, "--caller", machine.address)
    assert [one for one in found.values() if one["level"] == "fault"] == []
    for title in (SERVICE, SOCKET, "firewall", "daemon", "clock", f"role of {machine.address}"):
        assert found[title]["level"] == "ok", found[title]
    assert found["own key"]["fact"].endswith(":user/gateway (the daemon's)")
    assert "imds-proxy (pid " in found["port 169.254.169.254:80"]["fact"]


def test_before_the_first_request(gateway: UnitGateway) -> None:
    """A socket without its service is well; systemd is who listens."""
    run(gateway, "systemctl", "stop", SERVICE)
    run(gateway, "systemctl", "start", SOCKET)
    found = examine(gateway)
    run(gateway, "systemctl", "start", SERVICE)
    assert "starts with the first request" in found[SERVICE]["fact"]
    assert "systemd (pid 1)" in found["port 169.254.169.254:80"]["fact"]
    assert found["own key"]["level"] == "skipped"


def test_units_of_other_settings(gateway: UnitGateway) -> None:
    """Settings that have changed since the units were made are a fault, and mended as it says."""
    before = gateway.settings(network={"interfaces": ["eth0"]})
    listen = before["listen"]
    assert isinstance(listen, list)
    more = {**listen[0], "address": "169.254.169.254:8002"}
    gateway.configure({**before, "listen": [*listen, more]})
    found = examine(gateway)
    assert (found[SOCKET]["level"], found[SOCKET]["fact"]) == ("fault", "lacks 169.254.169.254:8002")
    assert "systemctl restart" in found[SOCKET]["remedy"]
    run(gateway, "sh", "-c", found[SOCKET]["remedy"].replace("imds-proxy render", f"{PROGRAM} render"))
    assert examine(gateway)[SOCKET]["level"] == "ok"
    gateway.configure(before)
    found = examine(gateway)
    assert found[SOCKET]["fact"] == "has 169.254.169.254:8002, which the settings lack"
    run(gateway, "sh", "-c", found[SOCKET]["remedy"].replace("imds-proxy render", f"{PROGRAM} render"))
    assert examine(gateway)[SOCKET]["level"] == "ok"


def test_files_that_systemd_has_not_read(gateway: UnitGateway) -> None:
    """A unit file that has changed since is told of until systemd reads it."""
    text = run(gateway, "cat", UNIT_FILE)
    gateway.host.write(UNIT_FILE, text + "# a word\n")
    found = examine(gateway)
    assert (found["daemon-reload"]["level"], SOCKET in found["daemon-reload"]["fact"]) == ("warning", True)
    run(gateway, "systemctl", "daemon-reload")
    assert "daemon-reload" not in examine(gateway)
