"""One AssumeRole with boto3, and what its errors mean. `sts` imports this, and so boto3, late."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from imds_proxy.errors import AWSError, Refusal, RefusalKind
from imds_proxy.model import Credentials, OwnKey, RoleSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.loaders import Loader
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef, AssumeRoleResponseTypeDef

    from imds_proxy.sts_settings import StsSettings

_CONNECT_TIMEOUT = 2
_READ_TIMEOUT = 10
_FALLBACK_DURATION = 3600
_MOST_WARNED_ROLES = 1000
"""Roles that are remembered as warned about: a rule makes roles of host names, so they may be many."""

_REFUSED = frozenset({"AccessDenied", "AccessDeniedException"})
_OWN_KEY_REFUSED = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_OWN_KEY_MISSING = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, ProfileNotFound)


class RoleAssumer:
    """Asks STS. Safe to call from several threads. Raises AWSError when our own key can't be had."""

    def __init__(
        self,
        settings: StsSettings,
        loader: Loader,
        *,
        connections: int,
        wall: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._wall = wall
        self._warn = warn
        self._warned_roles: set[str] = set()
        proxy = settings.https_proxy
        self._config = Config(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            # The cache has its own back-off; a second try in here would keep a thread for longer than
            # anyone waits.
            retries={"total_max_attempts": 1},
            max_pool_connections=connections,
            proxies={"https": proxy, "http": proxy} if proxy else None,
            tcp_keepalive=True,
            user_agent_extra="imds-proxy",
        )
        try:
            self._session = _open_session(settings, loader)
            self._client = self._session.client(
                "sts",
                endpoint_url=settings.sts_endpoint,
                verify=str(settings.ca_bundle) if settings.ca_bundle else None,
                config=self._config,
            )
        except (BotoCoreError, OSError, ValueError) as error:
            # Our own key is looked for here; a `credential_process` that is not there is an OSError.
            raise _translate_failure(error) from error

    def assume(self, session: RoleSession) -> Credentials:
        """Return new credentials. Raises Refusal or AWSError.

        A duration that the role does not allow is asked for again with one hour, the default that every
        role allows (AWS, "AssumeRole", DurationSeconds).
        """
        try:
            try:
                return self._ask(session, session.duration)
            except ClientError as error:
                if not _is_duration_refused(error) or session.duration <= _FALLBACK_DURATION:
                    raise
                self._warn_about_duration(session)
                return self._ask(session, _FALLBACK_DURATION)
        except ClientError as error:
            raise _translate_answer(error) from error
        except BotoCoreError as error:
            raise _translate_failure(error) from error
        except Exception as error:  # noqa: BLE001  whatever botocore makes of a broken answer
            # The text of a ResponseParserError is the whole answer, keys included: neither it nor the
            # exception may go on from here.
            message = f"STS sent an answer that can't be read ({type(error).__name__})"
            raise AWSError(message, code="MalformedAnswer") from None

    def has_long_term_key(self) -> bool:
        """Tell whether our own key is a user's, not a role's. Raises AWSError when it can't be had."""
        try:
            credentials = self._session.get_credentials()
            return credentials is not None and credentials.get_frozen_credentials().token is None
        except (BotoCoreError, OSError, ValueError) as error:
            raise _translate_failure(error) from error

    def own_key(self) -> OwnKey:
        """Return what STS says of our own key: GetCallerIdentity, which no policy can forbid."""
        try:
            answer = self._client.get_caller_identity()
        except ClientError as error:
            failure = _translate_answer(error)
            is_refused = isinstance(failure, Refusal) or failure.is_own_key
            offset = self._clock_offset(error.response.get("ResponseMetadata", {}))
            return OwnKey(trouble=str(failure), is_refused=is_refused, clock_offset=offset)
        except BotoCoreError as error:
            trouble = _translate_failure(error)
            return OwnKey(trouble=str(trouble), is_refused=trouble.is_own_key)
        except Exception as error:  # noqa: BLE001  as in `assume`
            return OwnKey(trouble=f"STS sent an answer that can't be read ({type(error).__name__})")
        return OwnKey(arn=answer["Arn"], clock_offset=self._clock_offset(answer["ResponseMetadata"]))

    def _clock_offset(self, answer: Mapping[str, Any]) -> float | None:
        """Return by how many seconds our clock is ahead of the Date of an answer that has just come."""
        try:
            sent = parsedate_to_datetime(answer["HTTPHeaders"]["date"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return None
        return self._wall() - sent

    def diagnose_refusal(self, session: RoleSession) -> str:
        """Say why a role was refused, as far as `iam:GetRole` tells: it sees our own account only."""
        try:
            own_account = self._client.get_caller_identity()["Account"]
            if own_account != session.account_id:
                return f"iam:GetRole sees roles of {own_account} only, the role is in {session.account_id}"
            self._session.client("iam", config=self._config).get_role(RoleName=session.role_name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchEntity":
                return f"there is no role {session.role_name} in account {session.account_id}"
            return f"iam:GetRole could not tell more ({code})"
        except Exception as error:  # noqa: BLE001  it is only an explanation
            return f"iam:GetRole could not tell more ({type(error).__name__})"
        return "the role exists: its trust policy, or our own policy for sts:AssumeRole, does not allow it"

    def _ask(self, session: RoleSession, duration: int) -> Credentials:
        request: AssumeRoleRequestTypeDef = {
            "RoleArn": session.role_arn,
            "RoleSessionName": session.session_name,
            "DurationSeconds": duration,
        }
        if session.tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in session.tags]
        if session.policy is not None:
            request["Policy"] = session.policy
        if session.external_id is not None:
            request["ExternalId"] = session.external_id
        if session.source_identity is not None:
            request["SourceIdentity"] = session.source_identity
        answer = self._send(request)
        keys = answer["Credentials"]
        if not all(keys[part] for part in ("AccessKeyId", "SecretAccessKey", "SessionToken")):
            raise ValueError("a key without a text")
        return Credentials(
            access_key=keys["AccessKeyId"],
            secret_key=keys["SecretAccessKey"],
            session_token=keys["SessionToken"],
            expiry=keys["Expiration"].timestamp(),
            received=self._wall(),
            account_id=session.account_id,
            request_id=answer["ResponseMetadata"].get("RequestId"),
        )

    def _send(self, request: AssumeRoleRequestTypeDef) -> AssumeRoleResponseTypeDef:
        try:
            return self._client.assume_role(**request)
        except ConnectionClosedError:
            # A kept connection that the other side closed meanwhile: STS has not seen the request.
            return self._client.assume_role(**request)

    def _warn_about_duration(self, session: RoleSession) -> None:
        if session.role_arn not in self._warned_roles:
            if len(self._warned_roles) >= _MOST_WARNED_ROLES:
                self._warned_roles.clear()
            self._warned_roles.add(session.role_arn)
            self._warn(
                f"{session.role_arn} does not allow sessions of {session.duration} s, asking for "
                f"{_FALLBACK_DURATION} s; raise the role's MaxSessionDuration or lower aws.session_duration"
            )


def _open_session(settings: StsSettings, loader: Loader) -> boto3.Session:
    core = botocore.session.Session(profile=settings.profile)
    core.register_component("data_loader", loader)
    if not settings.use_instance_metadata:
        # The chain would end at 169.254.169.254: on a gateway that is this very daemon.
        core.get_component("credential_provider").remove("iam-role")
    return boto3.Session(
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        region_name=settings.region,
        botocore_session=core,
    )


def _is_duration_refused(error: ClientError) -> bool:
    detail = error.response.get("Error", {})
    return detail.get("Code") == "ValidationError" and "DurationSeconds" in detail.get("Message", "")


def _translate_answer(error: ClientError) -> Refusal | AWSError:
    """Say what STS's error means. AWS, "AssumeRole", section Errors, and "Common errors"."""
    detail = error.response.get("Error", {})
    code = detail.get("Code", "Unknown")
    request_id = error.response.get("ResponseMetadata", {}).get("RequestId")
    text = f"STS: {code}: {' '.join(detail.get('Message', '').split())}"
    if code in _REFUSED:
        return Refusal(text, request_id=request_id, kind=RefusalKind.STS)
    return AWSError(text, code=code, request_id=request_id, is_own_key=code in _OWN_KEY_REFUSED)


def _translate_failure(error: Exception) -> AWSError:
    name = type(error).__name__
    return AWSError(f"STS: {name}: {error}", code=name, is_own_key=isinstance(error, _OWN_KEY_MISSING))
