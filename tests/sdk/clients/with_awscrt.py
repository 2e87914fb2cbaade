"""awscrt's default credential chain, signer and HTTP: prints who it is and what it reads, as JSON."""

import io
import json
import re
import sys
from urllib.parse import urlsplit

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpClientConnection, HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, InputStream

TIMEOUT = 30
region, bucket, key, endpoint = sys.argv[1:]
where = urlsplit(endpoint)
loops = EventLoopGroup(1)
bootstrap = ClientBootstrap(loops, DefaultHostResolver(loops))
provider = AwsCredentialsProvider.new_default_chain(bootstrap)


def ask(service: str, method: str, path: str, form: bytes = b"") -> str:
    """Return the body of a signed request's answer; end the program when the status is not 200."""
    headers = HttpHeaders([("Host", where.netloc)])
    if form:
        headers.add("Content-Type", "application/x-www-form-urlencoded")
        headers.add("Content-Length", str(len(form)))
    request = HttpRequest(method, path, headers, InputStream(io.BytesIO(form)) if form else None)
    signing = AwsSigningConfig(
        signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=provider,
        region=region,
        service=service,
        use_double_uri_encode=service != "s3",
        should_normalize_uri_path=service != "s3",
        signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256
        if service == "s3"
        else AwsSignedBodyHeaderType.NONE,
    )
    signed = aws_sign_request(request, signing).result(TIMEOUT)
    connection = HttpClientConnection.new(where.hostname, where.port, bootstrap).result(TIMEOUT)
    body = bytearray()
    stream = connection.request(signed, on_body=lambda chunk, **_: body.extend(chunk))
    stream.activate()
    status = stream.completion_future.result(TIMEOUT)
    if status != 200:
        sys.exit(f"{service} answered {status}: {body.decode()}")
    return body.decode()


identity = ask("sts", "POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15")
arn = re.findall("<Arn>(.*)</Arn>", identity)[0]
content = ask("s3", "GET", f"/{bucket}/{key}")
sys.stdout.write(json.dumps({"arn": arn, "content": content}) + "\n")
