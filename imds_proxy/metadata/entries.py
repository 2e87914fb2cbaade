"""What the values of the tree look like. Settings are checked by it, and so is what comes of templates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from imds_proxy.names import parse_host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_VALUE = 256
"""Characters: what EC2 gives the value of a tag."""

_WORDS = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+,@-]*")


def is_value(text: str) -> bool:
    """Tell whether `text` is one line of ASCII that neither begins nor ends with a space."""
    return len(text) <= LONGEST_VALUE and _WORDS.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Tell whether `text` is fit for an instance id: cloud-init makes it the name of a folder."""
    return len(text) <= LONGEST_VALUE and _ID.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Tell whether `text` is a host name as names are compared: in lower case, without a last dot."""
    return parse_host_name(text) == text


RULES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "hostname": (is_host_name, "a host name in lower case"),
    "instance_id": (is_id, f"letters, digits and . _ : = + , @ - (at most {LONGEST_VALUE} of them)"),
}
"""Per key of a level what its value has to be, and how that is said."""

_ANY = (is_value, f"one line of ASCII, 1 to {LONGEST_VALUE} characters, no space at its ends")


def rule_of(key: str) -> tuple[Callable[[str], bool], str]:
    """Return what the value of `key` has to be and how that is said."""
    return RULES.get(key, _ANY)
