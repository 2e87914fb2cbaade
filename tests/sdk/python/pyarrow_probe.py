"""The AWS SDK for C++ in pyarrow: one object per line on stdin (docs/testing.md has the contract)."""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

import pyarrow
from pyarrow.fs import S3FileSystem

if sys.argv[1:] == ["--version"]:
    print(f"{pyarrow.__version__}")
    sys.exit()

where = urlsplit(os.environ["S3_ENDPOINT"])
files: Any = None


def fetch() -> str:
    """Return the object's text."""
    global files
    files = files or S3FileSystem(scheme=where.scheme, endpoint_override=where.netloc)
    with files.open_input_stream(f"{os.environ['S3_BUCKET']}/{os.environ['S3_KEY']}") as stream:
        return str(stream.read(), "utf-8")


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
