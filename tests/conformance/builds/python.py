"""Python's clients: each in a virtual environment of its own, for some pin what others need newer."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import PROBES, make_once, run_step
from tests.conformance.clients import (
    RELATIVE_WITHOUT_TOKEN,
    Cannot,
    Client,
    ClientUnavailableError,
    Works,
    usual_modes,
)
from tests.conformance.modes import WHAT_TO_SET, Mode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _make_venv(name: str, *requirements: str) -> Path:
    """Return the bin folder of a venv with the requirements."""

    def build(folder: Path) -> None:
        run_step([sys.executable, "-m", "venv", str(folder)], folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        run_step([*pip, "--disable-pip-version-check", *requirements], folder)

    return make_once(f"python/{name}", f"{sys.version} {' '.join(requirements)}", build) / "bin"


def _prepare(name: str, program: str, *requirements: str) -> Sequence[str]:
    """Return the command line of `tests/sdk/python/PROGRAM_probe.py` in a venv with the requirements."""
    return [
        str(_make_venv(name, *requirements) / "python"),
        str(PROBES / "python" / f"{program}_probe.py"),
    ]


def _prepare_old(name: str, program: str, *requirements: str) -> Sequence[str]:
    """Return the same for what brings a `six` along that Python 3.12 can't import."""
    if sys.version_info >= (3, 12):
        raise ClientUnavailableError(f"{name} needs Python 3.11 or older")
    return _prepare(name, program, *requirements)


def _prepare_awscli(*requirements: str) -> Sequence[str]:
    folder = _make_venv("awscli", *requirements)
    return ["sh", str(PROBES / "debian" / "awscli.sh"), str(folder / "aws")]


_CONTAINER_MODES = (Mode.CONTAINER_TOKEN, Mode.CONTAINER_TOKEN_FILE, Mode.CONTAINER_RELATIVE)
_MINIO = "in the program `IamAwsProvider()`"
_V1_ONLY = dict.fromkeys(Mode, Cannot("older than IMDSv2: it asks without a token")) | {Mode.V1: Works()}

CLIENTS = (
    Client(
        name="boto3",
        language="python",
        prepare=partial(_prepare, "boto3", "boto3", "boto3==1.44.5"),
        modes=usual_modes(),
    ),
    Client(
        name="boto3 of 2019",
        language="python",
        prepare=partial(
            _prepare_old, "boto3-old", "boto3_old", "boto3==1.10.0", "botocore==1.13.0", "urllib3==1.25.11"
        ),
        modes=_V1_ONLY
        | {
            Mode.CONTAINER_TOKEN: Works(),
            Mode.CONTAINER_RELATIVE: Works(),
            Mode.CONTAINER_TOKEN_FILE: Cannot("it is older than AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        },
    ),
    Client(
        name="boto 2",
        language="python",
        prepare=partial(_prepare_old, "boto2", "boto2", "boto==2.49.0"),
        modes=_V1_ONLY | dict.fromkeys(_CONTAINER_MODES, Cannot("it knows no container credentials")),
    ),
    Client(
        name="aiobotocore",
        language="python",
        prepare=partial(_prepare, "aiobotocore", "aiobotocore", "aiobotocore==3.10.0"),
        modes=usual_modes(),
    ),
    Client(
        name="awscli 1",
        language="python",
        prepare=partial(_prepare_awscli, "awscli==1.46.3"),
        modes=usual_modes(),
    ),
    Client(
        name="awscrt",
        language="python",
        prepare=partial(_prepare, "awscrt", "awscrt", "awscrt==0.38.1"),
        modes=usual_modes(
            {Mode.NAMESPACE_NO_REGION: Cannot("it signs for the region that the program names")}
        ),
    ),
    Client(
        name="AWS SDK for C++ in pyarrow",
        language="python",
        prepare=partial(_prepare, "pyarrow", "pyarrow", "pyarrow==26.0.1"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Cannot(
                    "the SDK asks for the zone, but Arrow signs for us-east-1 all the same"
                )
            }
        ),
    ),
    Client(
        name="obstore",
        language="python",
        prepare=partial(_prepare, "obstore", "obstore", "obstore==0.12.1"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Cannot("it never asks for a region, and signs for us-east-1"),
                Mode.ENDPOINT: Works("AWS_METADATA_ENDPOINT", {"AWS_METADATA_ENDPOINT": "{endpoint}"}),
                Mode.IPV6: Works(
                    "`AWS_METADATA_ENDPOINT=http://[fd00:ec2::254]`", {"AWS_METADATA_ENDPOINT": "{endpoint}"}
                ),
                Mode.CONTAINER_RELATIVE: RELATIVE_WITHOUT_TOKEN,
                Mode.CONTAINER_TOKEN: Cannot(
                    "it takes a full URI only with AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
                ),
            }
        ),
    ),
    Client(
        name="minio-py",
        language="python",
        prepare=partial(_prepare, "minio", "minio", "minio==7.2.20"),
        modes=usual_modes(
            {
                **dict.fromkeys((Mode.NAMESPACE, Mode.NAMESPACE_NO_REGION), Works(_MINIO)),
                Mode.ENDPOINT: Works(
                    'in the program `IamAwsProvider(custom_endpoint="http://ADDRESS:PORT")`',
                    {"CUSTOM_ENDPOINT": "{endpoint}"},
                ),
                Mode.IPV6: Works(
                    'in the program `IamAwsProvider(custom_endpoint="http://[fd00:ec2::254]")`',
                    {"CUSTOM_ENDPOINT": "{endpoint}"},
                ),
                **{mode: Works(f"{_MINIO}; {WHAT_TO_SET[mode]}") for mode in _CONTAINER_MODES},
            }
        ),
    ),
    Client(
        name="ec2-metadata",
        language="python",
        prepare=partial(_prepare, "ec2-metadata", "ec2_metadata", "ec2-metadata==3.0.0"),
        modes=usual_modes(
            {
                **dict.fromkeys((Mode.ENDPOINT, Mode.IPV6), Cannot("it knows 169.254.169.254 alone")),
                **dict.fromkeys(_CONTAINER_MODES, Cannot("it reads instance metadata, and no credentials")),
            }
        ),
        reads_s3=False,
    ),
)
