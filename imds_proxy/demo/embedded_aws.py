"""The demo's AWS, run as a process of its own: moto's server, with what moto lets through checked in front.

`python -m imds_proxy.demo.embedded_aws` sets up the account, then prints one line of JSON (endpoint,
access_key, secret_key: the daemon's own key) and serves until its standard input ends, which it does
when whoever started it is gone.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
import botocore.exceptions
from botocore.config import Config
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from imds_proxy.demo.machines import ACCOUNT_ID, BUCKET, CONTENT, KEY, REGION, ROLES, role_arn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_USER = "imds-proxy"
_USER_ARN = f"arn:aws:iam::{ACCOUNT_ID}:user/{_USER}"
_LARGEST_FORM = 64 * 1024  # bytes; AssumeRole's longest is far below

# The limits of AssumeRole's parameters: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_SHORTEST_SESSION, _LONGEST_SESSION = 900, 3600  # seconds; the longest is a role's default


def find_fault(form: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """Return (error code, message) for an AssumeRole that AWS would turn down and moto would not, or None.

    moto gives keys for roles that do not exist, and looks neither at the session name's alphabet nor
    at the duration.
    """
    if form.get("Action") != ["AssumeRole"]:
        return None
    arn = form.get("RoleArn", [""])[0]
    session_name = form.get("RoleSessionName", [""])[0]
    duration = form.get("DurationSeconds", [str(_LONGEST_SESSION)])[0]
    if not _SESSION_NAME.fullmatch(session_name):
        return "ValidationError", f"Value {session_name!r} at 'roleSessionName' failed to satisfy constraint"
    if not duration.isdecimal() or not _SHORTEST_SESSION <= int(duration) <= _LONGEST_SESSION:
        return "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration of this role"
    if arn not in map(role_arn, ROLES):
        message = f"User: {_USER_ARN} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        return "AccessDenied", message
    return None


def strict(application: WSGIApplication) -> WSGIApplication:
    """Return moto's application with `find_fault` in front of it."""

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            return application(environ, start_response)
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), _LARGEST_FORM))
        environ["wsgi.input"] = io.BytesIO(body)
        fault = find_fault(parse_qs(body.decode("utf-8", "replace")))
        if fault is None:
            return application(environ, start_response)
        return _sts_error(*fault, start_response)

    return checked


def _sts_error(code: str, message: str, start_response: StartResponse) -> Iterable[bytes]:
    status = "403 Forbidden" if code == "AccessDenied" else "400 Bad Request"
    start_response(status, [("Content-Type", "text/xml")])
    return [
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        "<RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>".encode()
    ]


def _policy(action: str | list[str], resource: str | list[str]) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _trust_policy(principal: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def set_up_account(client: Callable[[str], Any]) -> tuple[str, str]:
    """Make the daemon's user, the roles and the bucket; return the user's (access key, secret key).

    `client` gives a boto3 client for a service's name, with any key at all: nothing is enforced yet.
    """
    iam, s3 = client("iam"), client("s3")
    iam.create_user(UserName=_USER)
    arns = [role_arn(role) for role in ROLES]
    iam.put_user_policy(UserName=_USER, PolicyName="assume", PolicyDocument=_policy("sts:AssumeRole", arns))
    for role in ROLES:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=_trust_policy(_USER_ARN))
        may_read = _policy("s3:GetObject", f"arn:aws:s3:::{BUCKET}/*")
        iam.put_role_policy(RoleName=role, PolicyName="read", PolicyDocument=may_read)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT.encode())
    access_key = iam.create_access_key(UserName=_USER)["AccessKey"]
    return access_key["AccessKeyId"], access_key["SecretAccessKey"]


def enforce_authentication(address: tuple[str, int], client: Callable[[str], Any]) -> None:
    """Switch on moto's checks of signatures and policies. Raises RuntimeError when they do not bite."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    # The content type must not be a form's: moto reads the body only where Flask did not parse it.
    connection.request("POST", "/moto-api/reset-auth", "0", {"Content-Type": "text/plain"})
    connection.getresponse().read()
    connection.close()
    try:
        client("sts").get_caller_identity()
    except botocore.exceptions.ClientError as error:
        if error.response.get("Error", {}).get("Code") == "InvalidClientTokenId":
            return
    raise RuntimeError("the embedded AWS takes a key that nobody made")


def main() -> None:
    """Serve on a free port of 127.0.0.1 until standard input ends."""
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT_ID
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = strict(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = "127.0.0.1", server.server_port
    endpoint = f"http://{host}:{port}"

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]  # one of three services, by name
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="AKIA0NOBODYMADETHIS0",
            aws_secret_access_key="any",  # noqa: S106 - a key that must not work once enforcement is on
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    access_key, secret_key = set_up_account(client)
    enforce_authentication((host, port), client)
    facts = {"endpoint": endpoint, "access_key": access_key, "secret_key": secret_key}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
