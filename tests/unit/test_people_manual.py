"""docs/people.md: its figures are the program's, and so are the messages and statuses that it explains."""

from __future__ import annotations

import re

import pytest

from imds_proxy.inquiry import PROVIDER_PATIENCE
from imds_proxy.people_commands import DEFAULT_SOCKET
from imds_proxy.web import basic, login_throttle, page_tokens
from tests.standins import manual
from tests.standins.manual import ROOT

PAGE = "docs/people.md"
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "imds_proxy" / "web").glob("*.py")))
ROWS = manual.rows(manual.section(PAGE, "If it does not work"))
QUOTED = [
    phrase.removesuffix(" ...")
    for row in ROWS
    for phrase in re.findall(r"`([^`]+)`", row[0])
    if re.match(r"\d{3} `", row[0])
]


def test_there_are_messages_to_look_for() -> None:
    """The test after this one has something to do."""
    assert len(QUOTED) >= 5


@pytest.mark.parametrize("message", QUOTED)
def test_messages_are_the_programs(message: str) -> None:
    """A person who searches the page for what they see finds it."""
    assert message in SOURCES


def test_every_status_is_explained() -> None:
    """Those that the listener for people answers with, but for success and the page's redirect."""
    sent = set(re.findall(r"Denial\((\d{3})", SOURCES)) | set(
        re.findall(r"_deny\(\w+, \w+, (\d{3})", SOURCES)
    )
    assert {status for row in ROWS for status in re.findall(r"\b\d{3}\b", row[0])} == sent


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("Passwords by LDAP", f"waits {login_throttle.FIRST_DELAY:g} s"),
        ("Passwords by LDAP", f"{login_throttle.LONGEST_DELAY:g} s at most, per address and user"),
        ("Passwords by LDAP", f"waits {login_throttle.PLACE_PATIENCE:g} s at most"),
        ("Passwords by LDAP", f"remembered for {basic.SUCCESS_MEMORY:g} s"),
        ("In a browser", f"for {page_tokens.PAGE_TOKEN_LIFE // 3600} hours"),
        ("If it does not work", f"longer than {PROVIDER_PATIENCE:g} s"),
        ("Commands", f"`{DEFAULT_SOCKET}`"),
    ],
)
def test_figures_are_the_programs(heading: str, text: str) -> None:
    """Each is where the page tells of it."""
    assert text in manual.section(PAGE, heading)


def test_ten_minutes_forget_failures() -> None:
    """Written out in words."""
    assert login_throttle.FAILURES_LAST == 600
    assert "ten minutes without a failure" in manual.section(PAGE, "Passwords by LDAP")
