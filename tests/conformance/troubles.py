"""What may go wrong around a client, and what each client makes of it: what test_faults.py proves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Outcome(StrEnum):
    """What somebody sees who uses a client; the value is the text of the page."""

    SERVED = "served"
    """Every answer was the object."""
    LATER = "error, then served"
    """An error while it lasted, the object from the same process once it was over."""
    NEVER = "error for good"
    """An error while it lasted, and from the same process ever after."""
    ENDED = "ends"
    """The program ended by itself, with a status of its own."""
    SILENT = "no answer"
    """It was silent for too long."""
    DEAD = "dead keys"
    """It went on with keys past their end."""


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong, and later right again."""

    name: str
    title: str
    """For the page: the column."""
    meaning: str
    """For the page, in Markdown."""
    usual: frozenset[Outcome]
    """What a client makes of it unless EXCEPTIONS says otherwise; several where it is a matter of chance."""
    faults: tuple[Mapping[str, object], ...] = ()
    """What STS suffers while it lasts (tests/standins/sts_faults.py)."""
    seconds_left: int | None = None
    """How long the session lives that the daemon holds when it begins; None: it holds nothing."""
    asks: int = 1
    """How often the client asks while it lasts."""
    outlives_keys: bool = False
    """Whether it lasts until the keys that the client got first are past their end; then it asks again."""
    pause: float = 0
    """Seconds between its end and the next question: for as long the daemon may leave STS alone."""
    is_restart: bool = False
    """Whether the daemon that answered first is gone when the client asks on."""
    has_successor: bool = False
    """Of a restart: whether the next daemon listens by then."""
    is_forbidden: bool = False
    """Whether the role may not read the object."""


_SERVED = frozenset({Outcome.SERVED})
_LATER = frozenset({Outcome.LATER})
_EITHER = _SERVED | _LATER

TROUBLES = (
    Trouble(
        "restarted",
        "restart",
        "the daemon is restarted between TOKEN and LIST, and has nothing in its caches",
        _EITHER,
        is_restart=True,
        has_successor=True,
    ),
    Trouble(
        "gone",
        "daemon gone",
        "the daemon ends between TOKEN and LIST, and is back later",
        _EITHER,
        is_restart=True,
    ),
    Trouble(
        "slow",
        "STS 0.4 s",
        "AssumeRole takes 0.4 s, and the daemon holds nothing",
        _SERVED,
        faults=({"kind": "delay", "seconds": 0.4},),
    ),
    Trouble(
        "slower",
        "STS 4 s",
        "AssumeRole takes 4 s, and the daemon holds nothing",
        _EITHER,
        faults=({"kind": "delay", "seconds": 4},),
        pause=4,
    ),
    Trouble(
        "throttled",
        "throttled",
        "STS throttles, and the daemon holds nothing",
        _LATER,
        faults=({"kind": "throttling"},),
        pause=5,
    ),
    Trouble(
        "down",
        "STS down",
        "STS can't be reached, and the daemon holds nothing",
        _LATER,
        faults=({"kind": "reset"},),
        pause=5,
    ),
    Trouble(
        "refused",
        "refused",
        "STS refuses the role (404 at LIST), and allows it 10 s later",
        _LATER,
        faults=({"kind": "access_denied"},),
        pause=10,
    ),
    Trouble(
        "forbidden",
        "forbidden",
        "the role may not read the object, and may later",
        _LATER,
        is_forbidden=True,
    ),
    Trouble(
        "26-minutes",
        "26 min",
        "STS is down, and the daemon holds a session of an hour with 26 minutes left",
        _SERVED,
        faults=({"kind": "reset"},),
        seconds_left=26 * 60,
        asks=2,
    ),
    Trouble(
        "24-minutes",
        "24 min",
        "the same with 24 minutes left, and STS hangs",
        _SERVED,
        faults=({"kind": "hang"},),
        seconds_left=24 * 60,
        asks=2,
    ),
    Trouble(
        "16-minutes",
        "16 min",
        "with 16 minutes left, and STS throttles",
        _SERVED,
        faults=({"kind": "throttling"},),
        seconds_left=16 * 60,
        asks=2,
    ),
    Trouble(
        "6-minutes",
        "6 min",
        "with 6 minutes left, and STS refuses the role",
        _SERVED,
        faults=({"kind": "access_denied"},),
        seconds_left=6 * 60,
        asks=2,
    ),
    Trouble(
        "last-minute",
        "50 s",
        "with 50 seconds left, which the daemon no longer hands out",
        _LATER,
        faults=({"kind": "unavailable"},),
        seconds_left=50,
        pause=5,
    ),
    Trouble(
        "past-the-end",
        "past the end",
        "with 90 seconds left: the client is served, and asks again once they are over",
        _LATER,
        faults=({"kind": "unavailable"},),
        seconds_left=90,
        outlives_keys=True,
        pause=5,
    ),
)

