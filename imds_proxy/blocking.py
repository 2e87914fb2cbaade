"""A class of the old shape as a provider: made and asked on a thread, its answer turned into grants."""

from __future__ import annotations

import logging
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from imds_proxy import role_answers
from imds_proxy.daemon_threads import DaemonThreads
from imds_proxy.errors import ProviderError, Refusal, Trouble
from imds_proxy.names import AllowedDomains
from imds_proxy.provider import MACHINES, PEOPLE, Provider, ProviderSettings
from imds_proxy.secret_settings import Redaction
from imds_proxy.yaml_source import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imds_proxy.model import Grant
    from imds_proxy.provider import Caller

MOST_THREADS = 16
"""Per provider; questions that hang count."""

LONGEST_LINE = 256
"""Questions that wait for a thread, per provider."""

_log = logging.getLogger(__name__)


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
    ) -> None:
        super().__init__(settings)
        self.provider_class = provider_class
        self.serves = getattr(provider_class, "serves", frozenset({MACHINES, PEOPLE}))
        self._name = name
        self._config = config
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
        outcome = await self._threads.run(partial(self._ask, user, names))
        if isinstance(outcome, BaseException):
            self._translate(outcome, user)
        return outcome

    def rehearse(self, user: str, patience: float) -> None:
        """Make an object for `user`, and let it go. For whoever may block, `patience` seconds at most.

        Raises what the class raises, TimeoutError when it takes longer.
        """
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

    def _ask(self, user: str, names: tuple[str, ...] | None) -> frozenset[Grant] | BaseException:
        # Errors are returned, not raised: a SystemExit that came out of an awaited call would end the loop.
        try:
            if names is None:
                return role_answers.join({user: self._ask_object(self._make(user))})
            return role_answers.join({name: self._ask_named(self._make(user), name) for name in names})
        except BaseException as error:  # noqa: BLE001  a site's class may do anything, exit included
            return error

    def _try_to_make(self, user: str) -> BaseException | None:
        try:
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
