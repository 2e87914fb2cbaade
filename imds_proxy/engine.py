"""What drives the library: one event loop on a thread of its own per process, and what instances share on it.

A library can't use its callers' event loop: they have none, or one that is running (a notebook), or many
threads, or they fork. So all work is done on this loop, and whoever calls waits for it like for any blocking
call. Nothing of it keeps a process from ending.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from cachetools import LRUCache

from imds_proxy.cache import CredentialCache
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.metrics import Metrics
from imds_proxy.sign_in_threads import SignInThreads
from imds_proxy.sts import THREADS, Sts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from imds_proxy.errors import Refusal
    from imds_proxy.model import RoleSession
    from imds_proxy.sts_settings import StsSettings

MOST_WORKSHOPS = 64
"""How many are kept when no instance uses them: each has a client of STS and its credentials."""

LONGEST_LINE = 256
"""Calls beside AssumeRole that wait for a thread, per workshop."""

_log = logging.getLogger(__name__)
_DIGEST_KEY = secrets.token_bytes(32)
_OTHER_VARIABLES = frozenset({"HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"})

_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
"""Where boto3 finds profiles: the variable, and the file without it."""

Result = TypeVar("Result")


class StsDaemonThreads:
    """Threads for boto3 that a process does not wait for at its end; they end when there is nothing to do."""

    def __init__(self) -> None:
        self._pool = DaemonThreads("sts", most=THREADS, longest_line=LONGEST_LINE)
        self.threads = THREADS

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns on a thread. Raises OverloadError when the line is full."""
        return await self._pool.run(call)


@dataclass(frozen=True, eq=False)
class Workshop:
    """What instances with the same key and endpoint share, and with others do not."""

    cache: CredentialCache
    sts: Sts
    sign_in_threads: SignInThreads
    metrics: Metrics


class Engine:
    """The event loop of one process, and its workshops."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._in_use: WeakValueDictionary[tuple[StsSettings, bytes], Workshop] = WeakValueDictionary()
        self._recent: LRUCache[tuple[StsSettings, bytes], Workshop] = LRUCache(MOST_WORKSHOPS)
        self._thread = threading.Thread(target=self._serve, name="imds-proxy", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` returns on the loop, or raise what it raises.

        Whoever is interrupted (Ctrl-C) leaves; what others wait for as well goes on. Raises RuntimeError on
        the loop itself, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the library blocks: it can't be called from its own event loop")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def workshop(self, settings: StsSettings, environment: bytes) -> Workshop:
        """Return what all instances with these settings and this environment share."""
        key = (settings, environment)
        with self._lock:
            workshop = self._in_use.get(key)
            if workshop is None:
                workshop = self._in_use[key] = _open_workshop(settings)
            self._recent[key] = workshop
            return workshop

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            # A provider may call sys.exit: whoever asked it hears of that, the others' loop goes on.
            with suppress(KeyboardInterrupt, SystemExit):
                self._loop.run_forever()


def _open_workshop(settings: StsSettings) -> Workshop:
    threads, metrics = StsDaemonThreads(), Metrics()
    return Workshop(
        cache=CredentialCache(SYSTEM_CLOCK, on_renewal_refused=_warn_of_refused_renewal),
        sts=Sts(settings, threads, clock=SYSTEM_CLOCK, warn=_log.warning, observe=metrics.observe_sts),
        sign_in_threads=SignInThreads(),
        metrics=metrics,
    )


def _warn_of_refused_renewal(session: RoleSession, refusal: Refusal) -> None:
    _log.warning("%s (%s): %s; credentials are still held", session.role_arn, session.session_name, refusal)


def environment_digest(environ: Mapping[str, str]) -> bytes:
    """Return what stands for all that says whose key signs, where STS is and how it is reached.

    That is variables, and the profiles' files as they are now: whoever writes another key into one has
    another key.
    """
    relevant = sorted(
        (name, value)
        for name, value in environ.items()
        if name.startswith("AWS_") or name.upper() in _OTHER_VARIABLES
    )
    files = [_stamp(environ.get(name) or default) for name, default in _FILES.items()]
    return hashlib.blake2b(repr((relevant, files)).encode("utf-8", "surrogatepass"), key=_DIGEST_KEY).digest()


def _stamp(file: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None: there is none."""
    try:
        found = Path(file).expanduser().stat()
    except (OSError, RuntimeError, ValueError):  # not there, no home, no path
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class _Place:
    """Where this process keeps its engine. A forked child has another: it has no thread of its parent's."""

    def __init__(self) -> None:
        # Re-entrant, for a handler of signals may come in while its own thread is in here.
        self.lock = threading.RLock()
        self.engine: Engine | None = None
        self.is_boto3_loaded = False
        self.left_behind: list[Engine] = []
        """Kept, because ending a loop would reach the parent's by the descriptors they share."""

    def after_fork(self) -> None:
        """Begin anew in a child."""
        self.lock = threading.RLock()
        if self.engine is not None:
            self.left_behind.append(self.engine)
            self.engine = None


_place = _Place()
# Nobody forks while a thread is in there: a module that is being imported on another thread would never be
# ready in the child.
os.register_at_fork(
    before=lambda: _place.lock.acquire(),
    after_in_parent=lambda: _place.lock.release(),
    after_in_child=lambda: _place.after_fork(),
)


def current_engine() -> Engine:
    """Return this process' engine, starting it at the first call."""
    with _place.lock:
        if _place.engine is None:
            _place.engine = Engine()
        return _place.engine


def load_boto3() -> None:
    """Import boto3 here and now: on the engine's threads a fork could come in between."""
    with _place.lock:
        if not _place.is_boto3_loaded:
            import encodings.idna  # noqa: F401  what a look-up of a host name imports by itself

            import imds_proxy.assume_role
            import imds_proxy.botocore_data  # noqa: F401

            _place.is_boto3_loaded = True
