"""The doctor on our own key, the clock, a role; and on checks that break."""

from __future__ import annotations

import asyncio

import pytest

from imds_proxy.doctor.checkup import Check, run_check
from imds_proxy.doctor.findings import Finding, describe, fault, ok, skipped, summarise, warning
from imds_proxy.doctor.own_key import judge_clock, judge_key, judge_names, judge_role, judge_synchronisation
from imds_proxy.doctor.programs import UnavailableError, read_output, run_program
from imds_proxy.errors import AWSError
from imds_proxy.explain import Explanation, NameFound
from imds_proxy.model import OwnKey

ARN = "arn:aws:iam::000123456789:user/gateway"
GRANTED = Explanation(
    "10.77.1.1",
    "granted",
    "rule",
    (),
    (NameFound("foo.valid.example", confirmed=True, allowed=True),),
    role_arn="arn:aws:iam::000123456789:role/r",
    session_name="foo.valid.example",
)


@pytest.mark.parametrize(
    ("key", "is_daemons", "level"),
    [
        (OwnKey(arn=ARN), True, "ok"),
        (OwnKey(arn=ARN), False, "ok"),
        (OwnKey(trouble="InvalidClientTokenId", is_refused=True), True, "fault"),
        (OwnKey(trouble="NoCredentialsError", is_refused=True), False, "skipped"),
        (OwnKey(trouble="EndpointConnectionError"), True, "fault"),
        (OwnKey(trouble="EndpointConnectionError"), False, "fault"),
    ],
)
def test_key(key: OwnKey, *, is_daemons: bool, level: str) -> None:
    """The unit's key can't be asked for without the unit; an STS out of reach is out of everybody's."""
    found = judge_key(key, is_daemons=is_daemons)
    assert found.level == level
    assert (key.arn or key.trouble or "") in found.fact


@pytest.mark.parametrize(
    ("offset", "level"),
    [
        (None, "skipped"),
        (0.4, "ok"),
        (-59, "ok"),
        (61, "warning"),
        (-200, "warning"),
        (241, "fault"),
        (-3600, "fault"),
    ],
)
def test_clock(offset: float | None, level: str) -> None:
    """More than a minute is told of; from four minutes on it is a matter of time until STS refuses."""
    found = judge_clock(offset)
    assert found.level == level
    assert ("behind" in found.fact) == (offset is not None and offset < 0)


def test_synchronisation() -> None:
    """What timedatectl says."""
    assert [judge_synchronisation(value).level for value in ("yes", "no", "")] == ["ok", "warning", "warning"]


def test_role() -> None:
    """A refusal of a caller that the operator has named is a fault, of one that was picked it is not."""
    refused = Explanation("10.77.1.1", "refused", "no", ())
    assert judge_role(GRANTED, is_wanted=True, is_daemons=True).level == "ok"
    assert judge_role(refused, is_wanted=True, is_daemons=True).level == "fault"
    assert judge_role(refused, is_wanted=False, is_daemons=True).level == "skipped"
    denied = Explanation("10.77.1.1", "refused", "AccessDenied", (), role_arn=GRANTED.role_arn)
    assert judge_role(denied, is_wanted=False, is_daemons=True).level == "fault"
    assert judge_role(denied, is_wanted=False, is_daemons=False).level == "skipped"


def test_names() -> None:
    """A name counts that is confirmed and allowed."""
    assert judge_names(GRANTED).level == "ok"
    strange = NameFound("foo.evil.example", confirmed=True, allowed=False)
    assert judge_names(Explanation("10.77.1.1", "refused", "no", (), (strange,))).level == "fault"
    assert judge_names(Explanation("10.77.1.1", "granted", "map", ())).level == "ok"


# --- checks and programs ---------------------------------------------------------------------------


async def _hang() -> list[Finding]:
    await asyncio.sleep(3600)
    return []


async def _refuse() -> list[Finding]:
    raise UnavailableError("nft is not installed")


async def _have_trouble() -> list[Finding]:
    raise AWSError("no", code="X")


async def _break() -> list[Finding]:
    raise KeyError("secret")


async def test_checks_that_break() -> None:
    """Whatever happens in a check, it is a finding; the text of an unexpected error is nobody's to read."""
    for look, level in (
        (_hang, "skipped"),
        (_refuse, "skipped"),
        (_have_trouble, "warning"),
        (_break, "skipped"),
    ):
        (found,) = await run_check(Check("x", look, patience=0.05))
        assert (found.title, found.level) == ("x", level)
        assert "secret" not in found.fact


async def test_programs() -> None:
    """A program that is missing, fails or hangs is told apart from one that says something."""
    assert (await run_program("sh", "-c", "echo a; echo b >&2; exit 3")).status == 3
    assert await read_output("sh", "-c", "echo a") == "a\n"
    with pytest.raises(UnavailableError, match="not installed"):
        await read_output("imds-proxy-no-such-program")
    with pytest.raises(UnavailableError, match="why"):
        await read_output("sh", "-c", "echo why >&2; exit 1")
    with pytest.raises(UnavailableError, match="did not end"):
        await run_program("sleep", "60", patience=0.05)


def test_lines() -> None:
    """A line for the fact, one for the remedy; the end counts them."""
    findings = [
        ok("a", "well"),
        warning("b", "odd", "look"),
        fault("c", "bad", "do"),
        skipped("d", "no root"),
    ]
    lines = [line for one in findings for line in describe(one)]
    assert [line.split()[0] for line in lines] == ["ok", "warning", "->", "fault", "->", "skipped"]
    assert lines[0] == "ok      a: well"
    assert summarise(findings) == "1 ok, 1 warning, 1 fault, 1 skipped"
