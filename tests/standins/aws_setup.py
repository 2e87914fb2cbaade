"""docs/aws-setup.md as tests read it: its policies by name, its settings, and who is who in it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.standins import manual

PAGE = "docs/aws-setup.md"
DAEMON_ACCOUNT = "210987654321"
ROLES_ACCOUNT = "000123456789"
BUCKET_ACCOUNT = "345678901234"
DAEMON = f"arn:aws:iam::{DAEMON_ACCOUNT}:user/imds-proxy"
GATEWAY_ADDRESS = "203.0.113.7"
EXTERNAL_ID = "gateway-7f31"

_POLICY = re.compile(r"^<!--([a-z]+: [a-z0-9-]+)-->\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)

POLICIES: dict[str, str] = dict(_POLICY.findall(manual.read(PAGE)))
"""The JSON of each policy by `KIND: NAME`, which stands in a comment before it.

The kinds: `identity` (a user's or role's own), `trust`, `resource`, `scp` and `rcp`.
"""


def sample_settings() -> dict[str, Any]:
    """Return the settings that the page says go with it."""
    (block,) = [block for block in manual.blocks(PAGE) if block.kind == "yaml"]
    settings: dict[str, Any] = yaml.safe_load(block.text)
    return settings
