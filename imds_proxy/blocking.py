"""A class of the old shape as a provider: made and asked on a thread, its answer turned into grants."""

from __future__ import annotations

import logging
import os
import traceback
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from imds_proxy import role_answers
from imds_proxy.base_provider import BaseProvider
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import OverloadError, ProviderError, Refusal, Trouble
from imds_proxy.names import AllowedDomains
from imds_proxy.provider import MACHINES, PEOPLE, Provider, ProviderSettings
from imds_proxy.secret_settings import Redaction
from imds_proxy.yaml_source import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from imds_proxy.clock import Clock
    from imds_proxy.model import Grant
    from imds_proxy.provider import Caller

MOST_THREADS = 16
"""Per provider; questions that hang count."""

LONGEST_LINE = 256
"""Questions that wait for a thread, per provider."""

HANGS_AFTER = 5.0
"""Seconds, after which nobody waits for a call any more."""

_log = logging.getLogger(__name__)

_under_way: dict[object, tuple[BlockingProvider, float]] = {}
"""The calls of this process, whose they are and since when (monotonic seconds)."""
# A forked child has none of the threads.
os.register_at_fork(after_in_child=_under_way.clear)


class BlockingProvider(Provider[ProviderSettings]):
    """Asks objects of one class, one object per question and confirmed name.

    `provider_class` has the shape of `base_provider.BaseProvider`, whether it derives from it or not.
    `config` is what its objects get; `settings` is what may be shown of it.
    """

    settings_model = ProviderSettings

    def __init__(
        self,
        name: str,
        provider_class: type[Any],
        settings: ProviderSettings,
        config: Mapping[str, Any],
        *,
        logger: logging.Logger | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(settings)
        self.provider_class = provider_class
        self.serves = getattr(provider_class, "serves", frozenset({MACHINES, PEOPLE}))
        self._name = name
        self._config = config
        self._clock = clock
        self._logger = logger or logging.getLogger(provider_class.__module__)
        self._redact = Redaction(config)
        self._threads = DaemonThreads(f"provider {name}", most=MOST_THREADS, longest_line=LONGEST_LINE)
        domains = _wanted_domains(provider_class, config)
        self._domains = None if domains is None else AllowedDomains.parse(domains)

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return what the class grants. Raises Refusal and Trouble as it does, ProviderError for all else."""
        user = str(caller.address) if caller.user is None else caller.user
        names: tuple[str, ...] | None = None
        if self._domains is not None:
            names = await self._confirmed_names(caller, self._domains)
        self._check_hanging()
        outcome = await self._threads.run(partial(self._ask, user, names))
        if isinstance(outcome, BaseException):
            self._translate(outcome, user)
        return outcome

    async def logins_of(self, caller: Caller) -> frozenset[str]:
        """Return the login names by which the class knows a person. Raises as `grants_for` does."""
        ask = getattr(self.provider_class, "get_login_names", None)
        if caller.user is None or ask in (None, BaseProvider.get_login_names):
            return await super().logins_of(caller)
        self._check_hanging()
        outcome = await self._threads.run(partial(self._ask_logins, caller.user))
        if isinstance(outcome, BaseException):
            self._translate(outcome, caller.user)
        return outcome

    def rehearse(self, user: str, patience: float) -> None:
        """Make an object for `user`, and let it go. For whoever may block, `patience` seconds at most.

        Raises what the class raises, TimeoutError when it takes longer, OverloadError when others hang.
        """
        self._check_hanging()
        future = self._threads.submit(partial(self._try_to_make, user))
        try:
            error = future.result(patience)
        except TimeoutError:
            self._threads.abandon(future)
            raise
        if error is not None:
            raise error

    def describe(self, error: BaseException) -> str:
        """Return an exception of the class in words, without the secrets of its settings."""
        return one_line(self._redact(describe_error(error)))

    async def _confirmed_names(self, caller: Caller, domains: AllowedDomains) -> tuple[str, ...]:
        if not domains.exact and not domains.below:
            raise Refusal("no domain is allowed, so nobody is")
        names = await caller.confirmed_names(domains)
        if not names:
            raise Refusal(f"{caller.address} has no confirmed name in an allowed domain")
        return names

    def _check_hanging(self) -> None:
        """Raise OverloadError when too many calls hang, those of others with the same settings included.

        A program may make a provider for each question, and `_threads` counts for one of them only.
        """
        since = self._clock.monotonic() - HANGS_AFTER
        late = [provider for provider, started in [*_under_way.values()] if started < since]
        if len(late) >= MOST_THREADS and sum(map(self._is_like, late)) >= MOST_THREADS:
            raise OverloadError(f"provider {self._name}: {MOST_THREADS} earlier calls hang")

    def _is_like(self, other: BlockingProvider) -> bool:
        return self is other or (
            self.provider_class is other.provider_class and self._config == other._config
        )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        call = object()
        _under_way[call] = self, self._clock.monotonic()
        try:
            yield
        finally:
            _under_way.pop(call, None)

    def _ask(self, user: str, names: tuple[str, ...] | None) -> frozenset[Grant] | BaseException:
        # Errors are returned, not raised: a SystemExit that came out of an awaited call would end the loop.
        try:
            with self._counted():
                if names is None:
                    return role_answers.join({user: self._ask_object(self._make(user))})
                return role_answers.join({name: self._ask_named(self._make(user), name) for name in names})
        except BaseException as error:  # noqa: BLE001  a site's class may do anything, exit included
            return error

    def _ask_logins(self, user: str) -> frozenset[str] | BaseException:
        try:
            with self._counted():
                return role_answers.read_logins(self._make(user).get_login_names())
        except BaseException as error:  # noqa: BLE001  as above
            return error

    def _try_to_make(self, user: str) -> BaseException | None:
        try:
            with self._counted():
                self._make(user)
        except BaseException as error:  # noqa: BLE001  as above
            return error
        return None

    def _make(self, user: str) -> Any:
        # By keyword, as the old program did. A copy, because an object may put into its config what it likes.
        return self.provider_class(user=user, config=dict(self._config), logger=self._logger)

    def _ask_named(self, asked: Any, name: str) -> role_answers.Answer:
        asked.client_fqdn = name
        return self._ask_object(asked)

    def _ask_object(self, asked: Any) -> role_answers.Answer:
        return role_answers.read_answer(asked.get_accounts_and_roles())

    def _translate(self, error: BaseException, user: str) -> NoReturn:
        """Raise the error of ours that the class's error is. No secret of the settings gets into its text."""
        if isinstance(error, Refusal | Trouble):
            raise error
        class_name = f"{self.provider_class.__module__}.{self.provider_class.__qualname__}"
        # With a number it is the system's (a file that may not be read), and says nothing about a caller.
        if isinstance(error, PermissionError) and error.errno is None:
            raise Refusal(one_line(self._redact(str(error))) or f"{class_name} says no") from error
        text = self.describe(error)
        frames = self._redact("".join(traceback.format_tb(error.__traceback__))).rstrip()
        _log.error("provider %s: failed for %s: %s\n%s", self._name, user, text, frames)
        raise ProviderError(f"provider {self._name}: {class_name}: {text}") from error


def describe_error(error: BaseException) -> str:
    """Return an exception in words. pydantic's own text would show the values that are wrong."""
    if isinstance(error, ValidationError):
        return "; ".join(each["msg"] for each in error.errors(include_input=False))
    return f"{type(error).__name__}: {error}"


def _wanted_domains(provider_class: type[Any], config: Mapping[str, Any]) -> Sequence[str] | None:
    ask = getattr(provider_class, "wanted_domains", None)
    domains: Sequence[str] | None = None if ask is None else ask(config)
    if isinstance(domains, str):
        raise TypeError("wanted_domains gives one text, not a list of domains")
    return domains