_NEVER = frozenset({Outcome.NEVER})
_DEAD = frozenset({Outcome.DEAD})
_NOTHING_HELD = ("gone", "slower", "throttled", "down", "refused", "last-minute")
"""Troubles in which a client's first look for credentials may find none."""

_LOOKS_ONCE: Mapping[str, frozenset[Outcome]] = {
    "restarted": _SERVED | _NEVER,
    **dict.fromkeys(_NOTHING_HELD, _NEVER),
}
"""A client that looks for credentials when it is made, and never again if there were none."""

# What s3fs does when its mount outlives the keys was another thing in each run.
EXCEPTIONS: Mapping[str, Mapping[str, frozenset[Outcome]]] = {
    "boto3": {**_LOOKS_ONCE, "past-the-end": _DEAD},
    "boto3 of 2019": _LOOKS_ONCE,
    "boto 2": {"past-the-end": _DEAD},
    "aiobotocore": {**_LOOKS_ONCE, "past-the-end": _DEAD},
    "AWS SDK for C++ in pyarrow": {"past-the-end": _DEAD},
    "AWS SDK for Go 2": {"past-the-end": _DEAD},
    "AWS SDK for Java 2": {"past-the-end": _DEAD},
    "AWS SDK for Java 1": {"past-the-end": _DEAD},
    "AWS SDK for Rust": {"past-the-end": _DEAD},
    "s3fs": {
        "restarted": _SERVED | _NEVER,
        **dict.fromkeys(_NOTHING_HELD, frozenset({Outcome.NEVER, Outcome.ENDED})),
        **dict.fromkeys(("last-minute", "past-the-end"), frozenset(Outcome) - _SERVED),
    },
    "AWS SDK for Ruby 3": {**_LOOKS_ONCE, "past-the-end": _DEAD},
}
"""Client -> trouble -> what it makes of it, where that is not the usual."""

EMPTY_FOR_ERROR = frozenset({"rclone", "s3fs"})
"""Clients that at times give nothing, and say that all is well, where others have an error."""


def allowed_outcomes(client: str, trouble: Trouble) -> frozenset[Outcome]:
    """Return what a client may make of a trouble."""
    return EXCEPTIONS.get(client, {}).get(trouble.name, trouble.usual)


_HEAD = """\
## What each does in trouble

The same clients, each in one process per trouble, asked while it lasted and again once it was over
(reached as in *nothing set*, or as in *IMDSv1*; *container* as in *container, token*). None crashed, none
asked the daemon in a loop, and S3 saw no keys of another caller. Each answered within a minute, but for
s3fs, whose mount may hang when its keys have ended.

- **served**: the object, every time
- **error, then served**: an error while it lasted; the same process had the object once it was over
- **error for good**: the same client object never asks again; a new one does. s3fs leaves a dead mount
- **ends**: with a status of its own, before there is a mount
- **dead keys**: it got keys with less to live than it likes, and went on signing with them after their
  end, whatever it was told since. The daemon gives such keys only when STS has failed for half an hour
"""

_NOTES = """\
Not the daemon's doing: version 2 of JavaScript's SDK exits with 1 when its token file ends in a newline,
and goes on to 169.254.169.254 when a container endpoint answers with an error, as version 2 of Java's
does: where that address is reachable, they get the role of their own address. Version 3 without a region
asks for one again only after a minute. Go's version 2 waits 6 to 11 s before its error. rclone repeats for
more than a minute unless `--retries 1 --low-level-retries 1`, as here.
pyarrow and Java 1 ask S3 anonymously when they have no keys. A restart closes the connection of TOKEN:
some clients find that out only when they ask for the role on it, and do not try again (JavaScript 3,
s3cmd, at times botocore). `rclone cat` and s3fs may give an empty object instead of an error.
"""


def render_troubles(cases: Sequence[str]) -> str:
    """Return the page's section about these clients, by the names that allowed_outcomes takes."""
    lines = [_HEAD, "| column | what happens |", "|---|---|"]
    lines += [f"| {trouble.title} | {trouble.meaning} |" for trouble in TROUBLES]
    lines += ["", f"| client | {' | '.join(trouble.title for trouble in TROUBLES)} |"]
    lines.append("|---" * (1 + len(TROUBLES)) + "|")
    for case in cases:
        allowed = (allowed_outcomes(case, trouble) for trouble in TROUBLES)
        cells = (" or ".join(outcome for outcome in Outcome if outcome in some) for some in allowed)
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _NOTES])
