"""Faults that the AWS stand-in can be told to show on AssumeRole, while it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields

ERRORS = {
    "throttling": (400, "Throttling", "Rate exceeded"),
    "internal_failure": (500, "InternalFailure", "We encountered an internal error. Please try again."),
    "unavailable": (503, "ServiceUnavailable", "Service is unavailable"),
    "access_denied": (
        403,
        "AccessDenied",
        "User: {signer} is not authorized to perform: sts:AssumeRole on resource: {role}",
    ),
    "expired_token": (403, "ExpiredToken", "The security token included in the request is expired"),
    "invalid_client_token": (
        403,
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
    ),
    "signature_mismatch": (
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your AWS "
        "Secret Access Key and signing method. Consult the service documentation for details.",
    ),
}
"""Kinds that answer with an error: status, code and message as real STS words them."""

BEHAVIOURS = frozenset({"delay", "empty", "lifetime", "malformed", "reset", "hang"})
"""Kinds that do something else: wait `seconds`, give credentials that live `seconds`, an answer cut short,
one without a secret key, reset the connection, never answer."""

SECRET_IN_MALFORMED = "secret/of/an/answer/that/was/cut/short/0"
"""The secret key in a `malformed` answer: parsers quote what they can't read, logs must not."""

MALFORMED = (
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAAAAAAAAAAAAAAAAA</AccessKeyId>"
    f"<SecretAccessKey>{SECRET_IN_MALFORMED}</SecretAccessKey><SessionTok"
)

EMPTY = (
    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAAAAAAAAAAAAAAAAA</AccessKeyId>"
    "<SecretAccessKey/><SessionToken>token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>"
    "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
)


@dataclass
class Fault:
    """One fault; several may be on at once, then each does its part (delays first)."""

    kind: str
    seconds: float = 0
    """For `delay` and `lifetime`."""
    role: str | None = None
    """Only for this role name; None: for all."""
    times: int | None = None
    """How often it shows itself; None: until the faults are changed."""

    def __post_init__(self) -> None:
        if self.kind not in BEHAVIOURS and self.kind not in ERRORS:
            raise ValueError(
                f"unknown fault {self.kind!r}; known: {', '.join(sorted(BEHAVIOURS | set(ERRORS)))}"
            )


class Faults:
    """The faults that are on now."""

    def __init__(self) -> None:
        self._active: list[Fault] = []

    def replace(self, specifications: list[dict[str, object]]) -> None:
        """Switch to exactly these faults. Raises ValueError for an unknown kind or key."""
        known = {field.name for field in fields(Fault)}
        for specification in specifications:
            if unknown := set(specification) - known:
                raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(known)}")
        self._active = [Fault(**specification) for specification in specifications]  # type: ignore[arg-type]  # from JSON, checked by kind

    def take(self, role_name: str) -> list[Fault]:
        """Return what one AssumeRole of this role has to suffer, delays first, and count it."""
        hits = [fault for fault in self._active if fault.role in {None, role_name} and fault.times != 0]
        for fault in hits:
            if fault.times is not None:
                fault.times -= 1
        return sorted(hits, key=lambda fault: fault.kind != "delay")
