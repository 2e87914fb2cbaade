"""What any program on a machine does: plain boto3, told nothing but where the two services answer.

Run as a script of its own, never imported: it knows neither keys nor a region, a role or an account.
Prints one JSON object with what it got.
"""

from __future__ import annotations

import json
import sys

import boto3
import botocore.session
from botocore.utils import IMDSRegionProvider


def main(bucket: str, key: str) -> None:
    """Ask AWS who we are, read an object, and print both, with the access key id that signed."""
    core = botocore.session.Session()
    session = boto3.Session(botocore_session=core, region_name=IMDSRegionProvider(core).provide())
    credentials = session.get_credentials()
    identity = session.client("sts").get_caller_identity()
    content = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    seen = {
        "region": session.region_name,
        "credentials_from": credentials.method if credentials else None,
        "access_key_id": credentials.access_key if credentials else None,
        "account_id": identity["Account"],
        "arn": identity["Arn"],
        "content": content,
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
