"""The whole laboratory: who is on which network, made once, removed whatever happens.

far machine 10.77.128.2 --- router 10.77.0.2 --- LAN 10.77.0.0/17, fd77::/64

On the LAN: the name server 10.77.0.3, AWS 10.77.0.20, gateways from 10.77.0.31 on (each owns
169.254.169.254 and fd00:ec2::254 for the machines that route through it), machines 10.77.1.*.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from itertools import count, product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Protocol

from tests.standins.aws_process import AssumeRoleCall, Aws
from tests.standins.daemon import ROLE_PREFIX
from tests.standins.processes import Child
from tests.system.lab import bind, far_side
from tests.system.lab.gateway import FOREIGN_CALLER, Gateway
from tests.system.lab.machine import Machine
from tests.system.lab.namespaces import ENVIRONMENT, Namespace, Switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

# All roles there are; `tuvfoo` is what a wrong yes would give in every case of a refusal.
_ROLES = tuple(ROLE_PREFIX + name for name in ("tuvfoo", "probar"))
_AWS_ADDRESS = "10.77.0.20"
# AppArmor lets Debian's named write below this folder and in few others.
_NAMED_FOLDER = "/var/cache/bind"


@contextmanager
def running_laboratory() -> Iterator[Laboratory]:
    """Make the laboratory; everything in it ends with the block."""
    with ExitStack() as stack:
        yield Laboratory(stack)


class Routed(Protocol):
    """What machines can route through."""

    @property
    def address(self) -> str:
        """Its own IPv4 address on the LAN."""

    @property
    def address_v6(self) -> str:
        """Its own IPv6 address on the LAN."""


class Laboratory:
    """The networks and the servers on them; makes gateways and machines."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._gateway_numbers = count(31)
        self._machine_numbers = count(1)
        self._labels = count(1)
        # Two letters: names that a test writes out end in a digit.
        self._name_endings = ("".join(pair) for pair in product(ascii_lowercase, repeat=2))
        self._machines: dict[str, Machine] = {}
        self.folder = _make_folder(stack)
        self.lan = Switch(self._make_namespace("lan"))
        self.names = self._start_name_server()
        self._aws_namespace = self._make_namespace("aws")
        self.aws = self._start_aws()
        self.far_side = far_side.FarSide(
            self.lan, self._make_namespace("router"), self._make_namespace("far")
        )

    def calls(self) -> list[AssumeRoleCall]:
        """Return every AssumeRole that AWS has seen, in the order of arrival."""
        with self.in_aws():
            return self.aws.calls()

    def in_aws(self) -> AbstractContextManager[None]:
        """Return the block in which the tests themselves can reach the AWS stand-in."""
        return self._aws_namespace.entered()

    @contextmanager
    def running_gateway(self, settings: Mapping[str, object]) -> Iterator[Gateway]:
        """Start a gateway with its daemon, which ends with the block as an operator would end it."""
        with self.gateway_namespace() as (namespace, addresses, folder):
            namespace.configure(
                "address add fd00:ec2::254/128 dev eth0 nodad", "address add 169.254.169.254/32 dev lo"
            )
            gateway = Gateway(namespace, addresses, folder, settings)
            try:
                gateway.wait_until_ready()
                yield gateway
                assert gateway.stop() == 0, gateway.log
                assert "Traceback" not in gateway.log, gateway.log
            finally:
                gateway.kill()

    @contextmanager
    def gateway_namespace(self) -> Iterator[tuple[Namespace, tuple[str, str], Path]]:
        """Make the network of a gateway without the metadata addresses, and a folder for its files.

        With the namespace come its addresses on the LAN, IPv4 first.
        """
        number = next(self._gateway_numbers)
        address, address_v6 = f"10.77.0.{number}", f"fd77::{number}"
        folder = self.folder / f"gateway{number}"
        folder.mkdir()
        namespace = self._make_namespace(f"gw{number}")
        try:
            self.lan.plug(namespace, f"{address}/17", f"{address_v6}/64")
            namespace.configure(
                f"route add {FOREIGN_CALLER} dev eth0",
                f"route add {far_side.NETWORK} via {far_side.ROUTER}",
                f"route add {far_side.NETWORK_V6} via {far_side.ROUTER_V6}",
            )
            yield namespace, (address, address_v6), folder
        finally:
            namespace.remove()

    def make_machine(self, gateway: Routed, *names: str, address: str | None = None) -> Machine:
        """Return a new machine that routes through the gateway, the names registered for its address.

        Unless the address is given it is one that no machine has had. Whoever has it now is unplugged.
        """
        address = address or f"10.77.1.{next(self._machine_numbers)}"
        if address in self._machines:
            self._machines[address].namespace.remove()
        namespace = self._make_namespace(f"m{next(self._labels)}")
        machine = self._machines[address] = Machine(namespace, address, _make_v6(address))
        self.lan.plug(namespace, f"{address}/17", f"{machine.address_v6}/64")
        namespace.configure(
            # For an address outside the LAN's network; elsewhere it changes nothing.
            f"route add {gateway.address}/32 dev eth0",
            f"route add 169.254.169.254/32 via {gateway.address}",
            f"route add fd00:ec2::254/128 via {gateway.address_v6}",
        )
        if names:
            self.names.register(address, *names)
        return machine

    def new_name(self, kind: str = "tuvfoo") -> str:
        """Return a host name of the kind in the allowed domain that no other test has or writes out."""
        return f"{kind}{next(self._name_endings)}.{bind.ALLOWED_DOMAIN}"

    def _make_namespace(self, label: str) -> Namespace:
        namespace = Namespace.make(label)
        self._stack.callback(namespace.remove)
        return namespace

    def _start_name_server(self) -> bind.NameServer:
        folder = Path(tempfile.mkdtemp(prefix="imds-", dir=_NAMED_FOLDER))
        self._stack.callback(shutil.rmtree, folder)
        namespace = self._make_namespace("names")
        self.lan.plug(namespace, f"{bind.SERVER}/17", f"{bind.SERVER_V6}/64")
        namespace.configure(
            *(f"address add {a}/17 dev eth0" for a in (bind.SILENT_SERVER, bind.CLOSED_SERVER))
        )
        namespace.filter(
            f"""
            table inet lab {{
                chain incoming {{ type filter hook input priority 0; ip daddr {bind.SILENT_SERVER} drop; }}
            }}
            """
        )
        server = bind.NameServer(namespace, folder)
        self._stack.callback(server.stop)
        server.wait_until_ready()
        return server

    def _start_aws(self) -> Aws:
        self.lan.plug(self._aws_namespace, f"{_AWS_ADDRESS}/17")
        program = [sys.executable, "-m", "tests.standins.aws", "--host", _AWS_ADDRESS]
        child = Child(
            "aws", self._aws_namespace.command(*program), folder=self.folder, environment=ENVIRONMENT
        )
        self._stack.callback(child.kill)
        (line,) = child.await_lines(r'(\{"url".*\})', on="stdout", timeout=60)
        aws = Aws(**json.loads(line))
        with self._aws_namespace.entered():
            aws.add_roles(*_ROLES)
        return aws


def _make_folder(stack: ExitStack) -> Path:
    # The path of the admin socket below it must stay within 108 bytes.
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imds-")))


def _make_v6(address: str) -> str:
    third, fourth = IPv4Address(address).packed[2:]
    return f"fd77::{third}:{fourth}"
