"""IPv6 callers: temporary addresses as a real kernel makes them, link-local ones, boto3 with a mode alone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.lab.advertisement import advertise
from tests.system.lab.gateway import CALLERS, make_listener, make_settings
from tests.system.lab.machine import METADATA_V6
from tests.system.lab.namespaces import CommandError
from tests.system.verdicts import PROBAR, TUVFOO, assert_granted, assert_refused

if TYPE_CHECKING:
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine
    from tests.system.lab.namespaces import Namespace

pytestmark = pytest.mark.system

IPV6_MODE = {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}
PREFIX = "fd77::/64"
_PATIENCE = 20.0


def addresses_of(namespace: Namespace, **wanted: object) -> list[str]:
    """Return the IPv6 addresses on `eth0` that are ready and of which `ip` says all that is wanted."""
    listed = json.loads(namespace.run("ip", "-j", "-6", "address", "show", "dev", "eth0").stdout)
    infos = [info for entry in listed for info in entry.get("addr_info", ()) if "local" in info]
    ready = [info for info in infos if not info.get("tentative")]
    return [info["local"] for info in ready if all(info.get(key) == value for key, value in wanted.items())]


def await_addresses(namespace: Namespace, **wanted: object) -> list[str]:
    """Return such addresses once there are any."""
    deadline = time.monotonic() + _PATIENCE
    while not (found := addresses_of(namespace, **wanted)):
        assert time.monotonic() < deadline, f"no address with {wanted}"
        time.sleep(0.1)
    return found


def source_of(machine: Machine) -> str:
    """Return the address that the machine would ask from."""
    done = machine.namespace.run("ip", "-j", "-6", "route", "get", "fd00:ec2::254")
    (route,) = json.loads(done.stdout)
    return str(route["prefsrc"])


def make_private(lab: Laboratory, gateway: Gateway) -> tuple[Machine, str, str]:
    """Return a machine that prefers temporary addresses, its stable address and its temporary one.

    The kernel makes both from a router advertisement (RFC 4862, RFC 8981), besides its static one.
    """
    machine = lab.make_machine(gateway)
    (link_local,) = await_addresses(machine.namespace, scope="link")
    await_addresses(
        gateway.namespace, scope="link"
    )  # without one of its own, what it sends is no advertisement
    machine.namespace.run("sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/eth0/use_tempaddr")
    advertise(gateway.namespace, link_local, PREFIX)
    (temporary,) = await_addresses(machine.namespace, temporary=True)
    (stable,) = [
        address
        for address in await_addresses(machine.namespace, mngtmpaddr=True)
        if address not in {temporary, machine.address_v6}
    ]
    return machine, stable, temporary


def test_a_temporary_address(lab: Laboratory, gateway: Gateway) -> None:
    """A machine whose own address has a name asks from a temporary one, which has none: refused, and the
    reason and `explain` say what to do. With the route that `explain` names it is itself.
    """
    machine, stable, temporary = make_private(lab, gateway)
    lab.names.register(stable, "tuvfoo75.valid.example")
    assert source_of(machine) == temporary
    assert_refused(lab, machine, METADATA_V6)
    explained = gateway.explain(temporary)
    assert (explained.status, explained.outcome) == (1, "refused")
    assert explained.reason == "no PTR record (a temporary address? docs/imds.md#temporary-addresses)"
    (advice,) = [step for step in explained.steps if "ip -6 route add" in step]

    command = (
        advice[advice.index("ip -6") :].replace("GATEWAY", gateway.address_v6).replace("ADDRESS", stable)
    )
    machine.namespace.configure("route delete fd00:ec2::254/128")
    machine.namespace.run(*command.split())
    assert source_of(machine) == stable
    assert_granted(lab, machine, TUVFOO, "tuvfoo75.valid.example", METADATA_V6)
    result = machine.run_boto3(lab.aws.url, IPV6_MODE)
    assert result.arn.endswith(f":assumed-role/{TUVFOO}/tuvfoo75.valid.example")
    assert await_addresses(machine.namespace, temporary=True) == [temporary]


def test_a_temporary_address_of_a_static_one(lab: Laboratory, gateway: Gateway) -> None:
    """A static address with `mngtmpaddr` gets temporary ones as well; without privacy (`use_tempaddr` 0)
    they go, and the machine is itself without a route of its own.
    """
    machine = lab.make_machine(gateway)
    lab.names.register(machine.address_v6, "berbar62.valid.example")
    switch = "/proc/sys/net/ipv6/conf/eth0/use_tempaddr"
    machine.namespace.run("sh", "-c", f"echo 2 > {switch}")
    machine.namespace.configure(f"address change {machine.address_v6}/64 dev eth0 mngtmpaddr")
    (temporary,) = await_addresses(machine.namespace, temporary=True)
    assert source_of(machine) == temporary
    assert_refused(lab, machine, METADATA_V6)
    machine.namespace.run("sh", "-c", f"echo 0 > {switch}")
    machine.namespace.configure(f"address delete {temporary}/64 dev eth0")
    assert source_of(machine) == machine.address_v6
    assert_granted(lab, machine, PROBAR, "berbar62.valid.example", METADATA_V6)


def test_an_ipv4_address_needs_no_such_advice(lab: Laboratory, gateway: Gateway) -> None:
    """The reason of an IPv4 address without a PTR is as short as ever."""
    explained = gateway.explain(lab.make_machine(gateway).address)
    assert explained.reason == "no PTR record"
    assert not [step for step in explained.steps if "route" in step]


def test_a_link_local_peer(lab: Laboratory) -> None:
    """A machine without another address asks from its link-local one: 403, also with that network among
    `callers`. No name server is asked, nor AWS; the refusal is counted.
    """
    plain = make_listener("[fd00:ec2::254]:80")
    wide = {**make_listener("[::]:8006"), "callers": [*CALLERS, "fe80::/10"]}
    with lab.running_gateway(make_settings(lab.aws, listen=[plain, wide])) as gateway:
        machine = lab.make_machine(gateway)
        (link_local,) = await_addresses(machine.namespace, scope="link")
        machine.namespace.configure(f"address delete {machine.address_v6}/64 dev eth0")
        (its,) = await_addresses(gateway.namespace, scope="link")
        machine.namespace.configure(f"route replace fd00:ec2::254/128 via {its} dev eth0")
        assert source_of(machine) == link_local
        calls = lab.calls()
        for base in (METADATA_V6, "http://[fd00:ec2::254]:8006", f"http://[{its}%25eth0]:8006"):
            assert machine.ask_token(base=base).status == 403
            assert machine.ask("/latest/meta-data/", base=base).status == 403
        assert lab.calls() == calls
        with pytest.raises(CommandError):  # nobody listens there on the plain port
            machine.ask("/", base=f"http://[{its}%25eth0]")
        explained = gateway.explain(link_local)
        assert (explained.status, explained.outcome) == (1, "refused")
        assert any(step.endswith(f"{link_local} is link-local") for step in explained.steps)
