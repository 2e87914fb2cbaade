"""ec2-metadata: names the role once per line on stdin (docs/testing.md has the contract)."""

import sys
from importlib.metadata import version

from ec2_metadata import ec2_metadata

if sys.argv[1:] == ["--version"]:
    print(version("ec2-metadata"))
    sys.exit()


def fetch() -> str:
    """Return the name of the role: the library has no S3."""
    ec2_metadata.clear_all()  # it keeps what it has read
    return str(ec2_metadata.iam_info["InstanceProfileArn"]).rpartition("/")[2]


for _ in sys.stdin:
    try:
        print("ok", fetch(), flush=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this line's answer
        print("error", repr(error).replace("\n", " "), flush=True)
