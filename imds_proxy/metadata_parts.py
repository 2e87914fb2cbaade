"""What the daemon makes of the settings of the metadata tree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imds_proxy.metadata.levels import Level, Levels, RememberedValues
from imds_proxy.metadata.templates import Template, literal
from imds_proxy.metadata.user_data import UserDataFolder

if TYPE_CHECKING:
    from imds_proxy.config import Settings
    from imds_proxy.config.metadata import Level as LevelSettings


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """What the settings say of the tree."""

    levels: Levels
    values: RememberedValues
    user_data: UserDataFolder | None
    partition: str


def tree_settings(settings: Settings) -> TreeSettings:
    """Return what the tree is made of. Reads no file."""
    metadata = settings.metadata
    defaults = _level(metadata.defaults)
    levels = Levels(
        defaults=replace(defaults, texts={"region": literal(settings.aws.region), **defaults.texts}),
        domains={domain: _level(level) for domain, level in metadata.domains.items()},
        hosts={host: _level(level) for host, level in metadata.hosts.items()},
    )
    folder = UserDataFolder(metadata.user_data) if metadata.user_data is not None else None
    return TreeSettings(levels, RememberedValues(levels), folder, settings.aws.partition)


def _level(settings: LevelSettings) -> Level:
    return Level(
        texts={key: value for key, value in settings if isinstance(value, Template)},
        security_groups=settings.security_groups,
        public_keys=settings.public_keys,
        tags=settings.tags,
    )
