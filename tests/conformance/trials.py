"""All clients in one trouble, at the same time: each in a network of its own, as a caller of its own."""

from __future__ import annotations

import base64
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from tests.conformance.doors import closing_door
from tests.conformance.modes import Mode
from tests.conformance.probes import running_probe
from tests.conformance.relay import relayed
from tests.conformance.troubles import Outcome
from tests.conformance.world import BUCKET, CONTAINER_PATH, FOREIGN_ROLE, IMDS, ROLE, ROLE_ARN
from tests.standins.daemon import running_daemon, settings_for
from tests.system.lab.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.conformance.clients import Client
    from tests.conformance.doors import Address, Door
    from tests.conformance.probes import Probe
    from tests.conformance.s3 import S3, Seen
    from tests.conformance.troubles import Trouble
    from tests.conformance.world import World
    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

Item = TypeVar("Item")
Result = TypeVar("Result")

ANSWER_TIME = 60
"""Seconds that an answer may take in trouble: five times what the slowest client took."""
ASKERS = 2
"""How many clients begin at a time: more, and what they wait for is the processor."""
TRIES = 3
PAUSE = 1.5
"""How often, and how many seconds apart, a client is asked until it is served again."""

FEW_TRIES = {"RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_RETRIES": "1"}
"""rclone alone goes on for minutes: what it does besides is begin again."""

_HOUR = 3600
_FIRST_CALLER = 10
_BYSTANDER = "127.9.0.99"
_CONTAINER_PORT = 9100
_FOREIGN_ARN = ROLE_ARN.replace(ROLE, FOREIGN_ROLE)
_LISTENERS = (Mode.NAMESPACE, Mode.V1, Mode.CONTAINER_TOKEN)


@dataclass(frozen=True)
class Station:
    """A client, where it lives, and who it is."""

    client: Client
    mode: Mode
    command: Sequence[str]
    door: Door
    namespace: Namespace
    caller: str
    """Its address as the daemon sees it."""
    host: str
    """The caller's name; it becomes the session's."""
    key: str
    """The object that it reads."""

    @property
    def body(self) -> str:
        """The object's text."""
        return f"hello {self.host}"

    @property
    def wanted(self) -> str:
        """What the program answers when all is well."""
        return f"ok {self.body if self.client.reads_s3 else ROLE}"

    @property
    def token(self) -> str:
        """The workload's, for a container's client."""
        return f"token-of-{self.host}"


@dataclass
class Trial:
    """What one client did in one trouble."""

    station: Station
    answers: list[str] = field(default_factory=list)
    """While it lasted."""
    later: list[str] = field(default_factory=list)
    """Once it was over; the last is the object unless that never came."""
    slowest: float = 0
    """Seconds of the slowest answer."""
    status: int | None = None
    """With which the program ended; None: it did not end when its input did."""
    died: str = ""
    """Why it gave no answer: it ended by itself, or was silent for too long."""
    requests: list[str] = field(default_factory=list)
    """To the daemon, all in all."""
    statuses: list[str] = field(default_factory=list)
    most_at_once: int = 0
    """Requests to the daemon for one question, at most."""
    seen: list[Seen] = field(default_factory=list)
    """What S3 saw of its caller's sessions and of its object."""

    @property
    def outcome(self) -> Outcome:
        """In one word; only if it is neither a crash nor a hang."""
        if self.died:
            return Outcome.ENDED if self.died.startswith("it ended") else Outcome.SILENT
        if any(seen.outcome == "ExpiredToken" for seen in self.seen):
            return Outcome.DEAD
        if self.later[-1:] != [self.station.wanted]:
            return Outcome.NEVER
        return Outcome.SERVED if set(self.answers) == {self.station.wanted} else Outcome.LATER


