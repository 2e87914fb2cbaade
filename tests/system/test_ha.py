"""Two gateways behind one address: keepalived from Debian with examples/keepalived.conf, and two daemons."""

from __future__ import annotations

import base64
import shutil
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance.relay import relayed
from tests.standins.aws_process import running_aws
from tests.standins.daemon import running_daemon, settings_for
from tests.standins.manual import ROOT
from tests.standins.processes import Child
from tests.system.lab.machine import METADATA, METADATA_V6, ROLE_LIST, Machine
from tests.system.lab.namespaces import ENVIRONMENT, CommandError, Namespace, Switch
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.system

ROLE = "roleprefix-tuvfoo"
NAME = "tuvfoo42.valid.example"
PATIENCE = 60.0
"""Seconds for keepalived to move the addresses; it takes about four."""
_ADVERTISED = "169.254.169.254"


@dataclass(frozen=True)
class Gateway:
    """One of the two."""

    namespace: Namespace
    daemon: Daemon

    @property
    def is_master(self) -> bool:
        """Whether it has both metadata addresses now."""
        shown = self.namespace.run("ip", "address", "show", "dev", "eth0").stdout
        return _ADVERTISED in shown and "fd00:ec2::254" in shown


@dataclass(frozen=True)
class Pair:
    """Two gateways, a machine and AWS."""

    first: Gateway
    second: Gateway
    machine: Machine
    aws: Aws


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    missing = find_missing(("ip", "curl"))
    if shutil.which("keepalived") is None:
        missing.append("keepalived (Debian package keepalived)")
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    key = tmp_path / "token.key"
    key.touch(mode=0o600)
    key.write_bytes(base64.b64encode(bytes(range(32))) + b"\n")
    with ExitStack() as stack:

        def make(label: str) -> Namespace:
            namespace = Namespace.make(f"ha-{label}")
            stack.callback(namespace.remove)
            return namespace

        lan = Switch(make("lan"))
        aws = stack.enter_context(running_aws(tmp_path))
        aws.add_roles(ROLE)
        gateways = [_start(stack, lan, make(f"gw{number}"), number, aws, tmp_path, key) for number in (1, 2)]
        namespace = make("machine")
        lan.plug(namespace, "10.77.0.42/24", "fd77::42/64")
        namespace.configure(
            "route add 169.254.169.254/32 via 10.77.0.254",
            "route add fd00:ec2::254/128 via fe80::77:254 dev eth0",
        )
        yield Pair(gateways[0], gateways[1], Machine(namespace, "10.77.0.42", "fd77::42"), aws)


@pytest.mark.parametrize("base", [METADATA, METADATA_V6], ids=["IPv4", "IPv6"])
def test_the_other_gateway_goes_on_with_the_same_token(pair: Pair, base: str) -> None:
    """When the daemon of the one dies, the machine's token and its next request are good at the other."""
    _await_master(pair.first)
    assert not pair.second.is_master
    token = pair.machine.fetch_token(base)
    assert _ask_for_role(pair.machine, token, base) == (200, ROLE)
    (call,) = pair.aws.calls()
    assert call.session_name == NAME

    pair.first.daemon.signal(signal.SIGKILL)
    _await_master(pair.second)
    deadline = time.monotonic() + PATIENCE
    while (answer := _ask_for_role(pair.machine, token, base)) is None:
        assert time.monotonic() < deadline
    assert answer == (200, ROLE)
    # Credentials are not shared: the other one asks STS for its own, under the same session name.
    assert [call.session_name for call in pair.aws.calls()] == [NAME, NAME]
    assert not pair.first.is_master


def _start(
    stack: ExitStack, lan: Switch, namespace: Namespace, number: int, aws: Aws, folder: Path, key: Path
) -> Gateway:
    lan.plug(namespace, f"10.77.0.{number}/24", f"fd77::{number}/64")
    with namespace.entered():
        # What FreeBind= is to a socket unit: both listen, also the one that lacks the addresses now.
        Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1")
        Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
    callers = ["10.77.0.0/24", "fd77::/64"]
    settings = settings_for(
        aws,
        listen=[
            {"address": f"{host}:80", "callers": callers} for host in ("169.254.169.254", "[fd00:ec2::254]")
        ],
        hosts={"10.77.0.42": NAME, "fd77::42": NAME},
        tokens={"key_file": str(key)},
        admin={"address": "127.0.0.1:9338"},
    )
    stack.enter_context(relayed(namespace, int(aws.url.rpartition(":")[2])))
    with namespace.entered():
        daemon = stack.enter_context(running_daemon(settings, folder, name=f"daemon{number}"))
    configuration = folder / f"keepalived{number}.conf"
    example = (ROOT / "examples" / "keepalived.conf").read_text("utf-8").replace("lan0", "eth0")
    configuration.write_text(example.replace("priority 150", f"priority {200 - 50 * number}"))
    files = [f"--{kind}={folder / f'{number}.{kind}'}" for kind in ("pid", "vrrp_pid", "checkers_pid")]
    command = ["keepalived", "--dont-fork", "--log-console", f"--use-file={configuration}", *files]
    child = Child(f"keepalived{number}", namespace.command(*command), folder=folder, environment=ENVIRONMENT)
    stack.callback(child.kill)
    stack.callback(child.stop)
    return Gateway(namespace, daemon)


def _await_master(gateway: Gateway) -> None:
    deadline = time.monotonic() + PATIENCE
    while not gateway.is_master:
        assert time.monotonic() < deadline, f"{gateway.namespace.name} has not got the addresses"
        time.sleep(0.1)


def _ask_for_role(machine: Machine, token: str, base: str) -> tuple[int, str] | None:
    """Return status and body of LIST; None: no answer, which is what a machine sees while addresses move."""
    try:
        answer = machine.ask(ROLE_LIST, token=token, base=base)
    except CommandError:
        return None
    return answer.status, answer.body
