"""Why requests are turned away, and what others fail of, as the metrics count it: by a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import RefusalKind, TroubleKind
from tests.standins.wire import ROLES_PATH, TOKEN_PATH
from tests.web.machines import BAR_ROLE, DENIED, FOO, FOREIGN, NAMELESS, OUTSIDE, site_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.standins.wire import WireCaller
    from tests.web.conftest import StartSite


def counted(site: RunningSite) -> dict[str, float]:
    """Return what was turned away or failed so far, by reason."""
    metrics = site.metrics
    return {
        key[0]: n for tally in (metrics.refusals, metrics.troubles) for key, n in tally.read().items() if n
    }


def ask_by_proxy(caller: WireCaller) -> int:
    return caller.get("/latest/", None, ("X-Forwarded-For", "10.0.0.5")).status


def ask_by_name(caller: WireCaller) -> int:
    return caller.ask("GET", "/latest/", host="attacker.example").status


def ask_without_token(caller: WireCaller) -> int:
    return caller.get(ROLES_PATH).status


def ask_with_a_bad_token(caller: WireCaller) -> int:
    return caller.get(ROLES_PATH, "x" * 56).status


def list_role(caller: WireCaller) -> int:
    return caller.get(ROLES_PATH, caller.fetch_token()).status


def ask_for_another_role(caller: WireCaller) -> int:
    token = caller.fetch_token()
    caller.fetch_role(token)
    return caller.get(ROLES_PATH + BAR_ROLE, token).status


def ask_for_a_token(caller: WireCaller) -> int:
    return caller.ask("PUT", TOKEN_PATH).status


@pytest.mark.parametrize(
    ("source", "ask", "status", "reason"),
    [
        (OUTSIDE, ask_for_a_token, 403, RefusalKind.NOT_ADMITTED),
        (FOO, ask_by_name, 403, RefusalKind.FOREIGN_HOST),
        (FOO, ask_by_proxy, 403, RefusalKind.FORWARDED),
        (FOO, ask_without_token, 401, RefusalKind.NO_TOKEN),
        (FOO, ask_with_a_bad_token, 401, RefusalKind.BAD_TOKEN),
        (DENIED, list_role, 404, RefusalKind.DENIED),
        (FOREIGN, list_role, 404, RefusalKind.FOREIGN_DOMAIN),
        (FOO, ask_for_another_role, 404, RefusalKind.OTHER_ROLE),
    ],
)
def test_reasons(
    start_site: StartSite, source: str, ask: Callable[[WireCaller], int], status: int, reason: str
) -> None:
    """Each request that is turned away is counted, under its reason and no other."""
    site = start_site()
    assert ask(site.caller(source)) == status
    found = counted(site)
    # A LIST that comes before the keys is a 503 on a busy machine, and asked again.
    found.pop(TroubleKind.LATE, None)
    assert found == {reason: 1}


def test_what_aws_refuses(start_site: StartSite, sts: LittleSts) -> None:
    """AccessDenied is a refusal by AWS; what takes longer than a caller waits is late, whoever it is."""
    site = start_site()
    sts.refuse(403, "AccessDenied")
    assert list_role(site.caller()) == 404
    assert counted(site)[RefusalKind.STS] == 1
    other = start_site()
    sts.accept()
    sts.hold()
    try:
        assert list_role(other.caller()) == 503
    finally:
        sts.release()
    assert counted(other) == {TroubleKind.LATE: 1}


def test_names_that_can_not_be_looked_up(start_site: StartSite, sts: LittleSts) -> None:
    """A dead name server is trouble with DNS; the look-up is counted, and a reload forgets no count."""
    site = start_site()
    assert list_role(site.caller(NAMELESS)) == 503
    assert set(counted(site)) <= {TroubleKind.DNS, TroubleKind.LATE}
    failed = site.metrics.lookups.read()[("failed",)]
    assert failed >= 1
    assert sum(site.metrics.lookup_seconds.buckets) == sum(site.metrics.lookups.read().values())
    site.replace(site_settings(sts))
    assert site.metrics.lookups.read()[("failed",)] == failed
