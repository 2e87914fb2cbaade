"""One question to a provider: what it grants a caller, or which error of ours its failure is."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from imds_proxy.errors import ProviderError, Refusal, Trouble
from imds_proxy.model import Grant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imds_proxy.metrics import Metrics
    from imds_proxy.provider import Caller, Provider, ProviderSettings

    Settings = TypeVar("Settings", bound=ProviderSettings)

T = TypeVar("T")

PROVIDER_PATIENCE = 5.0
"""Seconds that a provider has for an answer."""

_log = logging.getLogger(__name__)


async def ask_provider(
    name: str, provider: Provider[Settings], caller: Caller, metrics: Metrics
) -> frozenset[Grant]:
    """Return what the provider called `name` grants; the empty set is a no.

    Raises Refusal or Trouble as the provider does, ProviderError for whatever else it raises (`__cause__`),
    for an answer that is no set of grants, and when it takes more than 5 s.
    """
    return await _ask(name, provider.grants_for, _check_answer, caller, metrics)


async def ask_logins(
    name: str, provider: Provider[Settings], caller: Caller, metrics: Metrics
) -> frozenset[str]:
    """Return the login names by which the provider called `name` knows a person. Raises as `ask_provider`."""
    return await _ask(name, provider.logins_of, _check_logins, caller, metrics)


async def _ask(
    name: str,
    question: Callable[[Caller], Awaitable[T]],
    check: Callable[[object], None],
    caller: Caller,
    metrics: Metrics,
) -> T:
    try:
        async with asyncio.timeout(PROVIDER_PATIENCE):
            answer = await question(caller)
        check(answer)
    except (Refusal, Trouble) as error:
        if isinstance(error, ProviderError):
            metrics.provider_errors.add(name)
        raise
    except TimeoutError as error:
        metrics.provider_errors.add(name)
        raise ProviderError(f"provider {name}: no answer in {PROVIDER_PATIENCE:.0f} s") from error
    except (Exception, SystemExit) as error:
        metrics.provider_errors.add(name)
        _log.exception("provider %s: failed for %s", name, caller.user or caller.address)
        raise ProviderError(f"provider {name}: {type(error).__name__}: {error}") from error
    return answer


def _check_logins(logins: object) -> None:
    if not isinstance(logins, frozenset | set) or not all(isinstance(login, str) for login in logins):
        raise TypeError(f"answered with a {type(logins).__name__}, not a set of login names")


def _check_answer(grants: object) -> None:
    if not isinstance(grants, frozenset | set):
        raise TypeError(f"answered with a {type(grants).__name__}, not a set of grants")
    for grant in grants:
        if not isinstance(grant, Grant):
            raise TypeError(f"answered with a {type(grant).__name__} among its grants")
        for key, value in grant.tags:
            tag: tuple[object, object] = key, value
            if not all(isinstance(text, str) for text in tag):
                raise TypeError("answered with a tag of a grant that is no pair of texts")
