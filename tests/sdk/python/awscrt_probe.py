"""awscrt: one client, one object fetched per line on stdin (docs/testing.md has the contract)."""

import os
import sys
from importlib.metadata import version
from urllib.parse import urlsplit

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpClientConnection, HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup

if sys.argv[1:] == ["--version"]:
    print(version("awscrt"))
    sys.exit()

TIMEOUT = 60
where = urlsplit(os.environ["S3_ENDPOINT"])
loops = EventLoopGroup(1)
bootstrap = ClientBootstrap(loops, DefaultHostResolver(loops))
provider = AwsCredentialsProvider.new_default_chain(bootstrap)


def fetch() -> str:
    """Return the object's text. Raises RuntimeError for an answer that is not the object."""
    path = f"/{os.environ['S3_BUCKET']}/{os.environ['S3_KEY']}"
    request = HttpRequest("GET", path, HttpHeaders([("Host", where.netloc)]))
    signing = AwsSigningConfig(
        signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=provider,
        region=os.environ["AWS_REGION"],
        service="s3",
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    signed = aws_sign_request(request, signing).result(TIMEOUT)
    connection = HttpClientConnection.new(where.hostname, where.port, bootstrap).result(TIMEOUT)
    body = bytearray()
    stream = connection.request(signed, on_body=lambda chunk, **_: body.extend(chunk))
    stream.activate()
    status = stream.completion_future.result(TIMEOUT)
    if status != 200:
        raise RuntimeError(f"S3 answered {status}: {body.decode()}")
    return body.decode()


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
