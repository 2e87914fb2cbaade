"""Queue in front of STS: one AssumeRole is one call, and belongs to those who wait for its role session.

A caller with many addresses would otherwise have a role session, and a thread, for each of them.
`turn_queue` has the rules. What is renewed behind the callers' back has few places, so that new callers
need not wait for it.
"""

from __future__ import annotations

from imds_proxy.turn_queue import Bounds, Lane, TurnQueue

PLACES = 36
"""AssumeRole calls at a time; each has a thread."""

NEW_PLACES = 24
"""Of these for sessions that have held nothing yet, whose callers have not had any either."""

RENEWAL_PLACES = 8
"""Of these for renewals behind the callers' back."""

PLACES_PER_NETWORK = 8
PLACES_PER_CALLER = 4
RENEWALS_PER_NETWORK = 4
RENEWALS_PER_CALLER = 2
LONGEST_QUEUE = 4096
LONGEST_QUEUE_PER_NETWORK = 256

NEW, KNOWN, RENEWAL = "new", "known", "renewal"

_BOUNDS = Bounds(
    lanes={
        NEW: Lane(places=NEW_PLACES, per_network=PLACES_PER_NETWORK, per_caller=PLACES_PER_CALLER),
        KNOWN: Lane(places=PLACES, per_network=PLACES_PER_NETWORK, per_caller=PLACES_PER_CALLER),
        RENEWAL: Lane(
            places=RENEWAL_PLACES, per_network=RENEWALS_PER_NETWORK, per_caller=RENEWALS_PER_CALLER
        ),
    },
    places=PLACES,
    longest=LONGEST_QUEUE,
    longest_per_network=LONGEST_QUEUE_PER_NETWORK,
    complaint="too many calls of STS wait for their turn",
)


def session_queue() -> TurnQueue:
    """Return an empty queue in front of STS."""
    return TurnQueue(_BOUNDS)
