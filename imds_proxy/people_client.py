"""Asks the people's listener, by its unix socket or its URL, what a person may have, and gets it."""

from __future__ import annotations

import http.client
import json
import queue
import re
import ssl
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from imds_proxy import __version__
from imds_proxy.errors import Refusal, Trouble
from imds_proxy.unix_http import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imds_proxy.people_passwords import Login, SignIn

PATIENCE = 60.0
"""Seconds for one answer, from the connection to the last byte: STS alone may have 30."""

_MOST_BYTES = 4 << 20
_LONGEST_MESSAGE = 300
_LONGEST_URL = 64 << 10
_FORBIDDEN = re.compile(r"[^!-~]")
_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class OfferedRole:
    """A role that the person may have, and why."""

    account: str
    role: str
    reason: str
    account_id: str | None = field(compare=False)
    """12 digits; None where the settings lack the account."""


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """A role's temporary keys."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: str
    """`YYYY-MM-DDTHH:MM:SSZ`."""

    def for_credential_process(self) -> str:
        """Return the JSON that SDKs read from a `credential_process`: secrets.

        AWS, SDKs and tools reference guide, "Process credential provider".
        """
        return json.dumps(
            {
                "Version": 1,
                "AccessKeyId": self.access_key,
                "SecretAccessKey": self.secret_key,
                "SessionToken": self.session_token,
                "Expiration": self.expiration,
            }
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a people's listener is."""

    name: str
    """For messages."""
    base_path: str
    connect: Callable[[], http.client.HTTPConnection]


def at_socket(path: Path) -> Place:
    """Return the place of a unix socket. There the paths need nothing in front."""
    return Place(str(path), "", lambda: UnixConnection(path, timeout=PATIENCE))


