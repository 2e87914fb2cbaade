"""Real AWS clients as processes: the environment has endpoints and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.standins.client_venvs import client_bin, sdk_requirements
from tests.standins.daemon import REGION
from tests.standins.processes import REPOSITORY, bare_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.standins.aws_process import Aws
    from tests.standins.daemon import Daemon

SCRIPTS = REPOSITORY / "tests" / "sdk" / "clients"
CLIENT_NAMES = ("boto3", "aiobotocore", "awscli", "awscrt", "pyarrow")
_RUN_TIME = 60
_AWSCLI = ["awscli<2"]


@dataclass(frozen=True)
class Outcome:
    """How a client's run ended. A negative status is the signal that ended it."""

    status: int
    stdout: str
    stderr: str
    arn: str | None = None
    content: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the client got credentials that AWS took."""
        return self.status == 0

    @property
    def is_clean_failure(self) -> bool:
        """Whether it ended with an error of its own making: no signal, no abort."""
        return self.status > 0


def run_client(name: str, daemon: Daemon, aws: Aws, role: str, folder: Path, account: str) -> Outcome:
    """Let a client ask who it is and read its role's object.

    `arn` is None for pyarrow, which can't ask. Raises ClientUnavailableError when it can't be installed.
    """
    environment = bare_environment(
        {
            "HOME": str(folder),  # nobody's ~/.aws
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": daemon.endpoint,
            "AWS_ENDPOINT_URL": aws.url,
        }
    )
    bucket, key = f"objects-{account}", f"{role}/hello.txt"
    if name == "awscli":
        return _run_awscli(environment, bucket, key)
    python = sys.executable if name == "boto3" else str(client_bin("sdk", sdk_requirements()) / "python")
    command = [python, str(SCRIPTS / f"with_{name}.py"), REGION, bucket, key]
    if name in {"awscrt", "pyarrow"}:  # these take endpoints from their arguments only
        command.append(aws.url)
    done = _run(command, environment)
    printed = json.loads(done.stdout) if done.returncode == 0 else {}
    return Outcome(done.returncode, done.stdout, done.stderr, printed.get("arn"), printed.get("content"))


def run_client_with_profile(
    name: str, profile: str, aws: Aws, role: str, folder: Path, account: str
) -> Outcome:
    """Let boto3 or the AWS CLI do the same with a profile of `.aws/config` in `folder`, its home.

    Raises ClientUnavailableError when it can't be installed.
    """
    environment = bare_environment(
        {
            "HOME": str(folder),
            "AWS_PROFILE": profile,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": aws.url,
        }
    )
    bucket, key = f"objects-{account}", f"{role}/hello.txt"
    if name == "awscli":
        return _run_awscli(environment, bucket, key)
    done = _run([sys.executable, str(SCRIPTS / "with_boto3.py"), REGION, bucket, key], environment)
    printed = json.loads(done.stdout) if done.returncode == 0 else {}
    return Outcome(done.returncode, done.stdout, done.stderr, printed.get("arn"), printed.get("content"))


def run_container_client(
    variables: Mapping[str, str], aws: Aws, role: str, folder: Path, account: str
) -> Outcome:
    """Let boto3 do the same with `variables`, which say where container credentials are, and how."""
    environment = bare_environment({"HOME": str(folder), "AWS_ENDPOINT_URL": aws.url, **variables})
    bucket, key = f"objects-{account}", f"{role}/hello.txt"
    done = _run([sys.executable, str(SCRIPTS / "with_boto3.py"), REGION, bucket, key], environment)
    printed = json.loads(done.stdout) if done.returncode == 0 else {}
    return Outcome(done.returncode, done.stdout, done.stderr, printed.get("arn"), printed.get("content"))


def _run_awscli(environment: dict[str, str], bucket: str, key: str) -> Outcome:
    command = str(client_bin("awscli", _AWSCLI) / "aws")
    who = _run([command, "--region", REGION, "sts", "get-caller-identity"], environment)
    if who.returncode != 0:
        return Outcome(who.returncode, who.stdout, who.stderr)
    copy = _run([command, "--region", REGION, "s3", "cp", f"s3://{bucket}/{key}", "-"], environment)
    return Outcome(copy.returncode, copy.stdout, copy.stderr, json.loads(who.stdout)["Arn"], copy.stdout)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_RUN_TIME,
        check=False,
    )
