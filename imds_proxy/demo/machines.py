"""The cast of the demo: its machines, the account they live in, and the object they may read."""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT_ID = "000123456789"
ACCOUNT_NAME = "main"
DOMAIN = "valid.example"
REGION = "eu-central-1"
ROLE_PREFIX = "roleprefix-"
BUCKET = "demo-bucket"
KEY = "hello.txt"
CONTENT = "Hello from a bucket that only a role may read."


@dataclass(frozen=True, slots=True)
class Machine:
    """An address of the loopback network, the name that its PTR record claims, and what is true of it."""

    address: str
    claimed_name: str
    role: str | None
    """The role that the machine is to get; None for a machine that lies about its name."""


HONEST = Machine("127.0.0.1", f"tuvfoo42.{DOMAIN}", f"{ROLE_PREFIX}tuvfoo")
OTHER = Machine("127.0.0.2", f"berbar07.{DOMAIN}", f"{ROLE_PREFIX}probar")
SPOOFER = Machine("127.0.0.3", HONEST.claimed_name, None)
MACHINES = (HONEST, OTHER, SPOOFER)
ROLES = tuple(machine.role for machine in MACHINES if machine.role is not None)


def role_arn(role: str) -> str:
    """Return the ARN of a role of the demo's account."""
    return f"arn:aws:iam::{ACCOUNT_ID}:role/{role}"
