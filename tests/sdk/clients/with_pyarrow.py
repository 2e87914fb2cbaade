"""pyarrow, that is the AWS SDK for C++, with nothing set but endpoints: prints what it reads, as JSON.

Its S3 file system has no GetCallerIdentity: that the role's own folder is readable shows whose the keys are.
"""

import json
import sys
from urllib.parse import urlsplit

from pyarrow.fs import S3FileSystem

region, bucket, key, endpoint = sys.argv[1:]
files = S3FileSystem(region=region, scheme="http", endpoint_override=urlsplit(endpoint).netloc)
with files.open_input_stream(f"{bucket}/{key}") as stream:
    content = stream.read().decode()
sys.stdout.write(json.dumps({"content": content}) + "\n")
