"""The AWS console for a role's credentials: a sign-in token, and the URL that logs a browser in.

AWS, IAM user guide, "Enable custom identity broker access to the AWS console".
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from imds_proxy.errors import AWSError, ConfigurationError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPMessage
    from pathlib import Path
    from typing import IO, NoReturn

    from imds_proxy.model import Credentials

SIGN_IN_TIMEOUT = 5.0
"""Seconds for each step of a request to the sign-in endpoint."""

_FEDERATION_PATH = "/federation"
_MOST_BYTES = 64 << 10

_SIGN_IN = {
    "aws": "https://signin.aws.amazon.com",
    "aws-cn": "https://signin.amazonaws.cn",
    "aws-us-gov": "https://signin.amazonaws-us-gov.com",
}
_CONSOLE = {
    "aws": "https://console.aws.amazon.com/",
    "aws-cn": "https://console.amazonaws.cn/",
    "aws-us-gov": "https://console.amazonaws-us-gov.com/",
}


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Where the console of a partition is and how it is reached."""

    partition: str
    signin_endpoint: str | None = None
    console_endpoint: str | None = None
    duration: int | None = None
    """Seconds of a console session; None: as long as the credentials."""
    https_proxy: str | None = None
    ca_bundle: Path | None = None

    def endpoint(self, environ: Mapping[str, str]) -> str:
        """Return the URL that gives sign-in tokens. Raises ConfigurationError in an unknown partition."""
        url = self.signin_endpoint or environ.get("AWS_ENDPOINT_URL_SIGNIN") or _SIGN_IN.get(self.partition)
        if not url:
            raise _unknown_partition("signin_endpoint", self.partition)
        if not _is_url(url):
            raise ConfigurationError(
                [Fault("aws", "signin_endpoint", f"{url} is not a URL of http or https")]
            )
        url = url.rstrip("/")
        return url if url.endswith(_FEDERATION_PATH) else url + _FEDERATION_PATH

    def destination(self) -> str:
        """Return the URL of the console itself. Raises ConfigurationError in an unknown partition."""
        url = self.console_endpoint or _CONSOLE.get(self.partition)
        if not url:
            raise _unknown_partition("console_endpoint", self.partition)
        return url


class Console:
    """Makes console URLs. Its calls block and are safe on several threads."""

    def __init__(self, settings: ConsoleSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ

    @property
    def duration(self) -> int | None:
        """How many seconds a console session shall last; None: nobody has set it."""
        return self._settings.duration

    def url(self, credentials: Credentials, issuer: str, *, duration: int | None) -> str:
        """Return a URL that is good for 15 minutes and logs in whoever opens it: a secret.

        `issuer` is where AWS sends people whose session has ended; empty: nowhere. `duration` (seconds) is
        refused by AWS where the key that assumed the role was itself a role's. Raises AWSError.
        """
        endpoint = self._settings.endpoint(self._environ)
        fields = {"Action": "login"}
        if issuer:
            fields["Issuer"] = issuer
        fields["Destination"] = self._settings.destination()
        fields["SigninToken"] = self._sign_in_token(endpoint, credentials, duration)
        return f"{endpoint}?{urlencode(fields)}"

    def _sign_in_token(self, endpoint: str, credentials: Credentials, duration: int | None) -> str:
        session = {
            "sessionId": credentials.access_key,
            "sessionKey": credentials.secret_key,
            "sessionToken": credentials.session_token,
        }
        fields = {"Action": "getSigninToken", "Session": json.dumps(session, separators=(",", ":"))}
        if duration is not None:
            fields["SessionDuration"] = str(duration)
        host = urlsplit(endpoint).hostname
        # No text of a foreign exception goes on from here: some have the URL, and so the keys, in them.
        try:
            answer = json.loads(self._fetch(f"{endpoint}?{urlencode(fields)}"))
            token = answer["SigninToken"]
        except urllib.error.HTTPError as error:
            error.close()  # it is the open answer, too
            message = f"{host} gives no sign-in token: {error.code}"
            raise AWSError(message, code=f"SignIn{error.code}") from None
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, OSError) else type(error).__name__
            raise AWSError(f"{host} can't be reached for a sign-in token: {reason}", code="SignIn") from None
        except OSError as error:
            raise AWSError(f"{host} gives no sign-in token: {error}", code="SignIn") from None
        except Exception as error:  # noqa: BLE001  whatever http.client or json make of a broken answer
            message = f"{host} gives no sign-in token: {type(error).__name__}"
            raise AWSError(message, code="SignIn") from None
        if not isinstance(token, str) or not token or not token.isascii():
            raise AWSError(f"{host} gives a sign-in token that is none", code="SignIn")
        return token

    def _fetch(self, url: str) -> bytes:
        handlers = [urllib.request.HTTPSHandler(context=self._tls), _NoRedirects()]
        if self._settings.https_proxy:
            proxy = self._settings.https_proxy
            handlers.append(urllib.request.ProxyHandler({"https": proxy, "http": proxy}))
        opener = urllib.request.build_opener(*handlers)
        with opener.open(url, timeout=SIGN_IN_TIMEOUT) as answer:
            content: bytes = answer.read(_MOST_BYTES)
        return content

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the system's authorities takes some 25 ms of a processor, which machines' requests need too.
        bundle = self._settings.ca_bundle or self._environ.get("AWS_CA_BUNDLE") or None
        return ssl.create_default_context(cafile=bundle)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the keys in the URL to wherever it points."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,  # noqa: ARG002  urllib's; it is not gone to
    ) -> NoReturn:
        raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in {"http", "https"} and bool(url.hostname)
    except ValueError:
        return False


def _unknown_partition(key: str, partition: str) -> ConfigurationError:
    return ConfigurationError([Fault("aws", key, f"is required in the partition {partition}")])
