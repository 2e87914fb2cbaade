"""boto3: one client, one object fetched per line on stdin (docs/testing.md has the contract)."""

import os
import sys
from functools import cache
from typing import Any

import boto3
import botocore
from botocore.config import Config

if sys.argv[1:] == ["--version"]:
    print(f"{boto3.__version__} (botocore {botocore.__version__})")
    sys.exit()


@cache
def make_client() -> Any:
    """Return the one client. A container's credentials are fetched when it is made, which may fail."""
    path_style = Config(s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=path_style)


def fetch() -> str:
    """Return the object's text."""
    answer = make_client().get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
    return str(answer["Body"].read(), "utf-8")


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
