"""boto3, unmodified, and container credentials by HTTPS: whose certificate it believes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sdk.machine import ACCOUNT, HOSTS, ROLE, SESSION_ARN
from tests.standins.authority import Authority
from tests.standins.daemon import settings_for
from tests.standins.sdk_clients import run_container_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws
    from tests.standins.sdk_clients import Outcome

pytestmark = pytest.mark.sdk


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The site's own certificate authority."""
    return Authority(tmp_path)


def run(
    authority: Authority, aws: Aws, start_daemon: StartDaemon, folder: Path, **variables: str
) -> tuple[Outcome, str]:
    """Run boto3 with the URL of a container endpoint with TLS; return what came of it and the log."""
    aws.add_roles(ROLE)
    issued = authority.issue("imds")
    issued.key.chmod(0o600)
    listen: dict[str, Any] = {
        "address": "127.0.0.1:0",
        "tls": {"certificate": str(issued.certificate), "key": str(issued.key)},
        "container": {"token": False},
    }
    daemon = start_daemon(settings_for(aws, listen=[listen], hosts=HOSTS))
    url = f"https://{daemon.addresses[0]}/v1/credentials"
    given = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, **variables}
    return run_container_client(given, aws, ROLE, folder, ACCOUNT), daemon.audit_text


def test_an_authority_that_certifi_has(
    authority: Authority, aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """With a certifi that names the site's authorities, as Debian's package does, it gets its keys."""
    folder = tmp_path / "site"
    folder.mkdir()
    program = f"def where():\n    return {str(authority.certificate)!r}\n"
    (folder / "certifi.py").write_text(program)
    outcome, audit = run(authority, aws, start_daemon, tmp_path, PYTHONPATH=str(folder))
    assert outcome.arn == SESSION_ARN, outcome
    assert outcome.content == f"hello from {ACCOUNT}/{ROLE}"
    assert '"granted"' in audit


def test_ca_bundle_is_not_for_this_url(
    authority: Authority, aws: Aws, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """AWS_CA_BUNDLE alone does not help: botocore asks this URL with certifi's authorities. It ends with an
    error of its own, and nothing was handed out.
    """
    bundle = str(authority.certificate)
    outcome, audit = run(
        authority, aws, start_daemon, tmp_path, AWS_CA_BUNDLE=bundle, REQUESTS_CA_BUNDLE=bundle
    )
    assert outcome.is_clean_failure, outcome
    assert '"granted"' not in audit
    assert aws.calls() == []
