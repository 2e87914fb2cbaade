"""The world of a client: AWS, the receiving S3, a machine with the metadata addresses, the daemon on it.

The machine is a network namespace that owns all metadata addresses and reaches nothing else; the
daemon listens on that address alone which belongs to the mode. A client that asks elsewhere is refused.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tests.conformance.clients import Works
from tests.conformance.modes import Mode
from tests.conformance.probes import running_probe
from tests.conformance.relay import relayed
from tests.conformance.s3 import running_s3
from tests.standins.aws_process import running_aws
from tests.standins.daemon import REGION, ROLE_PREFIX, running_daemon, settings_for
from tests.standins.processes import bare_environment
from tests.system.lab.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.conformance.clients import Client
    from tests.conformance.probes import Probe
    from tests.conformance.s3 import S3
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

ACCOUNT = "000123456789"
ROLE = f"{ROLE_PREFIX}tuvfoo"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
BUCKET = "conformance-objects"
KEY = f"{ROLE}/hello.txt"
BODY = f"hello from {ACCOUNT}/{ROLE}"
FOREIGN_ROLE = f"{ROLE_PREFIX}berbar"

IMDS, IMDS_V6, CONTAINERS = "169.254.169.254", "fd00:ec2::254", "169.254.170.2"
TOKEN = "token-of-this-workload"
CONTAINER_PATH = "/v1/credentials"


@dataclass(frozen=True)
class Place:
    """Where the daemon listens in a mode, and who the client there is taken for."""

    listen: str
    caller: str
    """The client's address: whoever asks an address of its own machine has that very address."""
    host: str
    """The caller's name; it becomes the session's."""


_ON_LOOPBACK = Place("127.0.0.1:0", "127.0.0.1", "tuvfoo41.valid.example")
_ON_IMDS = Place(f"{IMDS}:80", IMDS, "tuvfoo42.valid.example")
PLACES: Mapping[Mode, Place] = {
    Mode.NAMESPACE: _ON_IMDS,
    Mode.NAMESPACE_NO_REGION: _ON_IMDS,
    Mode.V1: _ON_IMDS,
    Mode.IPV6: Place(f"[{IMDS_V6}]:80", IMDS_V6, "tuvfoo43.valid.example"),
    Mode.CONTAINER_RELATIVE: Place(f"{CONTAINERS}:80", CONTAINERS, "tuvfoo44.valid.example"),
    Mode.ENDPOINT: _ON_LOOPBACK,
    Mode.CONTAINER_TOKEN: _ON_LOOPBACK,
    Mode.CONTAINER_TOKEN_FILE: _ON_LOOPBACK,
}
CONTAINER_MODES = frozenset({Mode.CONTAINER_TOKEN, Mode.CONTAINER_TOKEN_FILE, Mode.CONTAINER_RELATIVE})


_USUAL = Works()


class Reachable(Protocol):
    """A daemon, or a way to one."""

    addresses: list[str]

    @property
    def endpoint(self) -> str:
        """The first address as a URL."""


