"""Which settings are secrets where no model says so, by their names; and texts with the secrets taken out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.yaml_nodes import KeyPath

HIDDEN = "********"

_SECRET = re.compile(
    r"(?:^|_)(?:pass|passwd|password|passphrase|pwd|pw|secret|token|credentials?|(?:secret|private|api)_?key)$"
)
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_SHORTEST = 4
"""Characters. Shorter secrets are not looked for in texts: they would be found everywhere."""


def is_secret(key: str) -> bool:
    """Tell whether a setting of this name is a secret: `ldap_bind_password`, `apiToken`, `secret-key`."""
    return _SECRET.search(_NEW_WORD.sub("_", key).lower()) is not None


def secret_paths(settings: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield where in `settings` the secrets stand, to judge by the names of the keys."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            here = (*path, str(key))
            if is_secret(str(key)) and _is_text(value):
                yield here
            else:
                yield from secret_paths(value, here)
    elif isinstance(settings, list | tuple):
        for index, value in enumerate(settings):
            yield from secret_paths(value, (*path, index))


def conceal(value: Any) -> Any:
    """Return settings with every secret in them as a SecretStr, which shows itself to nobody."""
    if isinstance(value, Mapping):
        return {
            key: SecretStr(str(child)) if is_secret(str(key)) and _is_text(child) else conceal(child)
            for key, child in value.items()
        }
    if isinstance(value, list | tuple):
        return [conceal(child) for child in value]
    return value


class Redaction:
    """Takes the secrets of some settings out of texts, such as a foreign exception's."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        found = {text for text in _secrets(conceal(settings)) if len(text) >= _SHORTEST}
        longest_first = sorted(found, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, longest_first))) if found else None

    def __call__(self, text: str) -> str:
        """Return `text` with `********` for every secret."""
        return text if self._secret is None else self._secret.sub(HIDDEN, text)


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets(dict(value))
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _secrets(child)
    elif isinstance(value, list | tuple | set | frozenset):
        for child in value:
            yield from _secrets(child)
