"""loop_trouble: one line, no text of the exception, no flood."""

from __future__ import annotations

import asyncio
import logging

import pytest

from imds_proxy.clock import Clock
from imds_proxy.loop_trouble import LoopTroubles


def fail_with_a_secret() -> ValueError:
    try:
        raise ValueError("SecretAccessKey")
    except ValueError as error:
        return error


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that a loop's complaints at seconds 0, 1 and 11 leave in the log."""
    now = [0.0]
    troubles = LoopTroubles(Clock(wall=lambda: 0.0, monotonic=lambda: now[0]))
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.DEBUG):
        for second in (0.0, 1.0, 11.0):
            now[0] = second
            troubles.note(loop, {"message": "task failed", "exception": fail_with_a_secret()})
            troubles.note(loop, {"message": "lost", "exception": ConnectionResetError("gone")})
            troubles.note(loop, {"message": "accept", "exception": OSError(24, "too many")})
    loop.close()
    return caplog.messages


def test_the_text_of_an_exception_stays_out(told: list[str]) -> None:
    """The type and the place are told; the text, which may hold a key, is not."""
    assert "task failed (ValueError), raised in fail_with_a_secret" in told[0]
    assert "SecretAccessKey" not in "".join(told)


def test_a_flood_is_a_line_every_ten_seconds(told: list[str]) -> None:
    """The same complaint is told once in ten seconds; a caller that hangs up is not told at all."""
    assert [line.partition(" (")[0] for line in told] == ["task failed", "accept"] * 2
