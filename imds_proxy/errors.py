"""The tree of errors. A refusal is an answer ("no"), trouble is the lack of one ("can't tell now").

FederationError
├── ConfigurationError      the settings are wrong; carries every fault found
├── Refusal                 no, and the reason; also a builtin PermissionError
└── Trouble                 no answer at the moment
    ├── ResolutionError     DNS failed (a negative answer is not a failure)
    ├── ProviderError       a provider raised or passed its time
    ├── AWSError            STS failed, or our own key was refused
    ├── OverloadError       a limit of ours is reached
    └── LateError           it takes longer than a caller waits

Foreign exceptions are translated where they come in: dnspython's in `resolver`, botocore's in
`sts`, a provider's in `broker`. The web layer maps this tree to HTTP statuses in one table.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class RefusalKind(StrEnum):
    """Why a machine's request is turned away, for counting: a few words, never a text that somebody chose."""

    NOT_ADMITTED = "not_admitted"
    FOREIGN_HOST = "foreign_host"
    FORWARDED = "forwarded"
    OVER_LIMIT = "over_limit"
    NO_TOKEN = "no_token"  # noqa: S105  no secret
    BAD_TOKEN = "bad_token"  # noqa: S105  likewise
    REVOKED_TOKEN = "revoked_token"  # noqa: S105  likewise
    DENIED = "denied"
    NO_NAME = "no_name"
    FOREIGN_DOMAIN = "foreign_domain"
    NOT_CONFIRMED = "not_confirmed"
    MANY_NAMES = "many_names"
    NO_GRANT = "no_grant"
    SEVERAL_ROLES = "several_roles"
    UNKNOWN_ACCOUNT = "unknown_account"
    OTHER_ROLE = "other_role"
    STS = "sts"


class TroubleKind(StrEnum):
    """What a request had no answer from, for counting."""

    DNS = "dns"
    PROVIDER = "provider"
    STS = "sts"
    OVERLOAD = "overload"
    LATE = "late"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the settings: where it stands and what to do."""

    where: str
    """`FILE:LINE`, or a file, or an environment variable's name."""
    key: str
    """The dotted key, such as `listen[0].callers[1]`; empty when no key is to blame."""
    text: str
    is_warning: bool = False

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        warning = "warning: " if self.is_warning else ""
        return f"{self.where}: {key}{warning}{self.text}"


class FederationError(Exception):
    """Base of everything this program raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own way would call __init__ with the text alone, which copies and pickles none of these.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(
    kind: type[FederationError], args: tuple[object, ...], attributes: dict[str, object]
) -> FederationError:
    error = kind.__new__(kind, *args)
    error.args = args  # an OSError, which Refusal is, leaves them to __init__
    error.__dict__.update(attributes)
    return error


class ConfigurationError(FederationError):
    """The settings can't be used; `faults` has all that were found, in the order of the files."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Refusal(FederationError, builtins.PermissionError):
    """The answer is no. The text is the reason, for the log and for `explain`, never for the caller.

    `request_id` is AWS's where STS refused, else None. A provider need not say the `kind`.
    """

    def __init__(
        self, message: str, *, request_id: str | None = None, kind: RefusalKind = RefusalKind.NO_GRANT
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.kind = kind


class Trouble(FederationError):
    """There is no answer at the moment; asking again later may bring one."""

    kind = TroubleKind.OTHER


class ResolutionError(Trouble):
    """DNS failed: SERVFAIL, REFUSED, FORMERR, NOTIMP, a malformed answer, no answer in time."""

    kind = TroubleKind.DNS


class ProviderError(Trouble):
    """A provider raised something (`__cause__`) or did not answer in its time."""

    kind = TroubleKind.PROVIDER


class AWSError(Trouble):
    """STS gave no credentials, for a reason that is not a refusal of the role.

    `code` is AWS's error code, or botocore's exception name where there was no answer;
    `request_id` is AWS's, or None; `is_own_key` tells that our own key was refused.
    """

    kind = TroubleKind.STS

    def __init__(
        self, message: str, *, code: str, request_id: str | None = None, is_own_key: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.is_own_key = is_own_key


class OverloadError(Trouble):
    """A queue of ours is full. Better a quick 503 than a line that grows."""

    kind = TroubleKind.OVERLOAD


class LateError(Trouble):
    """It takes longer than a caller waits. It goes on, and whoever asks again may find the answer."""

    kind = TroubleKind.LATE
