"""Our own key, the clock and a role: what STS says of them, asked by the daemon, which has the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imds_proxy.doctor.findings import Finding, fault, ok, skipped, warning
from imds_proxy.doctor.programs import UnavailableError, read_output

if TYPE_CHECKING:
    from imds_proxy.explain import Explanation
    from imds_proxy.model import OwnKey

_WORRYING_OFFSET = 60.0
_REFUSED_OFFSET = 240.0
"""Seconds. AWS refuses a signature that is five minutes old or early ("Troubleshoot Signature Version 4")."""

_CLOCK_REMEDY = "timedatectl set-ntp true (or chronyc makestep): STS refuses requests whose time is wrong"
_KEY_REMEDY = "put a key into /etc/imds-proxy/aws-credentials, then systemctl restart imds-proxy.service"


def judge_key(own_key: OwnKey, *, is_daemons: bool) -> Finding:
    """Return whether STS knows our own key, and whose it is; the key itself is never shown."""
    title = "own key"
    asker = "the daemon's" if is_daemons else "by the configuration here, for no daemon could be asked"
    if own_key.arn is not None:
        return ok(title, f"{own_key.arn} ({asker})")
    if not own_key.is_refused:
        text = f"STS is out of reach: {own_key.trouble}"
        return fault(
            title, text, "see aws.https_proxy, aws.ca_bundle, aws.sts_endpoint and the firewall's way out"
        )
    if not is_daemons:
        return skipped(title, f"{own_key.trouble} ({asker}; the unit's key is in the unit alone)", _START)
    return fault(title, f"{own_key.trouble}", _KEY_REMEDY)


_START = "systemctl start imds-proxy.service, then again: imds-proxy doctor"


def judge_clock(offset: float | None) -> Finding:
    """Return whether the clock agrees with STS's; `offset` is by how many seconds it is ahead."""
    title = "clock"
    if offset is None:
        return skipped(title, "STS sent no date to compare with")
    way = "ahead of" if offset > 0 else "behind"
    text = f"{abs(offset):.0f} s {way} STS's"
    if abs(offset) >= _REFUSED_OFFSET:
        return fault(title, text, _CLOCK_REMEDY)
    if abs(offset) >= _WORRYING_OFFSET:
        return warning(title, text, _CLOCK_REMEDY)
    return ok(title, f"agrees with STS's ({text})")


async def examine_synchronisation() -> Finding:
    """Return whether the system says that its clock is kept right."""
    try:
        text = await read_output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    except UnavailableError as error:
        return skipped("NTP", str(error))
    return judge_synchronisation(text.strip())


def judge_synchronisation(value: str) -> Finding:
    """Return what timedatectl's NTPSynchronized says."""
    if value == "yes":
        return ok("NTP", "the clock is synchronised")
    return warning("NTP", "the clock is not synchronised", _CLOCK_REMEDY)


def judge_names(explanation: Explanation) -> Finding:
    """Return whether the address of a caller has a name that counts."""
    title = f"names of {explanation.address}"
    confirmed = [one.name for one in explanation.names if one.confirmed and one.allowed]
    if confirmed:
        return ok(title, f"{', '.join(confirmed)}, confirmed")
    remedy = f"imds-proxy explain {explanation.address}"
    if not explanation.names and explanation.outcome == "granted":
        return ok(title, "are not asked for: a map, or the provider decides without")
    return fault(title, f"none that counts ({explanation.reason})", remedy)


def judge_role(explanation: Explanation, *, is_wanted: bool, is_daemons: bool) -> Finding:
    """Return whether a caller's role could be assumed. `is_wanted`: the operator has named this caller."""
    title = f"role of {explanation.address}"
    where = "" if is_daemons else " (by the configuration here)"
    if explanation.outcome == "granted":
        return ok(title, f"{explanation.role_arn} was assumed, session {explanation.session_name}{where}")
    remedy = f"imds-proxy explain {explanation.address} --assume"
    if not is_daemons and explanation.role_arn is not None:
        return skipped(title, f"{explanation.reason}{where}", _START)
    if not is_wanted and explanation.role_arn is None:
        return skipped(title, f"{explanation.reason}{where}", "imds-proxy doctor --caller ADDRESS")
    return fault(title, f"{explanation.outcome}: {explanation.reason}{where}", remedy)
