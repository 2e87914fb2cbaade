"""Debian's tools, as its packages have them: see `install-packages`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.cache import PROBES
from tests.conformance.clients import (
    RELATIVE_WITHOUT_TOKEN,
    Cannot,
    Client,
    ClientUnavailableError,
    Works,
    usual_modes,
)
from tests.conformance.modes import Mode
from tests.conformance.world import ROLE

if TYPE_CHECKING:
    from collections.abc import Sequence

_RELEASE, _RELEASE_FILE = "12", Path("/etc/debian_version")
_FOLDER = PROBES / "debian"
_CONTAINER_MODES = (Mode.CONTAINER_TOKEN, Mode.CONTAINER_TOKEN_FILE, Mode.CONTAINER_RELATIVE)
_FULL_URI_MODES = (Mode.CONTAINER_TOKEN, Mode.CONTAINER_TOKEN_FILE)
_IMDS_ALONE = Cannot("it knows 169.254.169.254 alone")
_NO_TOKEN_FILE = Cannot("this version reads no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
_NO_CONTAINERS = Cannot("it knows no container credentials")


def _prepare(package: str, file: str, *command: str) -> Sequence[str]:
    """Return a command line, once the file by which the Debian package is known is there.

    What a tool can do depends on its version: on another Debian than the page's nothing is tried.
    """
    release = _RELEASE_FILE.read_text("ascii") if _RELEASE_FILE.exists() else "none"
    if release.partition(".")[0] != _RELEASE:
        raise ClientUnavailableError(
            f"the page has the tools of Debian {_RELEASE}; this is {release.strip()}"
        )
    if not Path(file).exists():
        raise ClientUnavailableError(f"the Debian package {package} is not installed")
    return command


def _script(package: str, *more: str) -> partial[Sequence[str]]:
    return partial(_prepare, package, f"/usr/bin/{package}", "sh", str(_FOLDER / f"{package}.sh"), *more)


def _prepare_s3fs() -> Sequence[str]:
    if not Path("/dev/fuse").exists():
        raise ClientUnavailableError("there is no /dev/fuse to mount with")
    return _script("s3fs")()


CLIENTS = (
    Client(
        name="awscli 2",
        language="debian",
        prepare=partial(_prepare, "awscli", "/usr/bin/aws", "sh", str(_FOLDER / "awscli.sh"), "/usr/bin/aws"),
        modes=usual_modes({Mode.CONTAINER_TOKEN_FILE: _NO_TOKEN_FILE}),
    ),
    Client(
        name="s3cmd",
        language="debian",
        prepare=_script("s3cmd"),
        modes=usual_modes(
            {
                **dict.fromkeys((Mode.NAMESPACE, Mode.NAMESPACE_NO_REGION), Works("an empty `~/.s3cfg`")),
                **dict.fromkeys((Mode.ENDPOINT, Mode.IPV6), _IMDS_ALONE),
                **dict.fromkeys(_CONTAINER_MODES, _NO_CONTAINERS),
            }
        ),
    ),
    Client(
        name="s3fs",
        language="debian",
        prepare=_prepare_s3fs,
        modes={
            Mode.NAMESPACE: Works(
                "`-o iam_role=ROLE,endpoint=REGION`",
                {"S3FS_OPTIONS": f"iam_role={ROLE},endpoint={{region}}"},
            ),
            Mode.NAMESPACE_NO_REGION: Works(
                "`-o iam_role=auto`, for which it asks without a token: in the daemon "
                "`list_without_token: true`; S3 tells it the region",
                {"S3FS_OPTIONS": "iam_role=auto"},
                listener={"list_without_token": True},
            ),
            **dict.fromkeys((Mode.ENDPOINT, Mode.IPV6), _IMDS_ALONE),
            **dict.fromkeys(_FULL_URI_MODES, Cannot("it knows no full URI")),
            Mode.CONTAINER_RELATIVE: Works(
                f"`-o ecs,endpoint=REGION`, {RELATIVE_WITHOUT_TOKEN.what_to_set}",
                {"S3FS_OPTIONS": "ecs,endpoint={region}"},
                listener=RELATIVE_WITHOUT_TOKEN.listener,
            ),
            Mode.V1: Works(
                "`-o iam_role=ROLE,imdsv1only,endpoint=REGION`; in the daemon `imds_v1: true`",
                {"S3FS_OPTIONS": f"iam_role={ROLE},imdsv1only,endpoint={{region}}"},
            ),
        },
    ),
    Client(
        name="AWS SDK for Ruby 3",
        language="debian",
        prepare=partial(
            _prepare,
            "ruby-aws-sdk-s3",
            "/usr/share/doc/ruby-aws-sdk-s3",
            "/usr/bin/ruby",
            str(_FOLDER / "ruby_sdk.rb"),
        ),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Cannot("it asks for no region, and wants one"),
                Mode.ENDPOINT: Works(
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT; this version asks port 80 whatever it says", port=80
                ),
                **dict.fromkeys(_FULL_URI_MODES, Cannot("this version knows no full URI")),
                Mode.CONTAINER_RELATIVE: RELATIVE_WITHOUT_TOKEN,
            }
        ),
    ),
    Client(
        name="GDAL",
        language="debian",
        prepare=partial(
            _prepare,
            "python3-gdal",
            "/usr/share/doc/python3-gdal",
            "/usr/bin/python3",
            str(_FOLDER / "gdal_probe.py"),
        ),
        modes=usual_modes(
            {
                Mode.NAMESPACE: Works("CPL_AWS_AUTODETECT_EC2=NO"),
                Mode.NAMESPACE_NO_REGION: Works("CPL_AWS_AUTODETECT_EC2=NO; it asks S3"),
                Mode.ENDPOINT: Works("CPL_AWS_EC2_API_ROOT_URL", {"CPL_AWS_EC2_API_ROOT_URL": "{endpoint}"}),
                Mode.IPV6: Works(
                    "`CPL_AWS_EC2_API_ROOT_URL=http://[fd00:ec2::254]`",
                    {"CPL_AWS_EC2_API_ROOT_URL": "{endpoint}"},
                ),
                **dict.fromkeys(_FULL_URI_MODES, Cannot("this version knows no full URI")),
                Mode.CONTAINER_RELATIVE: RELATIVE_WITHOUT_TOKEN,
            }
        ),
    ),
    Client(
        name="rclone",
        language="debian",
        prepare=_script("rclone"),
        modes=usual_modes(
            {
                Mode.NAMESPACE_NO_REGION: Cannot("it asks for no region, and signs for us-east-1"),
                Mode.CONTAINER_TOKEN_FILE: _NO_TOKEN_FILE,
            }
        ),
    ),
    Client(
        name="curl",
        language="debian",
        prepare=_script("curl"),
        modes=usual_modes(),
    ),
)