def at_url(url: str, tls: Callable[[], ssl.SSLContext]) -> Place:
    """Return the place of a URL, its path included; `tls` is called for https alone.

    Raises ValueError, in words for whoever wrote it, when secrets must not go there.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in {"http", "https"} or not host or _FORBIDDEN.search(url):
        raise ValueError("is no URL such as https://afp.example/afp-api/latest")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user in it: use --user; the password comes from netrc or a prompt")
    if parts.query or parts.fragment:
        raise ValueError("has more behind its path")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("would send secrets in the open: only https, or http to loopback")

    def connect() -> http.client.HTTPConnection:
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=tls())
        return http.client.HTTPConnection(host, port, timeout=PATIENCE)

    return Place(url, parts.path.rstrip("/"), connect)


def host_of(url: str) -> str:
    """Return the host of a URL that `at_url` took, as netrc names it."""
    return urlsplit(url).hostname or ""


class PeopleClient:
    """Asks one listener. All its methods raise Refusal (no, and why) or Trouble (no answer)."""

    def __init__(self, place: Place, sign_in: SignIn | None, *, patience: float = PATIENCE) -> None:
        """`patience` is in seconds, for one answer from the connection to the last byte."""
        self._place = place
        self._patience = patience
        self._sign_in = sign_in
        self._login: Login | None = None

    def roles(self) -> list[OfferedRole]:
        """Return all that the person may have, in order."""
        body = self._get("/account?withreason")
        try:
            return sorted(_roles_in(json.loads(body)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._nonsense("accounts") from None

    def keys(self, account: str, role: str) -> RoleKeys:
        """Return the temporary keys of a role."""
        body = self._get(role_path(account, role, "credentials"))
        try:
            return _keys_in(json.loads(body))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._nonsense("credentials") from None

    def console_url(self, account: str, role: str) -> str:
        """Return a URL that logs whoever opens it into the console: a secret."""
        body = self._get(role_path(account, role, "consoleurl"))
        url = body.decode("ascii", errors="replace").strip()
        if not url.startswith(("https://", "http://")) or _FORBIDDEN.search(url) or len(url) > _LONGEST_URL:
            raise self._nonsense("a console URL")
        return url

    def _nonsense(self, wanted: str) -> Trouble:
        return Trouble(f"{self._place.name} answered, but not with {wanted}; is it imds-proxy, for people?")

    def _get(self, path: str) -> bytes:
        if self._login is None and self._sign_in is not None:
            self._login = self._sign_in.stored()
        answer = self._exchange(path)
        if answer.wants_password and self._login is None and self._sign_in is not None:
            self._login = self._sign_in.ask()
            answer = self._exchange(path)
        if answer.status == HTTPStatus.OK:
            return answer.body
        raise self._failure(answer)

    def _exchange(self, path: str) -> _Answer:
        headers = {"Accept": "application/json, text/plain", "User-Agent": f"imds-proxy/{__version__}"}
        if self._login is not None:
            headers["Authorization"] = self._login.authorization
        try:
            return _within(self._patience, lambda: _ask(self._place, path, headers))
        except ssl.SSLCertVerificationError as error:
            text = f"the certificate is not to be trusted: {error.verify_message}"
        except PermissionError:
            text = "you may not open it; is it for a group that you are not in?"
        except OSError as error:
            text = error.strerror or str(error)
        except http.client.HTTPException as error:
            text = f"it speaks no HTTP that can be understood ({type(error).__name__})"
        raise Trouble(f"{self._place.name} can't be reached: {text}")

    def _failure(self, answer: _Answer) -> Refusal | Trouble:
        said = answer.message
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return Refusal(self._who_are_you(answer))
        if answer.status == HTTPStatus.FORBIDDEN:
            return Refusal(said or f"{self._place.name} refuses, without a word")
        if answer.status == HTTPStatus.NOT_FOUND and said and answer.names_user:
            return Refusal(said)
        if answer.status == HTTPStatus.NOT_FOUND:
            return Trouble(f"{self._place.name} has no such path; is imds-proxy there, for people?")
        return Trouble(f"{self._place.name} answered {answer.status}: {said or 'nothing more'}")

    def _who_are_you(self, answer: _Answer) -> str:
        if self._login is not None:
            return f"{self._place.name} refuses user {self._login.user}: wrong user or password"
        if self._sign_in is None and answer.wants_password:
            return f"{self._place.name} wants a password, which goes with --url only"
        return (
            f"{self._place.name} does not know who you are: {answer.message or 'it wants no password either'}"
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    wants_password: bool
    names_user: bool
    """Whether the service knows who is asking: it has found the path then."""
    body: bytes = field(repr=False)

    @property
    def message(self) -> str:
        """What the service says about an error; empty when something else than the service answers."""
        try:
            said = json.loads(self.body)["message"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        return said[:_LONGEST_MESSAGE] if isinstance(said, str) else ""


def _ask(place: Place, path: str, headers: Mapping[str, str]) -> _Answer:
    connection = place.connect()
    try:
        connection.request("GET", place.base_path + path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
        if response.length:
            raise http.client.HTTPException("the answer was cut, or is too long")
        challenge = response.headers.get("WWW-Authenticate", "")
        wants_password = response.status == HTTPStatus.UNAUTHORIZED and challenge.lower().lstrip().startswith(
            "basic"
        )
        return _Answer(response.status, wants_password, "X-Username" in response.headers, body)
    finally:
        connection.close()


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise what it raises; TimeoutError when it takes longer.

    A socket's time-out bounds one step, and a server can make any number of them.
    """
    outcomes: queue.SimpleQueue[tuple[T, None] | tuple[None, Exception]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((work(), None))
        except Exception as error:  # noqa: BLE001  raised again where it is waited for
            outcomes.put((None, error))

    threading.Thread(target=run, name="people's client", daemon=True).start()
    try:
        result, error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # the pair's first is a T where its second is None


def _roles_in(accounts: dict[str, dict[str, object]]) -> list[OfferedRole]:
    found = []
    for account, about in accounts.items():
        account_id, roles = about["id"], about["roles"]
        if not isinstance(account_id, str | None) or not isinstance(roles, list):
            raise TypeError("no id, or no roles")
        for each in roles:
            role, reason = each["role"], each["reason"]
            if not isinstance(role, str) or not isinstance(reason, str):
                raise TypeError("no role, or no reason")
            found.append(OfferedRole(account, role, reason, account_id))
    return found


def _keys_in(document: dict[str, object]) -> RoleKeys:
    texts = [document[key] for key in ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")]
    for text in texts:
        if not isinstance(text, str) or not text or _FORBIDDEN.search(text):
            raise ValueError("not a key")
    access_key, secret_key, session_token, expiration = map(str, texts)
    if not _EXPIRATION.fullmatch(expiration):
        raise ValueError("not a time")
    return RoleKeys(access_key, secret_key, session_token, expiration)


def role_path(account: str, role: str, wanted: str) -> str:
    """Return the path of what is `wanted` of a role, below the base path."""
    # Arguments that are no UTF-8 have surrogates, some of which stand for no byte.
    escaped = (quote(name.encode("utf-8", "surrogatepass"), safe="") for name in (account, role))
    return "/".join(("/account", *escaped, wanted))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
