"""secret_settings: what is a secret by its name, and texts without it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr

from imds_proxy.secret_settings import Redaction, conceal, is_secret, secret_paths


@pytest.mark.parametrize(
    "key",
    [
        "password", "ldap_bind_password", "bindPassword", "PASSWORD", "db-passwd", "pw", "api_token", "token",
        "client_secret", "secret_key", "secretKey", "private-key", "apikey", "credentials",
    ],
)  # fmt: skip
def test_secrets(key: str) -> None:
    """The last word says it."""
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["", "password_file", "token_ttl", "key", "group_key", "compass", "bypass", "secretary", "access_key"],
)
def test_other_settings(key: str) -> None:
    """A file's name and a time are none, nor is a key that is no secret one."""
    assert not is_secret(key)


SETTINGS = {
    "user": "joe",
    "password": "swordfish",
    "pin_token": 1234567,
    "servers": [{"name": "x", "api_token": "catfish"}, "y"],
    "secret": {"depth": 2},
    "token": None,
    "pw": "",
    "use_password": True,
}


def test_where_secrets_stand() -> None:
    """Texts and numbers; a switch, nothing and a map are no secrets, but there may be some in the map."""
    assert list(secret_paths(SETTINGS)) == [("password",), ("pin_token",), ("servers", 0, "api_token")]


def test_concealed_settings_show_no_secret() -> None:
    """All else is as it was."""
    concealed = conceal(SETTINGS)
    assert "fish" not in repr(concealed)
    assert "1234567" not in repr(concealed)
    assert concealed["password"].get_secret_value() == "swordfish"
    assert concealed["servers"][1] == "y"
    assert concealed["secret"] == {"depth": 2}


class Nested(BaseModel):
    """A model's value in settings."""

    phrase: SecretStr


def test_secrets_are_taken_out_of_texts() -> None:
    """Also those that a model hides, wherever they are; the longest first."""
    redact = Redaction(
        {
            "password": "sword",
            "other_password": "swordfish",
            "inner": [Nested(phrase=SecretStr("open sesame"))],
        }
    )
    assert redact("swordfish, sword. open sesame!") == "********, ********. ********!"


def test_short_secrets_are_left_in_texts() -> None:
    """They are everywhere."""
    assert Redaction({"pw": "a"})("a banana") == "a banana"
