"""The whole check-up: what is looked at, all at once, each within its time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy.config import ListenSettings
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.doctor import (
    carriers,
    daemon,
    firewall,
    lookups,
    network,
    own_files,
    own_key,
    ports,
    units,
    updates,
)
from imds_proxy.doctor.authority import Authority
from imds_proxy.doctor.findings import Finding, fault, skipped, warning
from imds_proxy.doctor.programs import UnavailableError
from imds_proxy.errors import FederationError, ResolutionError
from imds_proxy.resolver import system_nameservers
from imds_proxy.sockets import connections_under

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from imds_proxy.config import Configuration
    from imds_proxy.dns_exchange import Server
    from imds_proxy.model import IPAddress
    from imds_proxy.registry import Loaded
    from imds_proxy.rendering.network import Style

PATIENCE = 10.0
"""Seconds that a check may take, unless it asks STS."""

_STS_PATIENCE = 40.0
"""boto3's import, a look-up, two calls of STS: each of them has a limit of its own."""

_THREADS = DaemonThreads("doctor", most=8, longest_line=64)


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at: what to call it where it fails, and what does it."""

    title: str
    look: Callable[[], Awaitable[list[Finding]]]
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Host:
    """What all checks are told."""

    loaded: Loaded
    configuration: Configuration
    socket: Path | None
    daemon_pid: int | None
    """None where no daemon answers."""
    addresses: tuple[network.HostAddress, ...]
    caller: IPAddress | None

    @property
    def listeners(self) -> tuple[ListenSettings, ...]:
        """Those for machines."""
        return self.configuration.settings.listen


async def examine(
    loaded: Loaded,
    configuration: Configuration,
    socket: Path | None,
    caller: IPAddress | None,
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Return all findings in a fixed order; `progress` is told how many of how many checks are done."""
    findings: list[Finding] = []
    addresses: tuple[network.HostAddress, ...] = ()
    try:
        addresses = await network.read_addresses()
    except UnavailableError as error:
        findings.append(network.unreadable(error))
    pid = None
    try:
        pid = await _THREADS.run(lambda: _find_daemon(socket))
    except UnavailableError as error:
        findings.append(_judge_silence(socket, str(error)))
    host = Host(loaded, configuration, socket if pid is not None else None, pid, addresses, caller)
    checks = list_checks(host)
    done = 0

    async def run(check: Check) -> list[Finding]:
        nonlocal done
        found = await run_check(check)
        done += 1
        progress(done, len(checks))
        return found

    progress(0, len(checks))
    for found in await asyncio.gather(*map(run, checks)):
        findings += found
    return findings


async def run_check(check: Check) -> list[Finding]:
    """Return what a check finds, or that it found nothing out, whatever happens in it."""
    try:
        async with asyncio.timeout(check.patience):
            return await check.look()
    except TimeoutError:
        return [skipped(check.title, f"took longer than {check.patience:g} s")]
    except UnavailableError as error:
        return [skipped(check.title, str(error))]
    except FederationError as error:
        return [warning(check.title, str(error), "imds-proxy check")]
    except Exception as error:  # noqa: BLE001  one check that breaks must not hide what the others find
        # Nobody knows what the text has: the kind alone is shown.
        return [skipped(check.title, f"could not be looked at ({type(error).__name__})")]


def list_checks(host: Host) -> list[Check]:
    """Return all checks in the order of what they find."""
    return [
        Check("daemon", lambda: _examine_daemon(host)),
        Check("systemd", lambda: _examine_units(host)),
        Check("addresses", lambda: _examine_addresses(host)),
        Check("what gives the addresses", lambda: _examine_carriers(host)),
        Check("ports", lambda: _examine_ports(host)),
        Check("firewall", lambda: _examine_firewall(host)),
        Check("files", lambda: _examine_files(host)),
        Check("DNS", lambda: _examine_dns(host)),
        Check("zone updates", lambda: _examine_zones(host), 2 * PATIENCE),
        Check("own key", lambda: _examine_authority(host), _STS_PATIENCE),
        Check("NTP", _examine_synchronisation),
    ]


def _find_daemon(socket: Path | None) -> int:
    if socket is None:
        raise UnavailableError("admin.socket is not set, so the daemon can't be asked")
    return daemon.read_pid(socket)


def _judge_silence(socket: Path | None, text: str) -> Finding:
    if socket is None:
        return skipped("daemon", text, "systemctl start imds-proxy.service; outside the unit say --socket")
    return fault(
        "daemon", text, "systemctl start imds-proxy.service, or as a user who may: sudo imds-proxy doctor"
    )


async def _examine_daemon(host: Host) -> list[Finding]:
    socket, pid = host.socket, host.daemon_pid
    if socket is None or pid is None:
        return []
    readiness = await _THREADS.run(lambda: daemon.examine_readiness(socket))
    renewals = await _THREADS.run(lambda: daemon.examine_renewals(socket))
    most_files = daemon.read_most_files(pid)
    fitting = connections_under(most_files) if most_files is not None else None
    wanted = host.configuration.settings.limits.all_connections
    connections = daemon.judge_connections(most_files, wanted, fitting)
    return [readiness, renewals, *([connections] if connections is not None else ())]


async def _examine_units(host: Host) -> list[Finding]:
    if not units.is_booted():
        return await units.examine_units({})
    from imds_proxy.rendering.systemd import render

    files = render(host.configuration.settings)
    return await units.examine_units({file.name: file.text for file in files})


