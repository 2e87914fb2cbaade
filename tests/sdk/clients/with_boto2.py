"""boto 2: prints the role it finds and the keys it would sign with, as JSON.

Its chain of credentials knows 169.254.169.254 alone. So this takes the same two steps with another URL: the
function that reads the service, and the method of its provider that takes the keys out of what was read.
"""

import json
import sys
from datetime import datetime

import boto.provider
import boto.utils

metadata = boto.utils.get_instance_metadata(
    url=sys.argv[1], timeout=1.0, num_retries=1, data="meta-data/iam/security-credentials/"
)
if not metadata:
    sys.exit("no role")
(role,) = metadata
provider = boto.provider.Provider("aws", access_key="none", secret_key="none")
access_key, secret_key, token, expiration = provider._get_credentials_from_metadata(metadata)
datetime.strptime(expiration, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007  the one form that it reads
keys = {"AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": token}
sys.stdout.write(json.dumps({"role": role, "keys": keys}) + "\n")
