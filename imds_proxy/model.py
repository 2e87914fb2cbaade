"""The values everything talks in. All are frozen, none shows a secret in its repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, total_ordering
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address


@lru_cache(maxsize=4096)
def canonical_address(text: str) -> IPAddress:
    """Return the address that `text` names, an IPv4-mapped IPv6 address as the IPv4 address it is.

    `::ffff:10.0.0.1` is how a dual-stack socket shows the peer 10.0.0.1: compared as it stands it
    would slip past every list of IPv4 networks. A scope (`fe80::1%eth0`) is dropped.
    Raises ValueError when `text` is no address.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_link_local(address: IPAddress) -> bool:
    """Tell whether another machine on another link may have the same address.

    Only the scope, which `canonical_address` drops, would tell them apart. IPv4's link-local addresses have
    none: an answer to them leaves by one interface.
    """
    return address.version == 6 and address.is_link_local


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account as the settings name it, with what its roles are assumed with."""

    name: str
    id: str
    """12 digits."""
    path: str = "/"
    """The IAM path of the roles; begins and ends with a slash."""
    external_id: str | None = field(default=None, repr=False)
    session_tags: tuple[tuple[str, str], ...] = ()
    policy: str | None = None
    """A session policy, as JSON text."""
    has_source_identity: bool = False
    """Whether STS is told whose session it is, in a way that the session can't change or lose."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Grant:
    """A provider's yes: this caller may have this role in this account, and why."""

    account: str
    """The account's name in the settings, not its id."""
    role: str
    reason: str
    tags: tuple[tuple[str, str], ...] = ()
    """Keys and values that the caller finds below `tags/instance`; they mean nothing to AWS."""
    network: IPv6Network | None = None
    """All callers of this network share one role session, named after it; None: each has its own."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Grant):
            return NotImplemented
        return self._order < other._order

    @property
    def _order(self) -> tuple[object, ...]:
        return self.account, self.role, self.reason, self.tags, str(self.network or "")


@dataclass(frozen=True, slots=True)
class RoleSession:
    """All that shapes the credentials STS gives, and so the key under which they are kept.

    Two callers share credentials only if every field is equal: a cache keyed by less has handed
    one caller what another caller's settings had produced.
    """

    signer: str
    """Which key of ours signs: an access key id or the name of where it comes from."""
    partition: str
    endpoint: str
    account_id: str
    role_arn: str
    session_name: str
    duration: int
    """Seconds."""
    tags: tuple[tuple[str, str], ...] = ()
    policy: str | None = None
    external_id: str | None = field(default=None, repr=False)
    source_identity: str | None = None
    is_person: bool = False
    """Whether it is a person's: one with a machine's name for a login must not share its credentials."""

    def __hash__(self) -> int:
        # Of what tells most sessions apart: every request looks one up, and all fields are compared then.
        return hash((self.role_arn, self.session_name))

    @property
    def role_name(self) -> str:
        """The role's name, without its path."""
        return _role_of(self.role_arn)


@lru_cache(maxsize=4096)
def _role_of(arn: str) -> str:
    """Return the name of the role that an ARN is for; callers of one role share one text."""
    return arn.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class OwnKey:
    """What STS says of the key that signs for us, never the key itself."""

    arn: str | None = None
    """Whose it is; None where STS did not say."""
    trouble: str | None = None
    is_refused: bool = False
    """Whether STS refuses the key, or there is none: as opposed to an STS that is out of reach."""
    clock_offset: float | None = None
    """By how many seconds our clock is ahead of STS's; None without an answer that has a date."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Credentials:
    """What STS gave: a temporary key, when it arrived and when it ends (both seconds UTC since 1970).

    Two objects are never equal: comparing secrets is no one's business.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiry: float
    received: float
    account_id: str
    request_id: str | None = None

    @property
    def expires_at(self) -> datetime:
        """The end, as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.expiry, UTC)

    @property
    def expiration(self) -> str:
        """The end as `YYYY-MM-DDTHH:MM:SSZ`, the only form that every SDK parses."""
        return self.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def to_dict(self) -> dict[str, str]:
        """Return access_key, secret_key, session_token and expiration: secrets, not for a log."""
        return {
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "session_token": self.session_token,
            "expiration": self.expiration,
        }
