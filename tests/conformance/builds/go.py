"""Go's clients: programs of one module, each built by itself."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import copy_probe, find_tool, make_once, run_step, text_of
from tests.conformance.clients import Client, Works, usual_modes
from tests.conformance.modes import WHAT_TO_SET, Mode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CONTAINER_MODES = (Mode.CONTAINER_TOKEN, Mode.CONTAINER_TOKEN_FILE, Mode.CONTAINER_RELATIVE)
_ENVIRONMENT = {
    "GOFLAGS": "-mod=mod -buildvcs=false",  # there is no go.sum, and the copy lies within a repository
    "GOTOOLCHAIN": "local",  # an older go says what it lacks and fetches no other
}


def _prepare(program: str) -> Sequence[str]:
    """Return the command line of what `tests/sdk/go/PROGRAM` is built into."""
    find_tool("go")

    def build(folder: Path) -> None:
        copy_probe("go", folder)
        command = ["nice", "-n", "10", "go", "build", "-p", "1", "-o", "probe", f"./{program}"]
        run_step(command, folder, _ENVIRONMENT)

    folder = make_once(f"go/{program}", f"{_go_version()}\n{text_of('go')}", build)
    return [str(folder / "probe")]


def _go_version() -> str:
    done = subprocess.run(["go", "version"], capture_output=True, check=True, text=True, timeout=60)
    return done.stdout.strip()


_NEW_IAM = 'in the program `credentials.NewIAM("")`'

CLIENTS = (
    Client(
        name="AWS SDK for Go 2",
        language="go",
        prepare=partial(_prepare, "sdkv2"),
        modes=usual_modes({Mode.NAMESPACE_NO_REGION: Works("in the program `config.WithEC2IMDSRegion()`")}),
    ),
    Client(
        name="AWS SDK for Go 1",
        language="go",
        prepare=partial(_prepare, "sdkv1"),
        modes=usual_modes(
            {Mode.NAMESPACE_NO_REGION: Works("in the program `ec2metadata.New(session).Region()`")}
        ),
    ),
    Client(
        name="minio-go",
        language="go",
        prepare=partial(_prepare, "miniogo"),
        modes=usual_modes(
            {
                Mode.NAMESPACE: Works(_NEW_IAM),
                Mode.NAMESPACE_NO_REGION: Works(f"{_NEW_IAM}; it asks S3 for the bucket's region"),
                Mode.ENDPOINT: Works('in the program `credentials.NewIAM("http://HOST:PORT")`'),
                Mode.IPV6: Works(
                    'in the program `credentials.NewIAM("http://[fd00:ec2::254]")`',
                    environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{endpoint}"},
                ),
                **{mode: Works(f"{WHAT_TO_SET[mode]}; {_NEW_IAM}") for mode in _CONTAINER_MODES},
            }
        ),
    ),
)
