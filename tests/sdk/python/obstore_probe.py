"""object_store for Rust in obstore: one object per line on stdin (docs/testing.md has the contract)."""

import os
import sys

import obstore
from obstore.store import S3Store

if sys.argv[1:] == ["--version"]:
    print(obstore.__version__)
    sys.exit()

endpoint = os.environ["S3_ENDPOINT"]
s3 = S3Store(os.environ["S3_BUCKET"], endpoint=endpoint, client_options={"allow_http": True})


def fetch() -> str:
    """Return the object's text."""
    return bytes(obstore.get(s3, os.environ["S3_KEY"]).bytes()).decode()


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
