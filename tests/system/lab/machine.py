"""A client machine: a namespace with an address and a route, and the programs run in it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.system.lab.namespaces import Namespace

METADATA = "http://169.254.169.254"
METADATA_V6 = "http://[fd00:ec2::254]"
ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
_TOKEN_PATH = "/latest/api/token"
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
# Above every limit that the daemon promises, so that a broken daemon ends in a failure, not in a wait.
_PATIENCE = "5"

_BOTO3_PROGRAM = """
import json, sys
import boto3
session = boto3.Session()
credentials = session.get_credentials()
sts = session.client("sts", region_name="eu-central-1", endpoint_url=sys.argv[1])
print(json.dumps({
    "method": credentials.method,
    "access_key_id": credentials.get_frozen_credentials().access_key,
    "arn": sts.get_caller_identity()["Arn"],
}))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, headers under lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Boto3Result:
    """What boto3 found by itself, and whom STS takes its key for."""

    method: str
    access_key_id: str
    arn: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that knows nothing but a route to the metadata addresses of its gateway."""

    namespace: Namespace
    address: str
    address_v6: str

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        base: str = METADATA,
    ) -> Answer:
        """Send one request with curl. Raises CommandError when no answer comes."""
        all_headers = dict(headers or {})
        if token is not None:
            all_headers[_TOKEN_HEADER] = token
        options = [word for name, value in all_headers.items() for word in ("--header", f"{name}: {value}")]
        # --globoff: an IPv6 address in brackets is no pattern.
        fixed = ["curl", "--silent", "--show-error", "--include", "--globoff", "--max-time", _PATIENCE]
        return _parse(self.namespace.run(*fixed, "--request", method, *options, base + path).stdout)

    def fetch_token(self, base: str = METADATA) -> str:
        """Return an IMDS token."""
        answer = self.ask_token(base=base)
        assert answer.status == 200, answer
        return answer.body

    def ask_token(self, *, headers: Mapping[str, str] | None = None, base: str = METADATA) -> Answer:
        """Ask for an IMDS token of six hours."""
        all_headers = {_TTL_HEADER: "21600"} | dict(headers or {})
        return self.ask(_TOKEN_PATH, method="PUT", headers=all_headers, base=base)

    def list_role(self, token: str | None = None, base: str = METADATA) -> Answer:
        """Ask for the role's name, with a new token unless one is given."""
        return self.ask(ROLE_LIST, token=token or self.fetch_token(base), base=base)

    def fetch_credentials(self, role: str, base: str = METADATA) -> dict[str, str]:
        """Go the whole way with curl, TOKEN, LIST and ROLE; return the credential document."""
        token = self.fetch_token(base)
        listed = self.ask(ROLE_LIST, token=token, base=base)
        assert (listed.status, listed.body) == (200, role), listed
        answer = self.ask(ROLE_LIST + role, token=token, base=base)
        assert answer.status == 200, answer
        document: dict[str, str] = json.loads(answer.body)
        return document

    def run_boto3(self, sts_endpoint: str, environment: Mapping[str, str] | None = None) -> Boto3Result:
        """Let unmodified boto3 find its credentials and ask STS who it is."""
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        program = ["env", *settings, sys.executable, "-c", _BOTO3_PROGRAM, sts_endpoint]
        return Boto3Result(**json.loads(self.namespace.run(*program).stdout))


def _parse(text: str) -> Answer:
    # subprocess has turned CR LF into LF.
    head, _, body = text.partition("\n\n")
    status_line, *lines = head.splitlines()
    pairs = (line.partition(":") for line in lines)
    return Answer(
        status=int(status_line.split()[1]),
        headers={name.lower(): value.strip() for name, _, value in pairs},
        body=body,
    )
