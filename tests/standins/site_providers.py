"""Providers as a site may write them: one that works, and all that can be wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr, field_serializer, field_validator

from imds_proxy.model import Grant
from imds_proxy.provider import AccountName, Provider, ProviderSettings

if TYPE_CHECKING:
    from imds_proxy.provider import Caller


class Good(ProviderSettings):
    """What the working provider needs to know."""

    account: AccountName
    role: str = "site-role"
    class_name: str = Field(default="x", alias="class-name")
    levels: tuple[int, ...] = (1, 2)
    password: SecretStr | None = None
    limits: dict[str, int] = Field(default={})

    @field_validator("role")
    @classmethod
    def _check_role(cls, role: str) -> str:
        if " " in role:
            raise ValueError("a role\nhas no spaces")
        return role


class Machines(Provider[Good]):
    """Works."""

    settings_model = Good

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return the one grant there is."""
        return frozenset({Grant(self.settings.account, self.settings.role, f"{caller.address} is here")})


class NoAnswer(Provider[Good]):
    """Lacks the one method."""

    settings_model = Good


class NoModel(Provider[Good]):
    """Says nothing about its settings."""

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return nothing."""
        raise NotImplementedError


class Failing(Machines):
    """Can't be built."""

    def __init__(self, settings: Good) -> None:
        super().__init__(settings)
        raise ConnectionError(f"no answer\nfrom {settings.role}")


class Leaving(Machines):
    """Ends the program, or would."""

    def __init__(self, settings: Good) -> None:
        super().__init__(settings)
        raise SystemExit(3)


class Choosy(Machines):
    """Finds something wrong with its settings only when it is built."""

    def __init__(self, settings: Good) -> None:
        super().__init__(settings)
        Good.model_validate({"account": ["swordfish"]})


class Odd(Machines):
    """Takes more than settings."""

    def __init__(self, settings: Good, more: object) -> None:
        super().__init__(settings)
        self.more = more


class Crashing(Good):
    """Has a validator that raises what pydantic does not expect."""

    @field_validator("role")
    @classmethod
    def _crash(cls, role: str) -> str:
        raise KeyError(role)


class CrashingSettings(Machines):
    """Its settings can't even be checked."""

    settings_model = Crashing


class Unshowable(Good):
    """Can be read, but not written."""

    @field_serializer("role")
    def _crash(self, role: str) -> str:
        raise RuntimeError(role)


class UnshowableSettings(Machines):
    """Its settings can't be shown."""

    settings_model = Unshowable


class OpaqueSettings(ProviderSettings):
    """Has a value that JSON knows nothing of."""

    thing: Any = Field(default_factory=object)


class Opaque(Provider[OpaqueSettings]):
    """Works, with a value of its own kind."""

    settings_model = OpaqueSettings

    async def grants_for(self, caller: Caller) -> frozenset[Grant]:
        """Return nothing."""
        raise NotImplementedError(caller.address)


class Undescribable(Good):
    """Has a setting that no JSON schema describes."""

    hook: Callable[[], None] | None = None


class UndescribableSettings(Machines):
    """Works, though an editor learns nothing of its settings."""

    settings_model = Undescribable


def function(settings: object) -> object:
    """Is no class."""
    return settings