@contextmanager
def stationed(world: World, clients: Sequence[tuple[Client, Mode, Sequence[str]]]) -> Iterator[list[Station]]:
    """Give each client (with its mode and command line) a network of its own for the length of the block."""
    ports = [urlsplit(url).port for url in (world.aws.url, world.s3.endpoint)]
    with ExitStack() as stack:
        stations = []
        for number, (client, mode, command) in enumerate(clients, _FIRST_CALLER):
            namespace = Namespace.make(f"faults-{number}")
            stack.callback(namespace.remove)
            namespace.configure(f"address add {IMDS}/32 dev lo")
            stack.enter_context(relayed(namespace, *(port for port in ports if port is not None)))
            near = ("127.0.0.1", _CONTAINER_PORT) if mode is Mode.CONTAINER_TOKEN else (IMDS, 80)
            caller, host = f"127.9.0.{number}", f"tuvfoo{number}.valid.example"
            door = stack.enter_context(closing_door(namespace, near, caller))
            key = f"{ROLE}/{host}.txt"
            stations.append(Station(client, mode, command, door, namespace, caller, host, key))
        yield stations


class Course:
    """The course of one trouble: it begins, clients ask, it ends, they ask again."""

    def __init__(self, trouble: Trouble, world: World, stations: Sequence[Station], folder: Path) -> None:
        self._trouble = trouble
        self._aws: Aws = world.aws
        self._s3: S3 = world.s3
        self._world = world
        self._stations = stations
        self._folder = folder
        self._clock = folder / "clock"
        self._keys_end = 0.0

    def run(self) -> dict[str, Trial]:
        """Return what each client did, by the name of its caller."""
        self._aws.reset()
        self._s3.forget_requests()
        trials = [Trial(station) for station in self._stations]
        with ExitStack() as stack:
            daemons = [self._start_daemon(stack, "one")]
            if self._trouble.is_restart:
                daemons.append(self._start_daemon(stack, "two"))
                # Whoever is the first after a start waits for boto3 to be loaded: not what is tried here.
                fetch_document(_address(daemons[-1].addresses[0]), _BYSTANDER)
            self._begin(*daemons)
            probes = self._in_parallel(lambda trial: self._ask_in_trouble(trial, stack), trials)
            if self._trouble.outlives_keys:
                time.sleep(max(0.0, self._keys_end - time.time()) + 1)
                self._in_parallel(lambda pair: self._ask(*pair), self._alive(trials, probes))
            self._end(daemons[-1])
            self._in_parallel(lambda pair: self._ask_until_served(*pair), self._alive(trials, probes))
        for trial in trials:
            self._collect(trial)
        return {trial.station.host: trial for trial in trials}

    # --- the daemon --------------------------------------------------------------------------------

    def _start_daemon(self, stack: ExitStack, name: str) -> Daemon:
        environment: Mapping[str, str] = {}
        if self._trouble.seconds_left is not None:
            self._clock.write_text(f"{self._trouble.seconds_left - _HOUR}s\n")
            environment = shifted_clock(self._clock)
        settings = settings_for(
            self._aws,
            listen=[
                {"address": "127.0.0.1:0"},
                {"address": "127.0.0.1:0", "imds_v1": True},
                {
                    "address": "127.0.0.1:0",
                    "container": {"path": CONTAINER_PATH, "secrets": str(self._write_secrets())},
                },
            ],
            hosts={station.caller: station.host for station in self._stations}
            | {_BYSTANDER: "tuvfoo99.valid.example"},
            tokens={"key_file": str(self._write_token_key())},
        )
        return stack.enter_context(running_daemon(settings, self._folder, name=name, environment=environment))

    def _write_secrets(self) -> Path:
        folder = self._folder / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        for station in self._stations:
            file = folder / station.host
            file.touch(mode=0o600)
            file.write_text(f"{station.token}\n")
        return folder

    def _write_token_key(self) -> Path:
        file = self._folder / "token.key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
        return file

    # --- the trouble -------------------------------------------------------------------------------

    def _begin(self, daemon: Daemon, successor: Daemon | None = None) -> None:
        trouble = self._trouble
        owner = _FOREIGN_ARN if trouble.is_forbidden else ROLE_ARN
        for station in self._stations:
            self._s3.put(BUCKET, station.key, station.body, owner)
        if trouble.seconds_left is not None:
            self._aws.set_faults({"kind": "lifetime", "seconds": trouble.seconds_left})
            ends = [self._warm(daemon, station) for station in self._stations]
            self._keys_end = max(ends)
            self._clock.write_text("+0\n")
        self._aws.set_faults(*trouble.faults)
        for station in self._stations:
            then = _listener(successor, station) if successor and trouble.has_successor else None
            # A container's client asks but one thing, so there is no "between".
            is_restarted = trouble.is_restart and station.mode is not Mode.CONTAINER_TOKEN
            station.door.open(_listener(daemon, station), then, is_restarted=is_restarted)

    def _warm(self, daemon: Daemon, station: Station) -> float:
        """Have the daemon hold a session for the station's caller; return its end as the daemon tells it."""
        document = fetch_document(_address(daemon.addresses[0]), station.caller)
        return datetime.fromisoformat(document["Expiration"]).timestamp()

    def _end(self, daemon: Daemon) -> None:
        self._aws.set_faults()
        for station in self._stations:
            self._s3.put(BUCKET, station.key, station.body, ROLE_ARN)
            station.door.reopen(_listener(daemon, station))
        time.sleep(self._trouble.pause)

    # --- the clients -------------------------------------------------------------------------------

    def _ask_in_trouble(self, trial: Trial, stack: ExitStack) -> Probe:
        station = trial.station
        folder = self._folder / station.host
        folder.mkdir()
        environment = self._world.environment(station.client, station.mode, station.door, folder)
        environment |= {"S3_KEY": station.key, **FEW_TRIES}
        if station.mode is Mode.CONTAINER_TOKEN:
            environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = station.token
        with station.namespace.entered():
            probe = stack.enter_context(
                running_probe(station.command, environment, folder / "home", folder / "probe.stderr")
            )
        for _ in range(self._trouble.asks):
            if not trial.died:
                self._ask(trial, probe)
        return probe

    def _ask(self, trial: Trial, probe: Probe, answers: list[str] | None = None) -> None:
        before, began = len(trial.station.door.requests), time.monotonic()
        try:
            answer = probe.ask(ANSWER_TIME)
        except AssertionError as error:
            trial.died = str(error)
            return
        trial.slowest = max(trial.slowest, time.monotonic() - began)
        trial.most_at_once = max(trial.most_at_once, len(trial.station.door.requests) - before)
        (trial.answers if answers is None else answers).append(answer)

    def _ask_until_served(self, trial: Trial, probe: Probe) -> None:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            self._ask(trial, probe, trial.later)
            if trial.died:
                return
            if trial.later[-1] == trial.station.wanted:
                break
        with suppress(TimeoutExpired):
            trial.status = probe.finish()

    def _alive(self, trials: Sequence[Trial], probes: Sequence[Probe]) -> list[tuple[Trial, Probe]]:
        return [(trial, probe) for trial, probe in zip(trials, probes, strict=True) if not trial.died]

    def _in_parallel(self, do: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        with ThreadPoolExecutor(ASKERS) as pool:
            return list(pool.map(do, items))

    def _collect(self, trial: Trial) -> None:
        station = trial.station
        trial.requests, trial.statuses = station.door.requests, station.door.statuses
        station.door.close()
        path = f"/{BUCKET}/{station.key}"
        trial.seen = [
            seen for seen in self._s3.requests if seen.path == path or seen.session_name == station.host
        ]


def shifted_clock(file: Path) -> Mapping[str, str]:
    """Return the environment of a process whose wall clock is as far off as `file` says; others are right."""
    return {
        "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def fetch_document(daemon: Address, caller: str) -> dict[str, str]:
    """Ask a daemon for the credentials of a caller, as the caller would. Raises AssertionError."""
    connection = HTTPConnection(*daemon, timeout=30, source_address=(caller, 0))
    base = "/latest/meta-data/iam/security-credentials/"
    try:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = _ask(connection, "PUT", "/latest/api/token", headers)
        headers = {"X-aws-ec2-metadata-token": token}
        role = _ask(connection, "GET", base, headers)
        document: dict[str, str] = json.loads(_ask(connection, "GET", base + role, headers))
        return document
    finally:
        connection.close()


def _ask(connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str]) -> str:
    connection.request(method, path, headers=dict(headers))
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, (method, path, answer.status, text)
    return text


def _listener(daemon: Daemon, station: Station) -> Address:
    return _address(daemon.addresses[_LISTENERS.index(station.mode)])


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)
