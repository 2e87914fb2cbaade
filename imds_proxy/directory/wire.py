"""Connections by python-ldap, which is an extra and imported when it is first needed."""

from __future__ import annotations

import importlib
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from imds_proxy.directory.channel import open_channel
from imds_proxy.directory.connection import BindRefused, Entry, Page, SizeLimitExceeded, Unreachable
from imds_proxy.errors import ProviderError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from imds_proxy.directory.connection import Connection, Patience
    from imds_proxy.directory.server import Server
    from imds_proxy.directory.settings import DirectorySettings

_LOCKED_TEXTS = re.compile(r"\bdata 775\b|Exceed password retry limit", re.ASCII)
"""Active Directory and 389 Directory Server say it in the message."""

_MISSING = (
    "LDAP needs python-ldap: pip install 'imds-proxy[ldap]'"
    " (what that is built with, on Debian: apt-get install gcc python3-dev libldap-dev libsasl2-dev)"
)


def check_library() -> None:
    """Raise ValueError, with what to do, where python-ldap can't be had."""
    try:
        _import_library()
    except ImportError as error:
        raise ValueError(f"{_MISSING}: {error}") from None


def open_connection(server: Server, settings: DirectorySettings, patience: Patience) -> Connection:
    """Return a connection to `server`, encrypted as `settings` say. Raises Unreachable."""
    try:
        library = _import_library()
    except ImportError as error:
        raise ProviderError(_MISSING) from error
    channel = open_channel(server, settings, patience)
    try:
        return _PythonLdap(library, channel, patience)
    except BaseException:
        channel.close()
        raise


def _import_library() -> Any:
    importlib.import_module("ldap.controls.libldap")
    return importlib.import_module("ldap")


class _PythonLdap:
    """A Connection. Each request waits for its answer as long as there is patience."""

    def __init__(self, library: Any, channel: socket.socket, patience: Patience) -> None:
        self._library = library
        self._channel = channel
        self._patience = patience
        # libldap closes the descriptor that it gets, so it gets one of its own.
        self._handle = library.initialize("ldap://", trace_level=0, fileno=os.dup(channel.fileno()))
        # A trace that somebody switched on for the whole process would have every password in it.
        self._handle._trace_level = 0  # noqa: SLF001  the argument above can't switch it off
        for option, value in (
            (library.OPT_PROTOCOL_VERSION, library.VERSION3),
            (library.OPT_REFERRALS, library.OPT_OFF),
            (library.OPT_DEREF, library.DEREF_NEVER),
            (library.OPT_SIZELIMIT, library.NO_LIMIT),
            (library.OPT_TIMELIMIT, library.NO_LIMIT),
        ):
            self._handle.set_option(option, value)

    def bind(self, dn: str, password: str) -> None:
        """Become `dn`. Raises BindRefused."""
        if not dn or not password:  # a bind as nobody, which succeeds (RFC 4513 section 5.1.2)
            raise BindRefused("without a name or a password")
        library = self._library
        refusals = (
            library.INVALID_CREDENTIALS,
            library.INAPPROPRIATE_AUTH,
            library.INSUFFICIENT_ACCESS,
            library.CONSTRAINT_VIOLATION,
            library.UNWILLING_TO_PERFORM,
            library.NO_SUCH_OBJECT,
            library.INVALID_DN_SYNTAX,
        )
        self._ask("bind", lambda: self._handle.simple_bind(dn, password), refusals)

    def search(self, base: str, filter_: str, attribute: str, *, most: int) -> tuple[Entry, ...]:
        """Return the entries below `base` with one attribute. Raises SizeLimitExceeded beyond `most`."""
        return self._search(base, filter_, attribute, most=most)[0]

    def search_page(self, base: str, filter_: str, attribute: str, *, size: int, cookie: bytes) -> Page:
        """Return the part after `cookie`. Raises SizeLimitExceeded."""
        # Not critical: a server that can't do it sends all there is, or says that it is too much.
        control = self._library.controls.libldap.SimplePagedResultsControl(False, size=size, cookie=cookie)  # noqa: FBT003
        entries, controls = self._search(base, filter_, attribute, controls=[control])
        cookies = [each.cookie for each in controls if each.controlType == control.controlType]
        return Page(entries, cookies[0] if cookies else b"")

    def close(self) -> None:
        """Leave."""
        with suppress(self._library.LDAPError):
            self._handle.unbind_ext()
        self._channel.close()

    def _search(
        self, base: str, filter_: str, attribute: str, *, most: int = 0, controls: Sequence[Any] = ()
    ) -> tuple[tuple[Entry, ...], Sequence[Any]]:
        seconds = max(1, int(self._patience.left()))  # after which the server may stop
        found, answers = self._ask(
            f"search below {base}",
            lambda: self._handle.search_ext(
                base,
                self._library.SCOPE_SUBTREE,
                filter_,
                [attribute],
                serverctrls=list(controls),
                timeout=seconds,
                sizelimit=most,
            ),
        )
        # Without a DN it is a reference to another server, which nobody here follows.
        return tuple(_entry(dn, attributes) for dn, attributes in found if dn is not None), answers

    def _ask(
        self, what: str, start: Callable[[], int], refusals: tuple[type[Exception], ...] = ()
    ) -> tuple[list[Any], list[Any]]:
        """Send a request and return what the answer has, and its controls."""
        library = self._library
        try:
            message = start()
            answer = self._handle.result4(message, all=1, timeout=self._patience.left())
        except refusals as error:
            raise BindRefused(_describe(error), is_locked=_says_locked(error)) from None
        except library.SIZELIMIT_EXCEEDED as error:
            raise SizeLimitExceeded(_describe(error)) from None
        except (
            library.SERVER_DOWN,
            library.CONNECT_ERROR,
            library.TIMEOUT,
            library.BUSY,
            library.UNAVAILABLE,
            library.DECODING_ERROR,
        ) as error:
            raise Unreachable(_describe(error)) from None
        except library.LDAPError as error:
            raise ProviderError(f"LDAP: {what}: {_describe(error)}") from error
        self._patience.has_answered()
        return answer[1] or [], answer[3] or []


def _entry(dn: str, attributes: Mapping[str, Sequence[bytes]]) -> Entry:
    return Entry(dn, {name.lower(): tuple(values) for name, values in attributes.items()})


def _details(error: Exception) -> Mapping[str, Any]:
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


def _says_locked(error: Exception) -> bool:
    """Tell whether a server refused a bind because the account is locked."""
    return _LOCKED_TEXTS.search(str(_details(error).get("info", ""))) is not None


def _describe(error: Exception) -> str:
    """Return an error of python-ldap in one line: what libldap calls it and what the server says."""
    details = _details(error)
    texts = [str(details[key]) for key in ("desc", "info") if details.get(key)] or [type(error).__name__]
    return "".join(character for character in ": ".join(texts) if character.isprintable())
