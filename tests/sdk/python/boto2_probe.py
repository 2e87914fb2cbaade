"""boto 2: one client, one object fetched per line on stdin (docs/testing.md has the contract)."""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

import boto
from boto.s3.connection import OrdinaryCallingFormat

if sys.argv[1:] == ["--version"]:
    print(boto.__version__)
    sys.exit()

where = urlsplit(os.environ["S3_ENDPOINT"])
s3: Any = None


def fetch() -> str:
    """Return the object's text. The connection looks for credentials when it is made, and renews its own."""
    global s3
    s3 = s3 or boto.connect_s3(
        host=where.hostname, port=where.port, is_secure=False, calling_format=OrdinaryCallingFormat()
    )
    bucket = s3.get_bucket(os.environ["S3_BUCKET"], validate=False)
    return str(bucket.get_key(os.environ["S3_KEY"], validate=False).get_contents_as_string(), "utf-8")


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
