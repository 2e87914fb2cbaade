"""AWS's names: role names and ARNs, role session names, instance ids, tags. Text in, text out."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from ipaddress import ip_address

from imds_proxy.names import parse_host_name

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

_SHARED = "imds-proxy-"

_INSTANCE_ID_DIGITS = 17

_KNOWN_ROLES = 4096
"""So many ARNs are kept to be used again: ten thousand callers have a few hundred roles."""

_SERVICE_DOMAINS = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-us-gov": "amazonaws.com",
}

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html, "Tag restrictions": how long keys and
# values may be, and what a key may have in it where tags are in the instance's metadata.
_INSTANCE_TAG_KEY = re.compile(r"[A-Za-z0-9+=.,_:@-]{1,128}")
_NOT_A_TAG_KEY = frozenset({".", "..", "_index"})
_LIKE_A_PUBLIC_KEY = re.compile(r"[+-]?[0-9_]+=.*")
"""cloud-init takes a listed `0=name` for a public key, asks for what is not there and gives all of it up."""
_LONGEST_TAG_VALUE = 256


def is_role_name(text: str) -> bool:
    """Tell whether IAM would take `text` as a role's name: 1 to 64 of its characters, no path."""
    return _ROLE_NAME.fullmatch(text) is not None


@lru_cache(maxsize=_KNOWN_ROLES)
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
    return _marked(text, _digest(text))


def _marked(text: str, digest: str) -> str:
    mark = "=" + digest[:_MARK_DIGITS]
    return _NOT_IN_SESSION_NAME.sub("-", text)[: _LONGEST_SESSION_NAME - len(mark)] + mark


def names_of_machine(text: str) -> tuple[str, str]:
    """Return (session name, name in tags) of a machine; `text` is its confirmed name or its address.

    A name without a dot is marked, since most logins read like one.
    """
    if "." in text or ":" in text:
        return session_name(text), text
    marked = _marked(text, _digest(f"machine {text}"))
    return marked, marked


def names_of_person(user: str) -> tuple[str, str]:
    """Return (session name, name in tags) of a person: the login, marked where it reads like a machine's.

    So no machine has either of them: see `names_of_machine`.
    """
    if not reads_like_a_machine(user):
        return session_name(user), user
    marked = _marked(user, _digest(f"person {user}"))
    return marked, marked


def reads_like_a_machine(user: str) -> bool:
    """Tell whether a login reads like a dotted host name, an address, a network, or what machines share."""
    text = user.strip().lower()
    if text.startswith(_SHARED):
        return True
    try:
        ip_address(text.partition("/")[0])
    except ValueError:
        return "." in text and parse_host_name(text) is not None
    return True


def shared_session_name(host: str) -> str:
    """Return the session name that all callers of a grant share; `host` is the gateway's host name."""
    return session_name(f"{_SHARED}{host}")


def instance_id(name: str) -> str:
    """Return an instance id that looks like EC2's and is always the same for `name`, a confirmed name."""
    return "i-" + _digest(name)[:_INSTANCE_ID_DIGITS]


def reservation_id(name: str) -> str:
    """Return a reservation id that looks like EC2's and is always the same for `name`."""
    return "r-" + _digest(f"reservation of {name}")[:_INSTANCE_ID_DIGITS]


def interface_id(mac: str) -> str:
    """Return the id of a network card that looks like EC2's and is always the same for the card."""
    return "eni-" + _digest(mac)[:_INSTANCE_ID_DIGITS]


def service_domain(partition: str) -> str | None:
    """Return the domain of AWS's services in a partition, None for one whose domain is not known here."""
    return _SERVICE_DOMAINS.get(partition)


def is_instance_tag_key(text: str) -> bool:
    """Tell whether `text` can be the key of a tag below `tags/instance`, and so a segment of a path."""
    return (
        _INSTANCE_TAG_KEY.fullmatch(text) is not None
        and text not in _NOT_A_TAG_KEY
        and _LIKE_A_PUBLIC_KEY.fullmatch(text) is None
    )


def is_instance_tag_value(text: str) -> bool:
    """Tell whether `text` can be the value of such a tag: one line of 256 characters at most."""
    return len(text) <= _LONGEST_TAG_VALUE and text.isprintable()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
