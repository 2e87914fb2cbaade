"""boto3: one client object, one object fetched per line on stdin (see "The clients" in docs/testing.md)."""

import os
import sys

import boto3
from botocore.config import Config

if sys.argv[1:] == ["--version"]:
    print(f"boto3 {boto3.__version__}")
    sys.exit()

s3 = boto3.client(
    "s3", endpoint_url=os.environ["S3_ENDPOINT"], config=Config(s3={"addressing_style": "path"})
)
for _ in sys.stdin:
    try:
        answer = s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
        print("ok", answer["Body"].read().decode(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
