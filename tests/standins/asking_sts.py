"""A real Sts for a running AWS stand-in, and an environment from which boto3 learns nothing."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from imds_proxy.clock import SYSTEM_CLOCK
from imds_proxy.sts import Sts, StsThreads
from imds_proxy.sts_settings import StsSettings
from tests.standins.sts import role_session

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from imds_proxy.model import RoleSession
    from tests.standins.aws_process import Aws

ROLE = "roleprefix-tuvfoo"
MAIN = "000123456789"
OTHER = "210987654321"


def clear_environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let no AWS setting or proxy of the developer's get through; AWS's files are looked for in `folder`."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))


class Asking:
    """An Sts, what it warned of and how it counted its calls."""

    def __init__(self, settings: StsSettings, threads: StsThreads) -> None:
        self.warnings: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.sts = Sts(
            settings,
            threads,
            clock=SYSTEM_CLOCK,
            warn=self.warnings.append,
            observe=lambda outcome, _: self.outcomes.update([outcome]),
        )


def settings_for(aws: Aws, **changes: object) -> StsSettings:
    known: dict[str, object] = {
        "region": "eu-central-1",
        "access_key": aws.access_key_id,
        "secret_key": aws.secret_access_key,
        "sts_endpoint": aws.url,
    }
    return StsSettings(**known | changes)  # type: ignore[arg-type]  # fields by name


def session_for(role: str = ROLE, account: str = MAIN, **changes: object) -> RoleSession:
    return role_session(account_id=account, role_arn=f"arn:aws:iam::{account}:role/{role}", **changes)
