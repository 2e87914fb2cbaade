"""Java's clients: programs of one Maven project, with the libraries next to their classes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.conformance.cache import copy_probe, find_tool, make_once, run_step, text_of
from tests.conformance.clients import RELATIVE_WITHOUT_TOKEN, Client, Works, usual_modes
from tests.conformance.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""The program lives for seconds: no threads for what pays off later."""


def _prepare(program: str) -> Sequence[str]:
    """Return the command line of the class `probes.PROGRAM`."""
    find_tool("java", "javac", "mvn")
    folder = make_once("java", text_of("java"), _build)
    classes = f"{folder}/target/classes:{folder}/target/libraries/*"
    # Java looks the home up in the list of users, not in HOME, and version 1 of the SDK has its files there.
    return ["sh", "-c", f'exec java {_START} -Duser.home="$HOME" -cp "$0" "$@"', classes, f"probes.{program}"]


def _build(folder: Path) -> None:
    copy_probe("java", folder)
    libraries = [
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        "-DoutputDirectory=target/libraries",
    ]
    maven = ["nice", "-n", "10", "mvn", "--batch-mode", "--quiet", "--no-transfer-progress"]
    run_step([*maven, "compile", *libraries], folder)


CLIENTS = (
    Client(
        name="AWS SDK for Java 2",
        language="java",
        prepare=partial(_prepare, "SdkV2"),
        modes=usual_modes(),
    ),
    Client(
        name="AWS SDK for Java 1",
        language="java",
        prepare=partial(_prepare, "SdkV1"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Works(
                    "nothing; a program that names an S3 endpoint has to name a region, too: "
                    "`DefaultAwsRegionProviderChain` finds it"
                ),
                Mode.IPV6: Works(
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://[fd00:ec2::254]; it knows no mode",
                    environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{endpoint}"},
                ),
                Mode.CONTAINER_RELATIVE: RELATIVE_WITHOUT_TOKEN,
            }
        ),
    ),
)
