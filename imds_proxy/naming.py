"""The names that AWS is told: role names and ARNs, role session names, instance ids. Text in, text out."""

from __future__ import annotations

import hashlib
import re

# https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html (RoleName) and
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html (RoleSessionName) write
# `[\w+=,.@-]`; AWS means the ASCII letters.
_ROLE_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_NOT_IN_SESSION_NAME = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_LONGEST_SESSION_NAME = 64

# The equals sign is legal in a session name but in no host name and no address, so what ends in a
# mark was marked by us: a caller can't choose a host name that reads like another caller's mark.
_MARK_DIGITS = 16
_ENDS_IN_MARK = re.compile(rf"=[0-9a-f]{{{_MARK_DIGITS}}}\Z")

_INSTANCE_ID_DIGITS = 17


def is_role_name(text: str) -> bool:
    """Tell whether IAM would take `text` as a role's name: 1 to 64 of its characters, no path."""
    return _ROLE_NAME.fullmatch(text) is not None


def role_arn(partition: str, account_id: str, path: str, role: str) -> str:
    """Return the ARN of a role; `path` begins and ends with a slash (IAM user guide, "IAM ARNs")."""
    return f"arn:{partition}:iam::{account_id}:role{path}{role}"


def session_name(text: str) -> str:
    """Return `text` as a RoleSessionName, which CloudTrail shows: unchanged where AWS takes it as it is.

    `text` is a confirmed name or an address. Where characters were replaced, or the text was cut or
    is too short, a hash of the whole text is at the end, so that two callers never share a name.
    """
    if _SESSION_NAME.fullmatch(text) and not _ENDS_IN_MARK.search(text):
        return text
    mark = "=" + _digest(text)[:_MARK_DIGITS]
    return _NOT_IN_SESSION_NAME.sub("-", text)[: _LONGEST_SESSION_NAME - len(mark)] + mark


def shared_session_name(host: str) -> str:
    """Return the session name that all callers of a grant share; `host` is the gateway's host name."""
    return session_name(f"imds-proxy-{host}")


def instance_id(name: str) -> str:
    """Return an instance id that looks like EC2's and is always the same for `name`, a confirmed name."""
    return "i-" + _digest(name)[:_INSTANCE_ID_DIGITS]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
