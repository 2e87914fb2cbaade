"""The daemon on the server itself: its programs find their role where EC2 has it, by IPv4 and by IPv6.

The server is a network namespace that owns the metadata addresses on its loopback, as docs/imds.md says
it; a container is another namespace, whose default route is the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import yaml

from tests.conformance.relay import relayed
from tests.standins.aws_process import running_aws
from tests.standins.daemon import running_daemon, settings_for
from tests.standins.manual import ROOT
from tests.system.lab.machine import Machine
from tests.system.lab.namespaces import Namespace
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

pytestmark = pytest.mark.system

ACCOUNT = "123456789012"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/roleprefix-tuvfoo/tuvfoo42.valid.example"
BACKUP = "http://127.0.0.1:8080"
CONTAINER_ADDRESS, BRIDGE_ADDRESS = "172.20.0.5", "172.20.0.1"
IPV6_MODE = {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}


@dataclass(frozen=True)
class Server:
    """A server with its own daemon, a container on it, and the AWS that both reach."""

    programs: Machine
    """What runs on the server itself."""
    container: Machine
    daemon: Daemon
    aws: Aws


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of examples/this-host.yaml, with an AWS that tests can have."""
    missing = find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    folder = tmp_path_factory.mktemp("this-host")
    example = yaml.safe_load((ROOT / "examples" / "this-host.yaml").read_text())
    host, container = Namespace.make("host"), Namespace.make("container")
    try:
        host.configure(
            "address add 169.254.169.254/32 dev lo",
            "address add fd00:ec2::254/128 dev lo",
            f"link add eth0 type veth peer name eth0 netns {container.name}",
            f"address add {BRIDGE_ADDRESS}/16 dev eth0",
            "link set eth0 up",
        )
        container.configure(
            f"address add {CONTAINER_ADDRESS}/16 dev eth0",
            "link set eth0 up",
            f"route add default via {BRIDGE_ADDRESS}",
        )
        with running_aws(folder) as aws:
            aws.add_roles("roleprefix-tuvfoo", "backup-writer", account=ACCOUNT)
            settings = {**settings_for(aws), **{key: example[key] for key in example if key != "aws"}}
            del settings["dns"]  # nobody is asked
            port = urlsplit(aws.url).port
            assert port is not None
            with relayed(host, port), host.entered(), running_daemon(settings, folder) as daemon:
                yield Server(
                    Machine(host, "169.254.169.254", "fd00:ec2::254"),
                    Machine(container, CONTAINER_ADDRESS, "::"),
                    daemon,
                    aws,
                )
    finally:
        container.remove()
        host.remove()


@pytest.mark.parametrize("environment", [{}, IPV6_MODE], ids=["IPv4", "IPv6"])
def test_boto3_finds_the_host_s_role(environment: dict[str, str], server: Server) -> None:
    """Unmodified boto3 on the server is the server by its name, by both address families."""
    result = server.programs.run_boto3(server.aws.url, environment)
    assert (result.method, result.arn) == ("iam-role", SESSION)


def test_another_listener_of_the_same_daemon(server: Server) -> None:
    """The backup, told where to ask, has a role of its own; without being told it is the host like all."""
    result = server.programs.run_boto3(server.aws.url, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": BACKUP})
    assert result.arn.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/backup-writer/")
    assert server.programs.list_role().body == "roleprefix-tuvfoo"


def test_a_container_of_the_host_is_not_the_host(server: Server) -> None:
    """What has a network of its own reaches the address, under its own, and is turned away."""
    assert server.container.ask_token().status == 403
    claimed = {"X-Forwarded-For": "169.254.169.254"}
    assert server.container.ask_token(headers=claimed).status == 403


def test_the_neighbours_reach_nothing_else(server: Server) -> None:
    """The listeners are on loopback's addresses alone: the host's own address has nobody who answers."""
    done = server.container.namespace.run(
        "curl", "--silent", "--max-time", "5", f"http://{BRIDGE_ADDRESS}/", check=False
    )
    assert done.returncode == 7  # could not connect
