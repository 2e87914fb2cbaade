"""A person's password for HTTP Basic: from netrc or typed; never an argument, never in the environment."""

from __future__ import annotations

import base64
import getpass
import netrc
import os
import stat
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.errors import ConfigurationError, Fault, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TERMINAL = "/dev/tty"


@dataclass(frozen=True, slots=True)
class Login:
    """A user and the password that goes with it."""

    user: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The value of the header Authorization (RFC 7617, as UTF-8): a secret."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


class SignIn:
    """Knows where the password for a host comes from."""

    def __init__(
        self,
        host: str,
        user: str | None,
        environ: Mapping[str, str],
        *,
        warn: Callable[[str], None],
    ) -> None:
        self._host = host
        self._user = user
        self._file = Path(environ.get("NETRC") or "~/.netrc").expanduser()
        self._warn = warn

    def stored(self) -> Login | None:
        """Return what netrc has for the host (and the user, if one was named), else None.

        Raises ConfigurationError when the file can't be read as one.
        """
        try:
            entry = netrc.netrc(str(self._file)).authenticators(self._host)
            mode = self._file.stat().st_mode
        except FileNotFoundError:
            return None
        except netrc.NetrcParseError as error:
            # Its message quotes what it did not understand, which may be a password.
            raise _unreadable(f"{self._file}:{error.lineno}", "is not netrc from here on") from None
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise _unreadable(str(self._file), str(reason)) from None
        if entry is None:
            return None
        user, _, password = entry
        if not password or (self._user is not None and user and user != self._user):
            return None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            self._warn(f"{self._file} has a password, and others may open it: chmod 600 {self._file}")
        return Login(user or self._user or login_name(), password)

    def ask(self) -> Login:
        """Return what somebody types at the terminal. Raises Refusal when nobody does."""
        user = self._user or login_name()
        if not _has_terminal():
            raise Refusal(
                f"{self._host} wants a password and there is no terminal to ask for it: "
                f"put `machine {self._host} login {user} password ...` into {self._file}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)  # else it would be typed in the open
                password = getpass.getpass(f"Password of {user} at {self._host}: ")
        except (EOFError, OSError, UnicodeError, getpass.GetPassWarning):
            password = ""
        if not password:
            raise Refusal("no password was given")
        return Login(user, password)


def login_name() -> str:
    """Return the name under which somebody is logged in. Raises ConfigurationError where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise _unreadable("--user", "your uid has no name here, so say which user you are") from None


def _has_terminal() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def _unreadable(where: str, text: str) -> ConfigurationError:
    return ConfigurationError([Fault(where, "", text)])
