"""The machines of these tests: loopback addresses, the names they have and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.standins.aws_process import Aws
from tests.standins.daemon import settings_for
from tests.standins.wire import WireCaller

if TYPE_CHECKING:
    from tests.standins.daemon import Daemon
    from tests.standins.little_sts import LittleSts

ACCOUNT = "000123456789"
REGION = "eu-central-1"

FOO, FOO_NAME, FOO_ROLE = "127.0.0.1", "tuvfoo42.valid.example", "roleprefix-tuvfoo"
BAR, BAR_NAME, BAR_ROLE = "127.0.0.2", "berbar07.valid.example", "roleprefix-probar"
FOREIGN = "127.0.0.3"
"""Has a name in a domain that is not allowed."""
DENIED = "127.0.0.4"
"""Has a good name and stands under `deny`."""
NAMELESS = "127.0.0.5"
"""Is in no `hosts`, and no name server answers."""
OUTSIDE = "127.0.0.66"
"""Is in `callers_except`."""
SIX, SIX_NAME, SIX_ROLE = "::1", "tuvsix66.valid.example", "roleprefix-tuvsix"

HOSTS = {
    FOO: FOO_NAME,
    BAR: BAR_NAME,
    FOREIGN: "tuvfoo42.evil.example",
    DENIED: "tuvbaz01.valid.example",
    OUTSIDE: "tuvout01.valid.example",
    SIX: SIX_NAME,
}

V2, V1, DUAL = 0, 1, 2
"""The listeners by number: tokens needed; IMDSv1 too; both address families, IMDSv1 too."""

LISTENERS: list[dict[str, Any]] = [
    {"address": "127.0.0.1:0", "callers_except": [f"{OUTSIDE}/32"], "hosts": ["imds.rz.example"]},
    {"address": "127.0.0.1:0", "callers_except": [f"{OUTSIDE}/32"], "imds_v1": True},
    {
        "address": "[::]:0",
        "callers": ["127.0.0.0/8", "::1/128"],
        "callers_except": [f"{OUTSIDE}/32"],
        "imds_v1": True,
    },
]


def caller_of(daemon: Daemon, source: str = FOO, listener: int = 0) -> WireCaller:
    """Return a caller of one of a daemon's listeners."""
    port = daemon.addresses[listener].rpartition(":")[2]
    return WireCaller(("::1" if ":" in source else "127.0.0.1", int(port)), source)


def site_settings(sts: LittleSts, **sections: object) -> dict[str, Any]:
    """Return settings with these machines and listeners; `sections` replace whole sections."""
    defaults: dict[str, object] = {"listen": LISTENERS, "hosts": HOSTS, "deny": [DENIED]}
    aws = Aws(sts.url, "AKIAEXAMPLE", "our/own/secret/key")
    return settings_for(aws, **{**defaults, **sections})
