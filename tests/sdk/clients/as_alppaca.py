"""Asks as alppaca does, with the library that it asks with: prints what it would keep and serve, as JSON.

PyPI does not have alppaca. What its source says, and this does: both requests are `requests.get` with
nothing but a URL, no token, no time-out; the URL is made of three settings and a path that ends in a slash;
any status but 200 and an empty text are "no role"; the list is split at line feeds, the lines are stripped; a
role whose document can't be had is left out; a document is kept as the text it is; the earliest `Expiration`,
compared as text and read with its time zone, says when to ask again.
"""

import json
import sys
from datetime import UTC, datetime

import requests

ims_protocol, ims_host, ims_port = sys.argv[1:]
URL = f"{ims_protocol}://{ims_host}:{ims_port}/latest/meta-data/iam/security-credentials/"


def fetch(role: str = "") -> str | None:
    """Return a text, or None for what alppaca takes for nothing."""
    answer = requests.get(URL + role)
    return answer.text if answer.status_code == 200 and answer.text else None


listed = fetch()
if listed is None:
    sys.exit("no roles")
documents = {role: fetch(role) for role in (line.strip() for line in listed.split("\n"))}
kept = {role: text for role, text in documents.items() if text is not None}
if not kept:
    sys.exit("no credentials")
expiration = min(json.loads(text)["Expiration"] for text in kept.values())
seconds_left = (datetime.fromisoformat(expiration) - datetime.now(UTC)).total_seconds()
sys.stdout.write(json.dumps({"documents": kept, "seconds_left": seconds_left}) + "\n")
