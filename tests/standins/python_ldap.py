"""python-ldap as `directory.wire` calls it: answers and errors that a test sets, requests that it can see."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

_ERRORS = (
    "SERVER_DOWN", "CONNECT_ERROR", "TIMEOUT", "BUSY", "UNAVAILABLE", "DECODING_ERROR", "SIZELIMIT_EXCEEDED",
    "INVALID_CREDENTIALS", "INAPPROPRIATE_AUTH", "INSUFFICIENT_ACCESS", "CONSTRAINT_VIOLATION",
    "UNWILLING_TO_PERFORM", "NO_SUCH_OBJECT", "INVALID_DN_SYNTAX", "FILTER_ERROR", "STRONG_AUTH_REQUIRED",
)  # fmt: skip
_CONSTANTS = {
    "OPT_PROTOCOL_VERSION": 17, "VERSION3": 3, "OPT_REFERRALS": 8, "OPT_OFF": 0, "OPT_DEREF": 2,
    "DEREF_NEVER": 0, "OPT_SIZELIMIT": 3, "OPT_TIMELIMIT": 4, "NO_LIMIT": 0, "SCOPE_SUBTREE": 2,
}  # fmt: skip


@dataclass
class PagedResults:
    """The control of RFC 2696."""

    criticality: bool
    size: int
    cookie: bytes
    controlType: str = "1.2.840.113556.1.4.319"  # noqa: N815  python-ldap's name


@dataclass
class FakeLibrary:
    """The modules, and what has gone through them."""

    answers: list[Any] = field(default_factory=list)
    """In turn for each request: (entries, controls), or an error."""
    requests: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    options: dict[int, int] = field(default_factory=dict)
    trace_level: int | None = None

    def __post_init__(self) -> None:
        self.error = type("LDAPError", (Exception,), {})
        self.module = ModuleType("ldap")
        self.module.__dict__.update(_CONSTANTS, LDAPError=self.error, initialize=self._initialize)
        self.module.__dict__.update({name: type(name, (self.error,), {}) for name in _ERRORS})
        controls, paging = ModuleType("ldap.controls"), ModuleType("ldap.controls.libldap")
        paging.__dict__["SimplePagedResultsControl"] = PagedResults
        controls.__dict__["libldap"] = paging
        self.module.__dict__["controls"] = controls
        self.modules = {"ldap": self.module, "ldap.controls": controls, "ldap.controls.libldap": paging}

    def fail(self, name: str, **details: object) -> Exception:
        """Return an error as libldap's are."""
        error: Exception = getattr(self.module, name)(details or {"desc": name})
        return error

    def _initialize(self, _uri: str, *, trace_level: int, fileno: int) -> _Handle:
        self.trace_level = trace_level
        return _Handle(self, fileno)


class _Handle:
    def __init__(self, library: FakeLibrary, descriptor: int) -> None:
        self._library = library
        self._descriptor = descriptor
        self._trace_level = 9

    def set_option(self, option: int, value: int) -> None:
        self._library.options[option] = value

    def simple_bind(self, *arguments: object) -> int:
        return self._request("bind", arguments, {})

    def search_ext(self, *arguments: object, **named: object) -> int:
        return self._request("search", arguments, named)

    def unbind_ext(self) -> None:
        self._library.trace_level = self._trace_level
        os.close(self._descriptor)
        self._library.requests.append(("unbind", (), {}))

    def result4(self, message: int, *, all: int, timeout: float) -> tuple[object, ...]:  # noqa: A002
        assert all == 1
        assert timeout > 0
        assert message == len(self._library.requests)
        answer = self._library.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return (None, answer[0], message, answer[1], None, None)

    def _request(self, kind: str, arguments: tuple[object, ...], named: dict[str, Any]) -> int:
        self._library.requests.append((kind, arguments, named))
        return len(self._library.requests)
