"""The types of settings: which parser reads the text, what an editor's schema says, how a value is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import core_schema

from imds_proxy.config import aws_values, people_values, values
from imds_proxy.config.values import IPNetwork, SocketAddress
from imds_proxy.model import IPAddress

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

HIDDEN = "********"
_USER_INFO = re.compile(r"//[^/]*@")
_SHORTEST_SESSION = 50 * 60
_SHORTEST_CONSOLE = 15 * 60
_LONGEST_SESSION = 12 * 3600


@dataclass(frozen=True, slots=True, eq=False)
class FromText:
    """A field whose value comes from a text by `parse`, which raises ValueError for a text it can't read."""

    parse: Callable[[str], object]
    schema: Mapping[str, object] = field(default_factory=dict)
    """What JSON schema says about what a user writes, besides that it is a text."""
    show: Callable[[Any], str] = str
    """Makes the text that stands for the value wherever settings are shown."""

    def validate(self, value: object) -> object:
        """Return what `value` means."""
        if not isinstance(value, str):
            raise ValueError("must be a text")  # noqa: TRY004  pydantic reports ValueError only
        return self.parse(value)

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(self.show, when_used="json"),
        )

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {"type": "string"} | dict(self.schema)


def _like(*texts: str | int) -> dict[str, object]:
    return {"examples": list(texts)}


DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)?$"
_DURATION_SCHEMA = {
    "type": ["string", "number"],
    "pattern": DURATION_PATTERN,
    "minimum": 0,
    **_like("300ms", "2s", "5m", "1h", "1d"),
}


def _duration(shortest: float, longest: float) -> FromText:
    """Return the type of a duration within two limits (seconds)."""

    def parse(text: str) -> float:
        seconds = values.parse_duration(text)
        if not shortest <= seconds <= longest:
            limits = f"{values.format_duration(shortest)} .. {values.format_duration(longest)}"
            raise ValueError(f"{text} is not in {limits}")
        return seconds

    return FromText(parse, _DURATION_SCHEMA, values.format_duration)


def _parse_session_duration(text: str) -> int:
    seconds = values.parse_duration(text)
    if not _SHORTEST_SESSION <= seconds <= _LONGEST_SESSION:
        raise ValueError(f"{text} is not in 50m .. 12h")
    if not seconds.is_integer():
        raise ValueError(f"{text}: STS takes whole seconds only")
    return int(seconds)


def _parse_console_duration(text: str) -> int:
    seconds = values.parse_duration(text)
    if not (_SHORTEST_CONSOLE <= seconds <= _LONGEST_SESSION and seconds.is_integer()):
        raise ValueError(f"{text} is not in 15m .. 12h, in whole seconds")
    return int(seconds)


def _reject_placeholder_of_all(value: str, info: ValidationInfo) -> str:
    if (info.context or {}).get("session") == "shared" and aws_values.has_placeholder(value):
        raise ValueError("with `session: shared` all callers share a session: nothing can fill a placeholder")
    return value


Address = Annotated[IPAddress, FromText(values.parse_address, _like("10.77.3.9", "fd00::9"))]
Network = Annotated[IPNetwork, FromText(values.parse_network, _like("10.77.0.0/16", "fd00::/64"))]
TokenId = Annotated[str, FromText(values.parse_token_id, _like("0123456789abcdef"))]
Date = Annotated[date, FromText(values.parse_date, _like("2027-06-01"))]
HostName = Annotated[str, FromText(values.parse_name, _like("tuvfoo42.valid.example"))]
AddressOrName = Annotated[
    IPAddress | str, FromText(values.parse_address_or_name, _like("10.77.3.9", "tuvfoo42.valid.example"))
]
BasePath = Annotated[str, FromText(values.parse_base_path, _like("/afp-api/latest"))]
ContainerPath = Annotated[str, FromText(values.parse_container_path, _like("/v1/credentials"))]
ListenAddress = Annotated[
    SocketAddress, FromText(values.parse_listen_address, _like("169.254.169.254:80", "[fd00:ec2::254]:80"))
]
InterfaceName = Annotated[str, FromText(values.parse_interface_name, _like("lan0"))]
PeopleAddress = Annotated[SocketAddress, FromText(people_values.parse_people_address, _like("10.0.0.3:443"))]
AdminAddress = Annotated[SocketAddress, FromText(values.parse_admin_address, _like("127.0.0.1:9338"))]
Nameserver = Annotated[SocketAddress, FromText(values.parse_nameserver, _like("10.78.0.3", "127.0.0.1:5353"))]

TryTime = Annotated[float, _duration(0.01, 60)]
MemoryTime = Annotated[float, _duration(0, 30 * 86400)]
SessionDuration = Annotated[int, FromText(_parse_session_duration, _DURATION_SCHEMA, values.format_duration)]

AccountId = Annotated[
    str, FromText(values.parse_account_id, {"pattern": "^[0-9]{12}$", **_like("000123456789")})
]
ExternalId = Annotated[str, FromText(values.parse_external_id, show=lambda _: HIDDEN)]
RolePath = Annotated[str, FromText(values.parse_role_path, _like("/", "/machines/"))]
Policy = Annotated[
    str, PlainValidator(aws_values.parse_policy), WithJsonSchema({"type": ["object", "string"]})
]
TagKey = Annotated[str, FromText(aws_values.parse_tag_key)]
TagValue = Annotated[
    str, FromText(aws_values.parse_tag_value, _like("{name}")), AfterValidator(_reject_placeholder_of_all)
]

Trusted = Annotated[
    IPNetwork | int,
    FromText(
        people_values.parse_trusted,
        {"type": ["string", "integer"], **_like("10.0.0.2", "10.0.0.0/28", "www-data", 33)},
    ),
]
HeaderName = Annotated[str, FromText(people_values.parse_header_name, _like("X-Remote-User"))]
SocketMode = Annotated[
    int,
    FromText(
        people_values.parse_socket_mode,
        {"type": ["string", "integer"], **_like("0660")},
        lambda mode: f"{mode:04o}",
    ),
]
GroupName = Annotated[str, FromText(people_values.parse_group_name)]
PublicUrl = Annotated[str, FromText(people_values.parse_public_url, {"format": "uri"})]
ConsoleDuration = Annotated[int, FromText(_parse_console_duration, _DURATION_SCHEMA, values.format_duration)]

Region = Annotated[str, FromText(aws_values.parse_region, _like("eu-central-1"))]
Partition = Annotated[str, FromText(aws_values.parse_partition, _like("aws", "aws-cn", "aws-us-gov"))]
Endpoint = Annotated[str, FromText(values.parse_endpoint, {"format": "uri"})]
Proxy = Annotated[
    str, FromText(values.parse_url, {"format": "uri"}, lambda url: _USER_INFO.sub(f"//{HIDDEN}@", url))
]
Secret = Annotated[SecretStr, PlainSerializer(lambda _: HIDDEN, return_type=str, when_used="json")]
Text = Annotated[str, FromText(values.parse_text)]

FilePath = Annotated[Path, FromText(values.parse_path)]
SocketPath = Annotated[Path, FromText(values.parse_socket_path, _like("/run/imds-proxy/admin.sock"))]
