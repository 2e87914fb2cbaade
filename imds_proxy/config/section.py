"""What all sections of the settings have in common, and what those of listeners share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Who may talk to a listener on a loopback address when nothing is said."""

SECRET_HEADER = "X-Imds-Proxy-Secret"  # noqa: S105  a header's name
"""In which a trusted proxy shows its secret when nothing is said."""

# None stands for a key that is left out until a validator has put in what it stands for.
LEFT_OUT: Any = None


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def hide_default(schema: dict[str, Any]) -> None:
    """Keep out of the editor's schema what stands for a default that depends on other settings."""
    schema.pop("default", None)


def fill_in_callers(callers: object, info: ValidationInfo) -> object:
    """Return a listener's `callers`: as they stand, or loopback for one on a loopback address."""
    if callers is not LEFT_OUT:
        return callers
    address = info.data.get("address")
    if address is not None and not address.ip.is_loopback:
        raise ValueError(
            f"is required, because {address} is not a loopback address: "
            "list the networks that may talk to it ([] allows nobody)"
        )
    return LOOPBACK


def fill_in_provider(provider: object, info: ValidationInfo) -> object:
    """Return a listener's `provider`: a known name, or the only one there is."""
    known = (info.context or {}).get("providers")
    if known is None or (provider is LEFT_OUT and not known):
        return provider or "provider"
    if provider is LEFT_OUT:
        if len(known) > 1:
            raise ValueError(f"is required: there are several, {', '.join(sorted(known))}")
        return next(iter(known))
    if isinstance(provider, str) and provider not in known:
        raise ValueError(f"no provider {provider!r}; known: {', '.join(sorted(known)) or 'none'}")
    return provider
