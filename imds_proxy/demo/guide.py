"""What the demo tells its visitor: what runs where, and what to type in a second terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.demo.machines import ACCOUNT_ID, HONEST, OTHER, REGION, SPOOFER

if TYPE_CHECKING:
    from imds_proxy.demo.machines import Machine
    from imds_proxy.demo.stage import Stage

_WHO_AM_I = f'import boto3; print(boto3.client("sts", "{REGION}").get_caller_identity()["Arn"])'


def guide(stage: Stage) -> str:
    """Return the text for the visitor."""
    return f"""
The whole thing runs on this machine, on loopback; nothing leaves it.
  metadata service  {stage.metadata_url}  (on a gateway: http://169.254.169.254)
  embedded AWS      {stage.aws_url}  (account {ACCOUNT_ID})
  settings          {stage.config}

What to type in a second terminal:

# 1. Unmodified boto3, told nothing but where the services are: no keys, no configuration.
{_boto3(stage)}

# 2. The same with curl: a token first, then the role, then its credentials.
{_token(stage, HONEST)}
{_role(stage, HONEST)}
{_role(stage, HONEST, HONEST.role or "")}

# 3. Who this address is, and why.
{_explain(stage, HONEST)}

# 4. As another machine, {OTHER.claimed_name}: another role.
{_token(stage, OTHER)}
{_role(stage, OTHER)}

# 5. As {SPOOFER.address}, whose PTR record claims to be {SPOOFER.claimed_name}: nothing (404), and why.
{_token(stage, SPOOFER)}
{_role(stage, SPOOFER, options="-i ")}
{_explain(stage, SPOOFER)}

Ctrl-C ends it all. The daemon's audit records follow as they come.
"""


def _boto3(stage: Stage) -> str:
    return (
        f"env -i HOME={shlex.quote(str(stage.home))} AWS_ENDPOINT_URL={stage.aws_url} \\\n"
        f"  AWS_EC2_METADATA_SERVICE_ENDPOINT={stage.metadata_url} \\\n"
        f"  {shlex.quote(sys.executable)} -c {shlex.quote(_WHO_AM_I)}"
    )


def _token(stage: Stage, machine: Machine) -> str:
    return (
        f"TOKEN=$(curl -s --interface {machine.address} -X PUT"
        f" -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' {stage.metadata_url}/latest/api/token)"
    )


def _role(stage: Stage, machine: Machine, role: str = "", *, options: str = "") -> str:
    return (
        f'curl -s {options}--interface {machine.address} -H "X-aws-ec2-metadata-token: $TOKEN"'
        f" {stage.metadata_url}/latest/meta-data/iam/security-credentials/{role}; echo"
    )


def _explain(stage: Stage, machine: Machine) -> str:
    script = Path(sys.executable).with_name("imds-proxy")
    command = str(script) if script.exists() else f"{sys.executable} -m imds_proxy"
    return f"{command} explain {machine.address} --config {shlex.quote(str(stage.config))}"
