"""JavaScript's clients, in one installation of packages from npm."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import copy_probe, find_tool, make_once, run_step, text_of
from tests.conformance.clients import Cannot, Client, ClientUnavailableError, Works, usual_modes
from tests.conformance.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OLDEST_NODE = 20
"""What `engines` of the newest of these packages says."""


def _prepare(program: str) -> Sequence[str]:
    """Return the command line of `tests/sdk/javascript/PROGRAM`, next to its packages."""
    find_tool("node", "npm")
    version = _node_version()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise ClientUnavailableError(f"node is {version}, needed is {_OLDEST_NODE} or newer")
    folder = make_once("javascript", f"{version}\n{text_of('javascript')}", _install)
    return ["node", str(folder / program)]


def _install(folder: Path) -> None:
    copy_probe("javascript", folder)
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    run_step(["npm", "install", *quiet], folder)


def _node_version() -> str:
    done = subprocess.run(["node", "--version"], capture_output=True, check=True, text=True, timeout=60)
    return done.stdout.strip()


_WRONG_KEY = Cannot(
    "its `IamAwsProvider` reads the access key from `AccessKeyID`; EC2 and ECS write `AccessKeyId`, "
    'so it has none (`accessKey should be of type "string"`)'
)

CLIENTS = (
    Client(
        name="AWS SDK for JavaScript 3",
        language="javascript",
        prepare=partial(_prepare, "sdk-v3.mjs"),
        modes=usual_modes(),
    ),
    Client(
        name="AWS SDK for JavaScript 2",
        language="javascript",
        prepare=partial(_prepare, "sdk-v2.mjs"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Works(
                    "nothing; it never asks for the region: S3 tells it, for other services set AWS_REGION"
                ),
                Mode.CONTAINER_RELATIVE: Works(  # with it, it reads the token from a file alone
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    environment={"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{token_file}"},
                    without=frozenset({"AWS_CONTAINER_AUTHORIZATION_TOKEN"}),
                ),
            }
        ),
    ),
    Client(
        name="minio (JavaScript)",
        language="javascript",
        prepare=partial(_prepare, "minio.mjs"),
        modes=dict.fromkeys(Mode, _WRONG_KEY),
    ),
)