async def _examine_carriers(host: Host) -> list[Finding]:
    if not units.is_booted():
        return []
    from imds_proxy.rendering.network import render

    present = carriers.read_networkd_files()
    extended = carriers.extended_network_file(present)
    style: Style = "networkd" if present else "oneshot"
    try:
        rendered = {file.name: file.text for file in render(host.configuration.settings, style, extended)}
        unit = await units.read_unit(carriers.ADDRESS_UNIT)
    except FederationError as error:
        return [skipped(carriers.ADDRESS_UNIT, str(error), "imds-proxy render network --help")]
    except UnavailableError:
        return []  # said of the units already
    findings = carriers.judge_unit(unit, rendered.get(carriers.ADDRESS_UNIT))
    return findings + carriers.judge_networkd_files(present, rendered)


async def _examine_firewall(host: Host) -> list[Finding]:
    from imds_proxy.rendering.nftables import render

    try:
        files = render(host.configuration.settings)
    except FederationError as error:
        return [skipped("firewall", str(error), "set network.interfaces, then: imds-proxy render nftables")]
    return await firewall.examine_firewall("\n".join(file.text for file in files))


async def _examine_addresses(host: Host) -> list[Finding]:
    settings = host.configuration.settings
    if not host.addresses:
        return []
    taken_over = [one.ip for one in settings.network.take_over]
    listened = dict.fromkeys(one.address.ip for one in host.listeners)
    findings = [network.judge_address(address, host.addresses) for address in listened]
    findings += [network.judge_address(one, host.addresses, is_taken_over=True) for one in taken_over]
    for address in dict.fromkeys([*listened, *taken_over]):
        if network.is_metadata(address):
            networks = [one for listener in host.listeners for one in listener.callers]
            interfaces = settings.network.interfaces
            lan = network.lan_address(address.version, host.addresses, interfaces, networks)
            findings.append(network.judge_route(address, lan))
    return findings


async def _examine_ports(host: Host) -> list[Finding]:
    settings = host.configuration.settings
    addresses = [one.address for one in host.listeners]
    addresses += [one.address for one in settings.people.listen if one.address] if settings.people else []
    # Port 0 is any free one: nobody knows which.
    wanted = [address for address in dict.fromkeys(addresses) if address.port]

    def look() -> list[Finding]:
        listening = ports.read_listening()
        numbers = {address.port for address in wanted}
        holders = ports.read_holders([one.inode for one in listening if one.port in numbers])
        return [ports.judge_listener(one, listening, holders, host.daemon_pid) for one in wanted]

    return await _THREADS.run(look)


async def _examine_files(host: Host) -> list[Finding]:
    def look() -> list[Finding]:
        files = own_files.judge_files(own_files.read_files(host.configuration))
        certificates = own_files.examine_certificates(host.configuration, time.time())
        return [*files, *certificates, own_files.examine_audit(own_files.find_audit(host.configuration))]

    return await _THREADS.run(look)


async def _examine_dns(host: Host) -> list[Finding]:
    own = _lan_address(host)
    findings = []
    if host.configuration.settings.dns.nameservers is None:
        addresses = network.own_addresses(host.addresses)
        findings.append(await _THREADS.run(lambda: lookups.examine_system_resolver(addresses)))
    try:
        servers = name_servers(host.configuration)
    except ResolutionError as error:
        return [*findings, fault("name servers", str(error), "set dns.nameservers")]
    of_servers, of_domains = await asyncio.gather(
        lookups.examine_servers(servers, own),
        lookups.examine_domains(allowed_domains(host.configuration), servers),
    )
    return [*findings, *of_servers, *of_domains]


async def _examine_zones(host: Host) -> list[Finding]:
    domains = allowed_domains(host.configuration)
    if not domains:
        return [skipped("zone updates", "no provider has allowed_domains: names decide nothing")]
    networks = [one for listener in host.listeners for one in listener.callers if not one.is_loopback]
    names = updates.names_to_ask(networks)
    names += updates.names_of(host.caller, domains)
    return await updates.examine_zones(list(dict.fromkeys(names)), name_servers(host.configuration))


async def _examine_authority(host: Host) -> list[Finding]:
    authority = Authority(host.loaded, host.configuration, host.socket, _THREADS)
    key = await authority.own_key()
    findings = [
        own_key.judge_key(key, is_daemons=authority.is_daemons),
        own_key.judge_clock(key.clock_offset),
    ]
    caller = host.caller
    explanation = await (authority.explain(caller) if caller is not None else authority.try_somebody())
    if explanation is None:
        text = "no caller is known by the configuration alone"
        return [
            *findings,
            skipped("role", text, "imds-proxy doctor --caller ADDRESS, of a machine that has one"),
        ]
    if caller is not None:
        findings.append(own_key.judge_names(explanation))
    is_wanted, is_daemons = caller is not None, authority.is_daemons
    findings.append(own_key.judge_role(explanation, is_wanted=is_wanted, is_daemons=is_daemons))
    return findings


async def _examine_synchronisation() -> list[Finding]:
    return [await own_key.examine_synchronisation()]


def name_servers(configuration: Configuration) -> Sequence[Server]:
    """Return the name servers that the daemon asks. Raises ResolutionError where there are none."""
    named = configuration.settings.dns.nameservers
    if named is not None:
        return [(server.ip, server.port) for server in named]
    return system_nameservers()


def allowed_domains(configuration: Configuration) -> list[str]:
    """Return the domains that providers take names from, as far as they call that `allowed_domains`."""
    found: dict[str, None] = {}
    for section in configuration.providers.values():
        named = section.settings.get("allowed_domains")
        texts = named if isinstance(named, list) else [named]
        found.update(dict.fromkeys(text.strip(".").lower() for text in texts if isinstance(text, str)))
    return [text for text in found if text]


def _lan_address(host: Host) -> IPAddress | None:
    networks = [one for listener in host.listeners for one in listener.callers]
    interfaces = host.configuration.settings.network.interfaces
    for version in (4, 6):
        if lan := network.lan_address(version, host.addresses, interfaces, networks):
            return lan.address
    return None
