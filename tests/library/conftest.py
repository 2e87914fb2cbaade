"""The stand-ins of these tests: one AWS and one sign-in endpoint for all, an environment of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standins.asking_sts import clear_environment
from tests.standins.aws_process import Aws, running_aws
from tests.standins.sign_in import SignIn, running_sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def aws_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """AWS, shared: it takes a second to start."""
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        yield aws


@pytest.fixture(scope="session")
def sign_in_process(aws_process: Aws) -> Iterator[SignIn]:
    """The sign-in endpoint, shared."""
    with running_sign_in(aws_process) as sign_in:
        yield sign_in


@pytest.fixture
def aws(aws_process: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """AWS with no calls counted and no faults on, as the environment names it, which has a key for it too."""
    aws_process.reset()
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws_process.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws_process.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws_process.secret_access_key)
    return aws_process


@pytest.fixture
def sign_in(sign_in_process: SignIn, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[SignIn]:
    """The sign-in endpoint, as the environment names it, with no requests counted."""
    del aws
    sign_in_process.requests.clear()
    sign_in_process.strayed.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", sign_in_process.url)
    yield sign_in_process
    sign_in_process.behave()
