"""minio-py: one client, one object fetched per line on stdin (docs/testing.md has the contract)."""

import os
import sys
from urllib.parse import urlsplit

import minio
from minio.credentials import IamAwsProvider

if sys.argv[1:] == ["--version"]:
    print(minio.__version__)
    sys.exit()

where = urlsplit(os.environ["S3_ENDPOINT"]).netloc
credentials = IamAwsProvider(custom_endpoint=os.environ.get("CUSTOM_ENDPOINT"))
s3 = minio.Minio(where, credentials=credentials, secure=False)


def fetch() -> str:
    """Return the object's text."""
    answer = s3.get_object(os.environ["S3_BUCKET"], os.environ["S3_KEY"])
    try:
        return str(answer.data, "utf-8")
    finally:
        answer.close()
        answer.release_conn()


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
