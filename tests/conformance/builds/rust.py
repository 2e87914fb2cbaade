"""Rust's clients: programs of one crate."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import copy_probe, find_tool, make_once, run_step, text_of
from tests.conformance.clients import RELATIVE_WITHOUT_TOKEN, Cannot, Client, Works, usual_modes
from tests.conformance.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROGRAMS = ("aws_sdk", "object_store")


def _prepare(program: str) -> Sequence[str]:
    """Return the command line of what `tests/sdk/rust/src/bin/PROGRAM.rs` is built into."""
    find_tool("cargo", "cc")
    folder = make_once("rust", f"{_cargo_version()}\n{text_of('rust')}", _build)
    return [str(folder / program)]


def _build(folder: Path) -> None:
    """Build all programs at once, for they share most of two minutes of compiling; keep them alone."""
    copy_probe("rust", folder)
    target = folder / "target"
    cargo = ["nice", "-n", "10", "cargo", "build", "--quiet", "--jobs", "1", "--target-dir", str(target)]
    run_step(cargo, folder)
    for program in _PROGRAMS:
        shutil.move(target / "debug" / program, folder / program)
    shutil.rmtree(target)  # hundreds of megabytes that nothing needs any more


def _cargo_version() -> str:
    done = subprocess.run(["cargo", "--version"], capture_output=True, check=True, text=True, timeout=60)
    return done.stdout.strip()


CLIENTS = (
    Client(
        name="AWS SDK for Rust",
        language="rust",
        prepare=partial(_prepare, "aws_sdk"),
        modes=usual_modes(),
    ),
    Client(
        name="object_store (Rust)",
        language="rust",
        prepare=partial(_prepare, "object_store"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Cannot(
                    "never asks for the region: without AWS_REGION it is us-east-1"
                ),
                Mode.ENDPOINT: Works(
                    "AWS_METADATA_ENDPOINT=http://HOST:PORT",
                    environment={"AWS_METADATA_ENDPOINT": "{endpoint}"},
                    without=frozenset({"AWS_EC2_METADATA_SERVICE_ENDPOINT"}),
                ),
                Mode.IPV6: Works(
                    "AWS_METADATA_ENDPOINT=http://[fd00:ec2::254]",
                    environment={"AWS_METADATA_ENDPOINT": "{endpoint}"},
                    without=frozenset({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"}),
                ),
                Mode.CONTAINER_TOKEN: Cannot(
                    "takes a full URI only with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, and asks for "
                    "instance metadata without it"
                ),
                Mode.CONTAINER_RELATIVE: RELATIVE_WITHOUT_TOKEN,
            }
        ),
    ),
)
