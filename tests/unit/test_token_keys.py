"""token_keys: the file of one's own with the key that signs IMDS tokens, or a key for this process."""

from __future__ import annotations

import stat
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import ConfigurationError
from imds_proxy.token_keys import (
    WORKLOAD_KEY_FILE,
    check_keys_differ,
    own_token_keys,
    passing_token_key,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_no_state_directory() -> None:
    """Without `$STATE_DIRECTORY` there is no file to read or make."""
    assert own_token_keys({}) is None
    assert own_token_keys({"STATE_DIRECTORY": ""}) is None


def test_the_first_start(tmp_path: Path) -> None:
    """At the first start a key of 32 bytes is made, for our own user alone; the next start reads it."""
    first = own_token_keys({"STATE_DIRECTORY": str(tmp_path)})
    file = tmp_path / "token.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first == (b64decode(file.read_bytes()),)
    assert len(first[0]) == 32
    assert own_token_keys({"STATE_DIRECTORY": str(tmp_path)}) == first


def test_the_key_of_workloads_tokens(tmp_path: Path) -> None:
    """It has a file of its own, made as the other one, with another key."""
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    first, second = own_token_keys(environ), own_token_keys(environ, WORKLOAD_KEY_FILE)
    file = tmp_path / "workload-token.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert second == (b64decode(file.read_bytes()),)
    assert first is not None
    assert first != second
    check_keys_differ(first, second)
    with pytest.raises(ConfigurationError, match=r"tokens\.workload_key_file"):
        check_keys_differ(first, (*second, *first))


def test_several_folders(tmp_path: Path) -> None:
    """Where systemd names several folders the first is ours."""
    (tmp_path / "a").mkdir()
    own_token_keys({"STATE_DIRECTORY": f"{tmp_path}/a:{tmp_path}/b"})
    assert (tmp_path / "a" / "token.key").exists()


def test_a_file_with_two_keys(tmp_path: Path) -> None:
    """The file may have several keys, in order, and the group may read it."""
    keys = (b"a" * 32, b"b" * 40)
    file = tmp_path / "token.key"
    file.write_bytes(b"".join(b64encode(key) + b"\n" for key in keys))
    file.chmod(0o640)
    assert own_token_keys({"STATE_DIRECTORY": str(tmp_path)}) == keys


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_file_that_others_can_read(tmp_path: Path, mode: int) -> None:
    """A key that others can read or change is a fault that names the file and the remedy."""
    own_token_keys({"STATE_DIRECTORY": str(tmp_path)})
    file = tmp_path / "token.key"
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"others can read it; chmod o=") as error:
        own_token_keys({"STATE_DIRECTORY": str(tmp_path)})
    assert error.value.faults[0].where == str(file)


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"\xff\xfe", b64encode(b"k" * 31), b"\n" + b64encode(b"k" * 32)]
)
def test_a_file_that_is_no_key(tmp_path: Path, content: bytes) -> None:
    """Anything but base64 of 32 bytes or more is a fault, and the file stays as it is."""
    file = tmp_path / "token.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="can't be used") as error:
        own_token_keys({"STATE_DIRECTORY": str(tmp_path)})
    assert content.decode("latin-1").strip() not in str(error.value) or not content.strip()
    assert file.read_bytes() == content


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder is a fault, not a traceback."""
    with pytest.raises(ConfigurationError, match=r"token\.key"):
        own_token_keys({"STATE_DIRECTORY": str(tmp_path / "missing")})


def test_a_key_for_this_process() -> None:
    """A passing key is as long as a kept one and new each time."""
    assert len(passing_token_key()) == 32
    assert passing_token_key() != passing_token_key()
