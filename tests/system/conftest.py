"""The laboratory, made once for all tests here, and the gateway that most of them ask."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.system.lab.gateway import make_listener, make_settings
from tests.system.lab.laboratory import running_laboratory
from tests.system.lab.requirements import find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which is how a CI job is ended, clean up as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def lab() -> Iterator[Laboratory]:
    missing = find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    with ending_like_ctrl_c(), running_laboratory() as laboratory:
        yield laboratory


@pytest.fixture(scope="session")
def gateway(lab: Laboratory) -> Iterator[Gateway]:
    """Port 80 as it comes, with hop limit 1; port 8002 with hop limit 2."""
    listeners = [
        make_listener("169.254.169.254:80"),
        make_listener("[fd00:ec2::254]:80"),
        make_listener("169.254.169.254:8002", hop_limit=2),
        make_listener("[fd00:ec2::254]:8002", hop_limit=2),
    ]
    with lab.running_gateway(make_settings(lab.aws, listen=listeners)) as gateway:
        yield gateway
