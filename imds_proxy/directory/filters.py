"""LDAP search filters (RFC 4515): values are escaped, and a login name is compared whole or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass

USER = "{user}"

# The characters that mean something in a filter, RFC 4515 section 3.
_SPECIAL = str.maketrans({character: f"\\{ord(character):02x}" for character in "\\*()\0"})
# (uid={user}), (uid:caseExactMatch:={user}), (mail={user}@valid.example)
_ASSERTION = re.compile(
    r"\(([A-Za-z0-9][A-Za-z0-9.-]*)(?:;[\w;-]*)?(?::[\w.:-]*:)?=([^(){}*\\]*)\{user\}([^(){}*\\]*)\)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which attribute has the login name, and what stands around the name in it."""

    template: str
    attribute: str
    before: str
    after: str

    def for_user(self, user: str) -> str:
        """Return the filter that finds `user`."""
        return self.template.replace(USER, escape(user))


def escape(value: str) -> str:
    """Return `value` as a filter takes it: it is compared, whatever is in it."""
    return value.translate(_SPECIAL)


def check_filter(text: str) -> str:
    """Return `text` if it may be a filter. Raises ValueError; the server knows the rest of the grammar."""
    if not _is_one_pair(text) or not text.isprintable():
        raise ValueError(f"{text!r} is not a filter such as (objectClass=groupOfNames)")
    if USER in text:
        raise ValueError(f"{USER} has no place in this filter: members are found by member_attribute")
    return text


def _is_one_pair(text: str) -> bool:
    """Tell whether a text is a pair of parentheses, with whole pairs in it."""
    depth = 0
    for place, character in enumerate(text, 1):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 1:
            return character == ")" and place == len(text) > 1
    return False


def parse_user_filter(text: str) -> UserFilter:
    """Return what `user_filter` says. Raises ValueError unless it compares one attribute with {user}."""
    check_filter(text.replace(USER, ""))
    if text.count(USER) != 1:
        raise ValueError(f"must have {USER} exactly once, such as (uid={USER})")
    match = _ASSERTION.search(text)
    if match is None:
        raise ValueError(f"must compare with {USER} by =, such as (uid={USER}), and with no * beside it")
    return UserFilter(text, match[1], match[2], match[3])
