"""What stands where in the metadata tree of one caller: values in, directories and leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imds_proxy import naming
from imds_proxy.web import documents
from imds_proxy.web.tree import KeyListing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imds_proxy.metadata.levels import Levels, Subject, Values
    from imds_proxy.web.tree import Node

_TEXTS = (
    ("ami-id", "ami_id"),
    ("ami-launch-index", "ami_launch_index"),
    ("hostname", "hostname"),
    ("instance-id", "instance_id"),
    ("instance-life-cycle", "instance_life_cycle"),
    ("instance-type", "instance_type"),
    ("local-hostname", "hostname"),
    ("mac", "mac"),
    ("profile", "profile"),
    ("reservation-id", "reservation_id"),
)
_PLACEMENT = (
    ("availability-zone", "availability_zone"),
    ("availability-zone-id", "availability_zone_id"),
    ("group-name", "group_name"),
    ("region", "region"),
)
_KEYS_BELOW_METADATA = dict(_TEXTS) | {"security-groups": "security_groups", "public-keys": "public_keys"}
_KEYS_OF_PLACEMENT = dict(_PLACEMENT)
_THE_SAME_FOR_ALL = (
    ("dynamic",),
    ("dynamic", "instance-identity"),
    ("meta-data", "instance-action"),
    ("meta-data", "ipv6"),
    ("meta-data", "local-ipv4"),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a caller, as far as the tree shows it. None: not shown."""

    subject: Subject
    values: Values
    partition: str
    started: float
    """Seconds UTC since 1970: what the identity document calls the start of the instance."""
    profile: bytes | None = None
    """The document at `iam/info`; None where the caller has no role that can be had now."""
    is_complete: bool = True
    """Whether the provider has answered; while it does not, the grant and its tags are not known."""


def metadata_tree(facts: Facts) -> Mapping[str, Node]:
    """Return the tree below a version. What is in it is listed and served, nothing else is."""
    return {name: branch(facts, name) for name in ("dynamic", "meta-data")}


def branch(facts: Facts, name: str) -> Mapping[str, Node]:
    """Return one of the two parts of the tree: whoever asks for a leaf needs no more."""
    if name == "dynamic":
        return {"instance-identity": {"document": _identity_document(facts)}}
    return _metadata(facts)


def _metadata(facts: Facts) -> Mapping[str, Node]:
    values, subject = facts.values, facts.subject
    tree: dict[str, Node] = {"instance-action": b"none"}
    tree |= _present(values, _TEXTS)
    tree["ipv6" if subject.address.version == 6 else "local-ipv4"] = str(subject.address).encode()
    if facts.profile is not None and subject.role is not None:
        tree["iam"] = {"info": facts.profile, "security-credentials": {subject.role: b""}}
    if values.security_groups:
        tree["security-groups"] = _lines(values.security_groups)
    tree["placement"] = _present(values, _PLACEMENT)
    if values.public_keys:
        tree["public-keys"] = KeyListing.of(values.public_keys)
    if values.tags and facts.is_complete:
        tree["tags"] = {"instance": {key: text.encode() for key, text in values.tags.items()}}
    tree["services"] = _services(facts.partition)
    mac = values.get("mac")
    if mac is not None:
        tree["network"] = {"interfaces": {"macs": {mac: _card(facts, mac)}}}
    return tree


def _present(values: Values, leaves: tuple[tuple[str, str], ...]) -> dict[str, Node]:
    return {leaf: text.encode() for leaf, key in leaves if (text := values.get(key)) is not None}


def _services(partition: str) -> Mapping[str, Node]:
    domain = naming.service_domain(partition)
    services: dict[str, Node] = {"domain": domain.encode()} if domain is not None else {}
    return services | {"partition": partition.encode()}


def _card(facts: Facts, mac: str) -> Mapping[str, Node]:
    """Return what is known of the caller's one network card."""
    subject, values = facts.subject, facts.values
    card: dict[str, Node] = {
        "device-number": b"0",
        "interface-id": naming.interface_id(mac).encode(),
        "mac": mac.encode(),
    }
    card["ipv6s" if subject.address.version == 6 else "local-ipv4s"] = str(subject.address).encode()
    card |= _present(values, (("local-hostname", "hostname"),))
    if subject.account_id is not None:
        card["owner-id"] = subject.account_id.encode()
    if values.security_groups:
        card["security-groups"] = _lines(values.security_groups)
    return card


def _lines(texts: tuple[str, ...]) -> bytes:
    return "\n".join(texts).encode()


def _identity_document(facts: Facts) -> bytes:
    values = facts.values
    return documents.render_identity(
        account_id=facts.subject.account_id,
        region=values.texts["region"],
        zone=values.get("availability_zone"),
        image_id=values.get("ami_id"),
        instance_id=values.get("instance_id"),
        instance_type=values.get("instance_type"),
        address=str(facts.subject.address),
        pending=facts.started,
    )


def shows_identity(below: tuple[str, ...], levels: Levels) -> bool:
    """Tell whether a path below a version shows anything that depends on more than the caller's address."""
    if below in _THE_SAME_FOR_ALL or below[:2] == ("meta-data", "services"):
        return False
    if below[:2] == ("meta-data", "network"):
        return levels.has_cards
    if below[:2] == ("meta-data", "placement"):
        keys = [_KEYS_OF_PLACEMENT[below[2]]] if len(below) > 2 else list(_KEYS_OF_PLACEMENT.values())
        return any(levels.needs_name(key) for key in keys)
    key = _KEYS_BELOW_METADATA.get(below[1]) if below[:1] == ("meta-data",) and len(below) > 1 else None
    return key is None or levels.needs_name(key)
