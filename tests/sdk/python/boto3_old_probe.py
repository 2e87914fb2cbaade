"""boto3 of 2019: one client, one object fetched per line on stdin (docs/testing.md has the contract).

Its botocore looks in `collections` for names that Python 3.10 took from there. They are put
back: it is Python that is changed here, not the client.
"""

import collections
import collections.abc
import os
import sys
from typing import Any

for name in ("Mapping", "MutableMapping", "MutableSequence", "Sequence", "Callable", "Iterable"):
    setattr(collections, name, getattr(collections.abc, name))

import boto3  # noqa: E402  not before the names are back
import botocore  # noqa: E402
from botocore.config import Config  # noqa: E402

if sys.argv[1:] == ["--version"]:
    print(f"{boto3.__version__} (botocore {botocore.__version__})")
    sys.exit()

path_style = Config(s3={"addressing_style": "path"})
s3: Any = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=path_style)


def fetch() -> str:
    """Return the object's text."""
    answer = s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=os.environ["S3_KEY"])
    return str(answer["Body"].read(), "utf-8")


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
