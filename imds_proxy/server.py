"""The daemon's life: run, start, serve, reload, drain, end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from typing import TYPE_CHECKING

from imds_proxy import registry
from imds_proxy.activation import take_passed_sockets
from imds_proxy.audit import Audit, check_file
from imds_proxy.audit_outputs import Destination, destination_of
from imds_proxy.cache import CredentialCache
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.errors import Trouble
from imds_proxy.explain import Explanation, explain
from imds_proxy.gauges import register_gauges
from imds_proxy.listeners import Listeners, announce, bind
from imds_proxy.loop_trouble import LoopTroubles
from imds_proxy.metrics import Metrics
from imds_proxy.reloads import Reloads
from imds_proxy.sign_in_threads import SignInThreads
from imds_proxy.site import Site, Workshop, admin_guard, build_site, rates_of, takes_workload_tokens
from imds_proxy.sockets import (
    bound_address,
    most_connections,
    open_listener,
    open_unix_listener,
    raise_descriptor_limit,
)
from imds_proxy.sts import StsThreads
from imds_proxy.supervisor import take_supervisor
from imds_proxy.token_keys import (
    WORKLOAD_KEY_FILE,
    check_keys_differ,
    own_token_keys,
    passing_token_key,
)
from imds_proxy.web.documents import CredentialPages
from imds_proxy.web.edge.limits import CallerLimits
from imds_proxy.web.edge.listener import Listener
from imds_proxy.web.edge.open_connections import OpenConnections
from imds_proxy.web.forget_desk import ForgetDesk, Memory
from imds_proxy.web.health_desk import HealthDesk
from imds_proxy.web.sign_on import SignOnState
from imds_proxy.web.status import (
    ADMIN_RATES,
    MAX_ADMIN_CONNECTIONS,
    AdminService,
    Readiness,
    explain_view,
    status_views,
)
from imds_proxy.web.token_desk import TokenDesk

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping, MutableMapping
    from pathlib import Path

    from imds_proxy.activation import PassedSockets
    from imds_proxy.config import AdminSettings, AuditSettings, Configuration
    from imds_proxy.errors import Refusal
    from imds_proxy.model import IPAddress, RoleSession
    from imds_proxy.supervisor import Supervisor

_AUDIT_PATIENCE = 0.5
_ADMIN_PATIENCE = 1.0
_HOUSEKEEPING_SECONDS = 5.0
_GARBAGE_THRESHOLDS = (100_000, 10, 100)
"""Python's own look for garbage after every 700 new objects: a thousand connections that come at once are
made of many more, and each look at them stops everybody. Hardly anything is garbage that counting misses.
"""

_log = logging.getLogger(__name__)


class Server:
    """One process: its listeners, and the site that answers on them until a reload brings another."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        supervisor: Supervisor,
        passed: PassedSockets | None,
    ) -> None:
        self._supervisor = supervisor
        self._passed = passed
        self._path = path
        self._environ = environ
        self._clock = SYSTEM_CLOCK
        self._metrics = Metrics()
        self._passing_keys: dict[str, bytes] = {}
        """By the warning that a key will not be kept."""
        self._given_warnings: set[str] = set()
        self._is_workload_key_kept = True
        self._admin: AdminSettings
        self._bound_admin: AdminSettings
        """The settings with which the admin sockets were opened."""
        self._admin_listeners: list[Listener] = []
        self._admin_servers: list[asyncio.Server] = []
        self._background: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._reloads = Reloads(
            path,
            environ,
            self._apply,
            self._metrics,
            supervisor=supervisor,
            on_end=self._note_end_of_reload,
        )
        self._is_serving = False

    async def run(self, loaded: registry.Loaded) -> None:
        """Serve until SIGTERM or SIGINT. Raises FederationError when that can't begin."""
        asyncio.get_running_loop().set_exception_handler(LoopTroubles(self._clock).note)
        self._watch_signals()
        await self._start(loaded)
        self._supervisor.ready(self._status())
        self._start_task(self._supervisor.feed_watchdog())
        self._start_task(self._reloads.run())
        await self._stop.wait()
        await self._end()

    # --- start -------------------------------------------------------------------------------------

    async def _start(self, loaded: registry.Loaded) -> None:
        assert loaded.configuration is not None
        settings = loaded.configuration.settings
        check_file(settings.audit.file)
        sockets = bind(settings, self._passed)
        admin = open_listener(settings.admin.address) if settings.admin.address else None
        admin_socket = open_unix_listener(settings.admin.socket) if settings.admin.socket else None
        self._admin = self._bound_admin = settings.admin
        self._workshop = Workshop(
            cache=CredentialCache(self._clock, on_renewal_refused=self._note_refused_renewal),
            sts_threads=StsThreads(),
            sign_in_threads=SignInThreads(),
            audit=Audit(self._audit_destination(settings.audit), clock=self._clock, on_error=_log.error),
            metrics=self._metrics,
            connections=OpenConnections(
                CallerLimits(rates_of(settings.limits), clock=self._clock),
                max_connections=min(settings.limits.all_connections, most_connections()),
            ),
            pages=CredentialPages(),
            sign_on_state=SignOnState(self._clock),
            clock=self._clock,
        )
        self._site = self._build_site(loaded)
        self._metrics.configured_at = self._clock.wall()
        self._listeners = Listeners(self._workshop.connections)
        register_gauges(
            self._workshop,
            lambda: self._site,
            count_connections=lambda: self._listeners.connections,
            crl_end=lambda: self._listeners.crl_end,
        )
        await self._listeners.start(sockets, self._site)
        await self._open_admin(admin, admin_socket)
        self._is_serving = True
        self._start_task(self._load_boto3(self._site))
        self._start_task(self._keep_house())
        self._start_task(self._listeners.watch_certificates())

    def _build_site(self, loaded: registry.Loaded) -> Site:
        assert loaded.configuration is not None
        token_keys = self._token_keys(loaded.configuration)
        workload_token_keys = self._workload_token_keys(loaded.configuration)
        check_keys_differ(token_keys, workload_token_keys)
        return build_site(
            loaded.configuration,
            loaded.providers,
            token_keys=token_keys,
            workload_token_keys=workload_token_keys,
            workshop=self._workshop,
            warn=_log.warning,
        )

    def _audit_destination(self, audit: AuditSettings) -> Destination:
        return destination_of(audit.file, journal=audit.journal, environ=self._environ)

    def _token_keys(self, configuration: Configuration) -> tuple[bytes, ...]:
        keys = configuration.token_keys or own_token_keys(self._environ)
        is_used = bool(configuration.settings.listen)
        return keys or self._passing_key(
            "tokens.key_file is not set: tokens end with this process", is_used=is_used
        )

    def _workload_token_keys(self, configuration: Configuration) -> tuple[bytes, ...]:
        keys = configuration.workload_token_keys or own_token_keys(self._environ, WORKLOAD_KEY_FILE)
        self._is_workload_key_kept = bool(keys)
        is_used = takes_workload_tokens(configuration.settings)
        return keys or self._passing_key(
            "tokens.workload_key_file is not set: workloads' tokens end with this process", is_used=is_used
        )

    def _passing_key(self, warning: str, *, is_used: bool) -> tuple[bytes, ...]:
        """Return a key that lives as long as this process; the warning is logged once, if the key is used."""
        if is_used and warning not in self._given_warnings:
            self._given_warnings.add(warning)
            _log.warning("%s", warning)
        return (self._passing_keys.setdefault(warning, passing_token_key()),)

    async def _open_admin(self, admin: socket.socket | None, admin_socket: socket.socket | None) -> None:
        for sock in (admin, admin_socket):
            if sock is None:
                continue
            # Its own, so that nobody who asks there takes anything from callers.
            open_connections = OpenConnections(
                CallerLimits(ADMIN_RATES, clock=self._clock),
                max_connections=MAX_ADMIN_CONNECTIONS,
                dropped=self._workshop.connections.dropped,
            )
            is_local = sock is admin_socket
            service = self._admin_service(open_connections.limits, is_local=is_local)
            listener = Listener(service, open_connections, is_local=is_local)
            server = await asyncio.get_running_loop().create_server(listener, sock=sock)
            self._admin_listeners.append(listener)
            self._admin_servers.append(server)
        if admin is not None:
            announce(f"listening {bound_address(admin)} (admin)")

    def _admin_service(self, limits: CallerLimits, *, is_local: bool) -> AdminService:
        views = status_views(self._metrics, self._readiness)
        if is_local:
            desk = TokenDesk(lambda: self._site, lambda: self._is_workload_key_kept, self._clock)
            health_desk = HealthDesk(lambda: self._site.decisions.sts.own_key())
            views |= {
                ("GET", "/explain"): explain_view(self._explain),
                ("POST", "/token"): desk.answer,
                ("POST", "/forget"): ForgetDesk(self._memory).answer,
                ("GET", "/own-key"): health_desk.answer,
            }
        return AdminService(admin_guard(self._admin), views, limits)

    async def _load_boto3(self, site: Site) -> None:
        try:
            await site.decisions.sts.load()
        except Trouble as trouble:
            _log.warning("%s", trouble)
        finally:
            # boto3 is most of the memory, and stays: to look through it for garbage takes 30 ms of everybody.
            gc.freeze()
            gc.set_threshold(*_GARBAGE_THRESHOLDS)
            gc.enable()

    def _start_task(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            self._workshop.audit.flush_counts()
            self._supervisor.tell_status(self._status())

    def _status(self) -> str:
        """Return how things are, in a line for `systemctl status`."""
        listeners = len(self._listeners)
        key = self._site.decisions.sts.own_key_trouble
        status = (
            f"{listeners} listener{'' if listeners == 1 else 's'}, "
            f"{self._workshop.cache.size} sessions held, own key: {key or 'no trouble known'}"
        )
        return f"{status}; {self._reloads.outcome}" if self._reloads.outcome else status

    # --- while it serves ---------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_or_leave)
        loop.add_signal_handler(signal.SIGHUP, self._reloads.want)

    def _stop_or_leave(self) -> None:
        if self._stop.is_set():
            os._exit(0)
        self._stop.set()

    def _apply(self, loaded: registry.Loaded) -> None:
        """Put another configuration into force, all at once, or raise FederationError and change nothing."""
        assert loaded.configuration is not None
        self._swap(self._build_site(loaded), loaded.configuration)

    def _swap(self, site: Site, configuration: Configuration) -> None:
        old, self._site = self._site, site
        limits, connections = configuration.settings.limits, self._workshop.connections
        connections.limits.rates = rates_of(limits)
        connections.max_connections = min(limits.all_connections, most_connections())
        self._workshop.cache.forget_demand()
        self._workshop.audit.reopen(self._audit_destination(configuration.settings.audit))
        logging.getLogger().setLevel(configuration.settings.log.level.upper())
        self._take_admin(configuration.settings.admin)
        self._listeners.hand_over(site, configuration.settings)
        old.retire()
        self._start_task(self._load_boto3(site))

    def _note_end_of_reload(self) -> None:
        # Also when the configuration was kept: logrotate has moved the file, and deletes it some day.
        self._workshop.audit.reopen()
        self._supervisor.ready(self._status())

    def _take_admin(self, admin: AdminSettings) -> None:
        """Take over who may ask for admin pages. A listener whose address has changed lets nobody in."""
        self._admin = admin
        bound = self._bound_admin
        if (admin.address, admin.socket) != (bound.address, bound.socket):
            _log.warning("admin: the addresses have changed: needs a restart; the old ones let nobody in")
        for listener in self._admin_listeners:
            is_same = admin.socket == bound.socket if listener.is_local else admin.address == bound.address
            if is_same:
                listener.service = self._admin_service(listener.open.limits, is_local=listener.is_local)
            else:
                listener.shut_out()

    async def _explain(self, address: IPAddress, workload: str | None, *, assumes: bool) -> Explanation:
        decisions = self._site.decisions
        sts = decisions.sts if assumes else None
        return await explain(address, decisions.doors, workload=workload, sts=sts, clock=self._clock)

    def _memory(self) -> Memory:
        return Memory(self._site.decisions.identities, self._site.brokers.values(), self._workshop.cache)

    def _readiness(self) -> Readiness:
        own_key = self._site.decisions.sts.own_key_trouble
        return Readiness(
            self._is_serving, {"own_key": f"refused: {own_key}" if own_key else "no trouble known"}
        )

    def _note_refused_renewal(self, session: RoleSession, refusal: Refusal) -> None:
        self._metrics.renewals_refused.add()
        _log.warning(
            "%s (%s): %s; the credentials at hand are served to their end",
            session.role_arn,
            session.session_name,
            refusal,
        )

    # --- end ---------------------------------------------------------------------------------------

    async def _end(self) -> None:
        _log.info("stopping")
        self._supervisor.stopping()
        self._is_serving = False
        await self._listeners.stop_accepting()
        for server in self._admin_servers:
            server.close()
        await asyncio.gather(
            self._listeners.close(),
            *(listener.shutdown(_ADMIN_PATIENCE) for listener in self._admin_listeners),
        )
        for task in self._background:
            task.cancel()
        await self._site.close()
        await self._workshop.cache.close()
        self._workshop.sts_threads.close()
        self._workshop.audit.close(_AUDIT_PATIENCE)


def serve(path: Path, environ: MutableMapping[str, str], loaded: registry.Loaded) -> None:
    """Serve what was loaded from `path` until a signal ends it. Raises FederationError if it can't begin.

    What a supervisor left for us alone is taken out of `environ`.
    """
    supervisor = take_supervisor(environ)
    passed = take_passed_sockets(environ)
    assert loaded.configuration is not None
    if not loaded.configuration.settings.aws.use_instance_metadata:
        # A profile's `credential_source` would get past the chain that `assume_role` has cut short.
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=_loop_factory(environ)) as runner:
        runner.run(Server(path, environ, supervisor, passed).run(loaded))


def _loop_factory(environ: Mapping[str, str]) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, unless `$IMDS_PROXY_EVENT_LOOP` says asyncio or it is missing (not on Linux)."""
    if environ.get("IMDS_PROXY_EVENT_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
