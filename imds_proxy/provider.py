"""The contract of a provider: it turns a caller into grants. A provider imports little else of ours.

A provider is a class named in the entry-point group `imds_proxy.providers` (`type: NAME` in the
settings), or in any module (`module:` and `class:`). It says what settings it takes and answers
one question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

if TYPE_CHECKING:
    from imds_proxy.model import Grant, IPAddress
    from imds_proxy.names import AllowedDomains


MACHINES = "machines"
"""Callers of a metadata listener: known by their address, one role each."""

PEOPLE = "people"
"""Callers of the people's listener and of the library: known by a login name, any number of roles."""


class Caller(Protocol):
    """Who is asking. Names are looked up only when a provider asks for them."""

    @property
    def address(self) -> IPAddress | None:
        """The peer's address (IPv4-mapped IPv6 is already IPv4); None for a person on a unix socket."""

    @property
    def user(self) -> str | None:
        """The login name of a person, as it was proved; None for a machine."""

    @property
    def workload(self) -> str | None:
        """The name of the workload that showed its token at a container endpoint; None for all others.

        It looks like a host name in lower case, and `confirmed_names` returns it where its domain counts.
        """

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Return the caller's host names in `domains` that lead back to its address, sorted, lower case.

        Raises Refusal with the reason when DNS says that it has none or when the answer is suspicious
        (too many names), ResolutionError when DNS failed and no earlier answer may stand in.
        """


class ProviderSettings(BaseModel):
    """Base of a provider's settings. A key that the model lacks is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Settings = TypeVar("Settings", bound=ProviderSettings)


class Provider(ABC, Generic[Settings]):
    """Base of all providers."""

    settings_model: ClassVar[type[ProviderSettings]]
    serves: frozenset[str] = frozenset({MACHINES})
    """Whose callers it can tell apart; put behind another kind of listener it is a faulty configuration."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return what the caller may have; the empty set is a no.

        May raise Refusal to say no with a reason. Any other exception is trouble, never a yes.
        Must not block: what blocks belongs on a thread (`asyncio.to_thread`).
        """

    async def logins_of(self, caller: Caller) -> frozenset[str]:
        """Return all login names by which this provider knows a person, for `deny`.

        One that compares names by rules of its own (a directory that ignores case, an entry with two names)
        returns its own spellings. Errors as in `grants_for`.
        """
        return frozenset() if caller.user is None else frozenset({caller.user})


def _known_account(name: str, info: ValidationInfo) -> str:
    accounts = (info.context or {}).get("accounts")
    if accounts is not None and name not in accounts:
        raise ValueError(
            f"no account {name!r} under accounts; known: {', '.join(sorted(accounts)) or 'none'}"
        )
    return name


AccountName = Annotated[str, AfterValidator(_known_account)]
"""A setting that names an account: a name that `accounts` lacks is a fault with file and line."""
