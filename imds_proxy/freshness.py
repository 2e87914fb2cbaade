"""How long credentials are good for whom: plain decisions, all times in seconds.

The numbers come from what real clients do. s3fs asks again below 20 minutes, botocore and Java v1
below 15 and some of them then sign with keys that botocore "extended"; below 5 minutes Go, awscrt and
Ruby ask on every request; below 15 seconds the JavaScript SDK v2 hangs.
"""

from __future__ import annotations

COMFORTABLE = 25 * 60
"""What a client should get at least; with less, a renewal is worth waiting for."""

LAST_MINUTE = 60
"""Credentials with no more than this are not offered at LIST or ROLE ..."""

LAST_AFTER_LIST = 45
"""... but a ROLE whose LIST has just named the role gets them down to this: an error there kills clients."""

RENEWAL_WINDOW = 30 * 60
_RENEWAL_SPREAD = 0.10
_LONG_LIFETIME = 60 * 60 - 15
"""What an hour may have become on its way: STS cuts the end to whole seconds, its answer takes up to 10 s."""

REFUSAL_MEMORY = 10
"""AccessDenied with nothing held is believed this long."""

HELD_REFUSAL_RETRY = 5 * 60
"""AccessDenied for a renewal: the credentials at hand are served on, STS is asked again after this."""

SHORT_RENEWAL_RETRY = 60
"""A renewal that again brought less than COMFORTABLE is not repeated sooner."""

_FIRST_BACK_OFF = 0.5
_LAST_BACK_OFF = 5.0
_LAST_BACKGROUND_BACK_OFF = 60.0


def renewal_time(received: float, expiry: float, spread: float) -> float:
    """Return when to renew credentials behind the callers' back.

    With 30 minutes left, up to 10 % of that earlier by `spread` (0..1, so that a fleet that started
    together does not renew together) and never later; where STS gave less than an hour, with half of
    it left, but not less than 25 minutes.
    """
    lifetime = expiry - received
    window = RENEWAL_WINDOW if lifetime >= _LONG_LIFETIME else max(lifetime / 2, COMFORTABLE)
    return expiry - window * (1 + _RENEWAL_SPREAD * spread)


def is_usable(expiry: float, now: float, *, least: float = LAST_MINUTE) -> bool:
    """Tell whether credentials may be handed out: they live longer than `least`."""
    return expiry - now > least


def is_comfortable(expiry: float, now: float) -> bool:
    """Tell whether credentials live long enough that no client will ask again at once."""
    return expiry - now >= COMFORTABLE


def back_off(failures: int, *, in_background: bool = False) -> float:
    """Return how long to leave STS alone after so many failures in a row (1 or more)."""
    last = _LAST_BACKGROUND_BACK_OFF if in_background else _LAST_BACK_OFF
    return float(min(last, _FIRST_BACK_OFF * 2 ** min(failures - 1, 16)))