@dataclass(frozen=True)
class World:
    """AWS and S3 outside, the machine with its addresses inside."""

    aws: Aws
    s3: S3
    namespace: Namespace

    def settings(
        self, mode: Mode, folder: Path, works: Works = _USUAL, **sections: object
    ) -> dict[str, object]:
        """Return the daemon's settings for a mode and what a client needs in it.

        `sections` replace whole sections.
        """
        place = PLACES[mode]
        address = f"{place.caller}:{works.port}" if works.port else place.listen
        listener: dict[str, object] = {"address": address, "callers": [place.caller]}
        if mode is Mode.V1:
            listener["imds_v1"] = True
        listener |= works.listener
        if mode in CONTAINER_MODES:
            listener["container"] = {"path": CONTAINER_PATH} | _container_keys(works, place.host, folder)
        whole = {
            "listen": [listener],
            "hosts": {place.caller: place.host},
            "admin": {"address": "127.0.0.1:0"},
        }
        return settings_for(self.aws, **(whole | sections))

    @contextmanager
    def running_daemon(
        self,
        mode: Mode,
        folder: Path,
        works: Works = _USUAL,
        *,
        name: str = "imds-proxy",
        environment: Mapping[str, str] | None = None,
        **sections: object,
    ) -> Iterator[Daemon]:
        """Run a daemon with empty caches for a mode (see `settings`). Its files go into `folder`."""
        settings = self.settings(mode, folder, works, **sections)
        with ExitStack() as stack:
            with self.namespace.entered():
                daemon = stack.enter_context(
                    running_daemon(settings, folder, name=name, environment=environment)
                )
            yield daemon

    def environment(self, client: Client, mode: Mode, daemon: Reachable, folder: Path) -> dict[str, str]:
        """Return all that the client's program finds in its environment; HOME is an empty folder."""
        cell = client.modes[mode]
        works = cell if isinstance(cell, Works) else _USUAL
        home = folder / "home"
        home.mkdir(exist_ok=True)
        host, _, port = daemon.addresses[0].rpartition(":")
        token_file = folder / "token"
        token_file.write_text(TOKEN)
        parts = {
            "endpoint": daemon.endpoint,
            "host": host,
            "port": port,
            "region": REGION,
            "token_file": str(token_file),
        }
        variables = _variables(mode, daemon, token_file) | {
            name: value.format_map(parts) for name, value in works.environment.items()
        }
        kept = {name: value for name, value in variables.items() if name not in works.without}
        return bare_environment(
            {
                "HOME": str(home),
                "S3_ENDPOINT": self.s3.endpoint,
                "S3_BUCKET": BUCKET,
                "S3_KEY": KEY,
                **kept,
            }
        )

    @contextmanager
    def running_probe(
        self,
        client: Client,
        mode: Mode,
        command: Sequence[str],
        daemon: Daemon,
        folder: Path,
        extra: Mapping[str, str] | None = None,
    ) -> Iterator[Probe]:
        """Run a client's program (what its `prepare` returned) where it finds the daemon by this mode."""
        environment = {**self.environment(client, mode, daemon, folder), **(extra or {})}
        home = folder / "home"
        with ExitStack() as stack:
            with self.namespace.entered():
                probe = stack.enter_context(
                    running_probe(command, environment, home, folder / "probe.stderr")
                )
            yield probe


def _container_keys(works: Works, workload: str, folder: Path) -> dict[str, object]:
    wanted = works.listener.get("container")
    if isinstance(wanted, dict):
        return wanted
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    secret = secrets / workload
    secret.touch(mode=0o600)
    secret.write_text(f"{TOKEN}\n")
    return {"secrets": str(secrets)}


def _variables(mode: Mode, daemon: Reachable, token_file: Path) -> dict[str, str]:
    variables: dict[str, str] = {}
    if mode is not Mode.NAMESPACE_NO_REGION:
        variables |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}  # botocore reads the second alone
    if mode is Mode.ENDPOINT:
        variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"{daemon.endpoint}/"
    if mode is Mode.IPV6:
        variables["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "IPv6"
    if mode is Mode.CONTAINER_RELATIVE:
        variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = CONTAINER_PATH
    elif mode in CONTAINER_MODES:
        variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = daemon.endpoint + CONTAINER_PATH
    if mode is Mode.CONTAINER_TOKEN_FILE:
        variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(token_file)
    elif mode in CONTAINER_MODES:
        variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = TOKEN
    return variables


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """Run AWS and S3, and make the namespace; all of it goes at the end of the block.

    Raises CommandError or FileNotFoundError where namespaces can't be had. Nothing is tried without: many
    a machine reaches somebody's metadata service, and a client that is told to ask elsewhere may not obey.
    """
    with ExitStack() as stack:
        namespace = Namespace.make("conformance")
        stack.callback(namespace.remove)
        namespace.configure(
            f"address add {IMDS}/32 dev lo",
            f"address add {CONTAINERS}/32 dev lo",
            f"address add {IMDS_V6}/128 dev lo nodad",
        )
        aws = stack.enter_context(running_aws(folder))
        aws.add_roles(ROLE, FOREIGN_ROLE)
        s3 = stack.enter_context(running_s3(aws.issued))
        s3.put(BUCKET, KEY, BODY, ROLE_ARN)
        ports = [urlsplit(url).port for url in (aws.url, s3.endpoint)]
        stack.enter_context(relayed(namespace, *(port for port in ports if port is not None)))
        yield World(aws, s3, namespace)
