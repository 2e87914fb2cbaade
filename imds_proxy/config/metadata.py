"""The settings of the metadata tree: what is said of all callers, of those in a domain, and of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from imds_proxy.config import fields, metadata_values
from imds_proxy.config.fields import FromText
from imds_proxy.config.section import Section
from imds_proxy.metadata.templates import Template


def _value(key: str) -> FromText:
    return FromText(metadata_values.parse_value(key))


def _as_written(default: object) -> Any:
    """Return a default as a user would write it: so it stands in the editor's schema."""
    return default


def _examples(*texts: str) -> dict[str, object]:
    return {"examples": list(texts)}


Domain = Annotated[str, FromText(metadata_values.parse_domain, _examples("valid.example", "*.valid.example"))]
TagKey = Annotated[str, FromText(metadata_values.parse_instance_tag_key, _examples("Name"))]
TagValue = Annotated[Template, FromText(metadata_values.parse_instance_tag_value, _examples("{host}"))]
KeyName = Annotated[str, FromText(metadata_values.parse_key_name)]
PublicKey = Annotated[str, FromText(metadata_values.parse_public_key)]
Region = Annotated[Template, FromText(metadata_values.parse_metadata_region, _examples("eu-central-1"))]
LaunchIndex = Annotated[
    Template, FromText(metadata_values.parse_launch_index, {"type": ["string", "integer"], "minimum": 0})
]
LifeCycle = Annotated[
    Template,
    FromText(
        metadata_values.parse_life_cycle, {"enum": ["on-demand", "spot", "scheduled", "capacity-block"]}
    ),
]
Mac = Annotated[Template, FromText(metadata_values.parse_mac, _examples("0e:49:61:0f:c3:11"))]
Groups = tuple[Annotated[Template, _value("security_groups")], ...]


class Level(Section):
    """What a level says. A key that is left out is for another level to say; in texts {name} and others stand
    for the caller's.
    """

    ami_id: Annotated[Template, _value("ami_id")] | None = Field(default=None, description="ami-id.")
    ami_launch_index: LaunchIndex | None = Field(default=None, description="ami-launch-index.")
    availability_zone: Annotated[Template, _value("availability_zone")] | None = Field(
        default=None, description="placement/availability-zone."
    )
    availability_zone_id: Annotated[Template, _value("availability_zone_id")] | None = Field(
        default=None, description="placement/availability-zone-id."
    )
    group_name: Annotated[Template, _value("group_name")] | None = Field(
        default=None, description="placement/group-name."
    )
    hostname: Annotated[Template, _value("hostname")] | None = Field(
        default=None, description="hostname and local-hostname."
    )
    instance_id: Annotated[Template, _value("instance_id")] | None = Field(
        default=None, description="instance-id. Default: made of the confirmed name."
    )
    instance_life_cycle: LifeCycle | None = Field(default=None, description="instance-life-cycle.")
    instance_type: Annotated[Template, _value("instance_type")] | None = Field(
        default=None, description="instance-type."
    )
    profile: Annotated[Template, _value("profile")] | None = Field(default=None, description="profile.")
    public_keys: Mapping[KeyName, PublicKey] = Field(
        default={}, description="public-keys/: name -> key, as authorized_keys has it."
    )
    region: Region | None = Field(default=None, description="placement/region. Default: aws.region.")
    reservation_id: Annotated[Template, _value("reservation_id")] | None = Field(
        default=None, description="reservation-id. Default: made of the confirmed name."
    )
    security_groups: Groups | None = Field(default=None, min_length=1, description="security-groups.")
    tags: Mapping[TagKey, TagValue] = Field(default={}, description="tags/instance/: key -> value.")


class DomainMetadata(Level):
    """What is said of callers in a domain."""

    @model_serializer(mode="wrap")
    def _leave_out_the_unsaid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said = self.model_fields_set
        shown: dict[str, Any] = handler(self)
        return {key: value for key, value in shown.items() if key in said or value not in (None, {})}


class HostMetadata(DomainMetadata):
    """What is said of one caller."""

    mac: Mac | None = Field(default=None, description="mac and network/interfaces/macs/.")


class DefaultMetadata(Level):
    """What is said of all callers."""

    ami_id: Annotated[Template, _value("ami_id")] = Field(
        default=_as_written("ami-00000000000000000"), validate_default=True, description="ami-id."
    )
    ami_launch_index: LaunchIndex = Field(
        default=_as_written("0"), validate_default=True, description="ami-launch-index."
    )
    availability_zone: Annotated[Template, _value("availability_zone")] = Field(
        default=_as_written("{region}a"), validate_default=True, description="placement/availability-zone."
    )
    hostname: Annotated[Template, _value("hostname")] = Field(
        default=_as_written("{name}"), validate_default=True, description="hostname and local-hostname."
    )
    instance_life_cycle: LifeCycle = Field(
        default=_as_written("on-demand"), validate_default=True, description="instance-life-cycle."
    )
    instance_type: Annotated[Template, _value("instance_type")] = Field(
        default=_as_written("bare.metal"), validate_default=True, description="instance-type."
    )
    profile: Annotated[Template, _value("profile")] = Field(
        default=_as_written("default-hvm"), validate_default=True, description="profile."
    )
    security_groups: Groups = Field(
        default=_as_written(["default"]), validate_default=True, min_length=1, description="security-groups."
    )


class MetadataSettings(Section):
    """The metadata tree. Later levels replace what earlier ones say, but for tags and public keys."""

    defaults: DefaultMetadata = Field(default_factory=DefaultMetadata, description="Of all callers.")
    domains: Mapping[Domain, DomainMetadata] = Field(
        default={}, description="Of callers whose confirmed name is in a domain; the most specific last."
    )
    hosts: Mapping[fields.AddressOrName, HostMetadata] = Field(
        default={}, description="Of one caller, by its confirmed name or its address."
    )
    user_data: fields.FilePath | None = Field(
        default=None, description="A folder of files with user-data, named after hosts."
    )
