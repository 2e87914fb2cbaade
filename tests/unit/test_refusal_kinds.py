"""Refusals and troubles by kind, from whoever raises them to the verdict and to what is counted."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import OverloadError, ProviderError, Refusal, RefusalKind, Trouble, TroubleKind
from imds_proxy.model import Grant
from tests.standins.core import ADDRESS, NAME, Core, deny, running_core
from tests.standins.scripted_provider import ScriptedProvider
from tests.standins.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER_NAME = "tuvbar42.valid.example"


def no_name(_: Core) -> None:
    """Nothing is known of the address."""


def foreign_domain(core: Core) -> None:
    core.dns.add_host(ADDRESS, "tuvfoo42.evil.example")


def no_host_name(core: Core) -> None:
    core.dns.set_pointers(ADDRESS, (b"a.b", b"valid", b"example"))


def not_confirmed(core: Core) -> None:
    core.dns.set_pointers(ADDRESS, NAME, "tuvfoo42.evil.example")


def many_names(core: Core) -> None:
    core.dns.add_host(ADDRESS, *(f"tuvfoo{number}.valid.example" for number in range(9)))


def no_grant(core: Core) -> None:
    core.dns.add_host(ADDRESS, "short.valid.example")


def dns(core: Core) -> None:
    core.dns.fail()


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (no_name, RefusalKind.NO_NAME),
        (foreign_domain, RefusalKind.FOREIGN_DOMAIN),
        (no_host_name, RefusalKind.FOREIGN_DOMAIN),
        (not_confirmed, RefusalKind.NOT_CONFIRMED),
        (many_names, RefusalKind.MANY_NAMES),
        (no_grant, RefusalKind.NO_GRANT),
        (dns, TroubleKind.DNS),
    ],
)
@in_virtual_time
async def test_by_names(
    tmp_path: Path, prepare: Callable[[Core], None], kind: RefusalKind | TroubleKind
) -> None:
    """What is wrong with a caller's names; the denial that is counted says the same."""
    with running_core(tmp_path) as core:
        prepare(core)
        await core.round()
        verdict = core.standing().verdict
        assert verdict is not None
        assert (verdict.kind, verdict.denial().kind) == (kind, kind)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (frozenset(), RefusalKind.NO_GRANT),
        (Refusal("none of mine"), RefusalKind.NO_GRANT),
        (frozenset({Grant("main", "a", "x"), Grant("main", "b", "x")}), RefusalKind.SEVERAL_ROLES),
        (frozenset({Grant("elsewhere", "a", "x")}), RefusalKind.UNKNOWN_ACCOUNT),
        (ValueError("broken"), TroubleKind.PROVIDER),
        (OverloadError("full"), TroubleKind.OVERLOAD),
    ],
)
@in_virtual_time
async def test_by_the_provider(
    tmp_path: Path, answer: frozenset[Grant] | Exception, kind: RefusalKind | TroubleKind
) -> None:
    """What the provider's answer comes to."""
    provider = ScriptedProvider(() if isinstance(answer, Exception) else answer)
    provider.failure = answer if isinstance(answer, Exception) else None
    with running_core(tmp_path, provider=provider) as core:
        await core.round()
        verdict = core.standing().verdict
        assert verdict is not None
        assert verdict.denial().kind == kind


@pytest.mark.parametrize("denied", [ADDRESS, NAME])
@in_virtual_time
async def test_denied(tmp_path: Path, denied: str) -> None:
    """By address or by name."""
    with running_core(tmp_path, denied=deny(denied)) as core:
        core.dns.add_host(ADDRESS, NAME)
        await core.round()
        verdict = core.standing().verdict
        assert verdict is not None
        assert verdict.kind is RefusalKind.DENIED


@pytest.mark.parametrize(
    "error", [Refusal("x", kind=RefusalKind.STS), ProviderError("x"), Trouble("x")], ids=repr
)
def test_the_kind_travels_with_the_error(error: Refusal | Trouble) -> None:
    """Pickled, as between processes, it is what it was."""
    assert pickle.loads(pickle.dumps(error)).kind == error.kind


@in_virtual_time
async def test_the_soonest_end_of_what_is_wanted(tmp_path: Path) -> None:
    """Credentials that nobody asks for any more don't count, those that are asked for do."""
    with running_core(tmp_path) as core:
        core.dns.add_host(ADDRESS, NAME)
        assert core.cache.soonest_expiry(is_wanted=True) is None
        await core.round()
        end = core.cache.soonest_expiry()
        assert core.cache.soonest_expiry(is_wanted=True) == end
        core.cache.forget_demand()
        assert (core.cache.soonest_expiry(), core.cache.soonest_expiry(is_wanted=True)) == (end, None)
