"""How `imds-proxy explain` gets its answer: from the running daemon, or by deciding for itself."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from imds_proxy import admin_client
from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.errors import Trouble
from imds_proxy.explain import Explanation, NameFound, explain
from imds_proxy.metrics import Metrics
from imds_proxy.site import build_decisions
from imds_proxy.sts import StsThreads

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.model import IPAddress
    from imds_proxy.registry import Loaded

_OK = 200


def ask_daemon(
    address: IPAddress, path: Path | None, *, workload: str | None = None, assumes: bool
) -> Explanation:
    """Return the daemon's explanation. Raises Trouble, naming `--offline`, when no daemon answers."""
    asked = {"address": str(address), "assume": "1" if assumes else "0"}
    if workload is not None:
        asked["workload"] = workload
    query = urlencode(asked)
    try:
        status, body = admin_client.ask(path, "GET", f"/explain?{query}")
    except Trouble as error:
        raise Trouble(f"{error}; --offline decides without it") from error
    if status != _OK:
        raise Trouble(f"the daemon on {path} answered {status}: {body.decode(errors='replace').strip()}")
    return parse_explanation(body)


def parse_explanation(body: bytes) -> Explanation:
    """Return the explanation in a daemon's JSON answer. Raises Trouble when it is not one."""
    try:
        fields = json.loads(body)
        fields["names"] = tuple(NameFound(**name) for name in fields["names"])
        fields["steps"] = tuple(fields["steps"])
        return Explanation(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise Trouble("the daemon's answer is no explanation; is it another version?") from error


def explain_offline(
    address: IPAddress, loaded: Loaded, *, workload: str | None = None, assumes: bool
) -> Explanation:
    """Return the explanation by this configuration, from here. Raises Trouble without name servers."""
    assert loaded.configuration is not None
    threads = StsThreads(threads=1)
    decisions = build_decisions(
        loaded.configuration,
        loaded.providers,
        sts_threads=threads,
        metrics=Metrics(),
        clock=SYSTEM_CLOCK,
        warn=logging.getLogger(__name__).warning,
    )
    sts = decisions.sts if assumes else None
    try:
        return asyncio.run(explain(address, decisions.doors, workload=workload, sts=sts, clock=SYSTEM_CLOCK))
    finally:
        threads.close()
