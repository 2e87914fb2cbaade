"""docs/aws-setup.md with a real daemon: the page's user gets the page's role and no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.standins.aws_setup import (
    DAEMON_ACCOUNT,
    EXTERNAL_ID,
    GATEWAY_ADDRESS,
    POLICIES,
    ROLES_ACCOUNT,
    sample_settings,
)
from tests.standins.commands import run_command
from tests.standins.daemon import settings_for, write_settings
from tests.standins.metadata_client import caller_identity, metadata_client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sdk.conftest import StartDaemon
    from tests.standins.aws_process import Aws

pytestmark = pytest.mark.sdk

HOST, ROLE = "tuvfoo42.valid.example", "roleprefix-tuvfoo"
MACHINES = f"arn:aws:iam::{ROLES_ACCOUNT}:role/machines/"


def policy(name: str) -> Any:
    """Return a policy of the page, with the address from which the tests reach AWS."""
    return json.loads(POLICIES[name].replace(f"{GATEWAY_ADDRESS}/32", "127.0.0.1/32"))


@pytest.fixture
def aws(aws: Aws) -> Aws:
    """AWS as the page sets it up, seen by the daemon's user; and roles that are not for the daemon."""
    user = aws.add_user("imds-proxy", DAEMON_ACCOUNT, policy("identity: daemon"))
    aws.add_roles(ROLE, account=ROLES_ACCOUNT, path="/machines/", trust_policy=policy("trust: machines"))
    aws.add_roles("role1", account=ROLES_ACCOUNT, path="/people/", trust_policy=policy("trust: people"))
    welcoming = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": DAEMON_ACCOUNT}, "Action": "sts:*"}],
    }
    aws.add_roles("administrator", account=ROLES_ACCOUNT, path="/", trust_policy=welcoming)
    aws.add_roles("administrator-2", account=ROLES_ACCOUNT, path="/machines/", trust_policy=welcoming)
    closed = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ROLES_ACCOUNT}, "Action": "sts:*"}],
    }
    aws.add_roles("roleprefix-berbar", account=ROLES_ACCOUNT, path="/machines/", trust_policy=closed)
    return user


def page_settings(aws: Aws, **sections: object) -> dict[str, Any]:
    """Return the page's settings with what a test needs: a loopback listener, the stand-in, fixed names."""
    page = sample_settings()
    ours = settings_for(aws, hosts={"127.0.0.1": HOST, "127.0.0.2": "berbar07.valid.example"})
    page["provider"]["rule"] = "loctyp"
    del ours["providers"]
    return {**ours, **page, "aws": {**ours["aws"], **page["aws"]}, "listen": ours["listen"], **sections}


def explain(settings: Mapping[str, object], address: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Return exit status and JSON of `explain ADDRESS --assume`, which decides by itself."""
    file = write_settings(settings, folder / "explain.yaml")
    done = run_command("explain", address, "--assume", "--offline", "--json", "--config", file)
    return done.returncode, json.loads(done.stdout)


async def test_the_machine_gets_its_role(aws: Aws, start_daemon: StartDaemon, tmp_path: Path) -> None:
    """With tags, external id and source identity; and what the check-list's last command says of it."""
    daemon = start_daemon(page_settings(aws))
    async with metadata_client(daemon) as machine:
        document = await machine.fetch_credentials()
    arn = await caller_identity(aws, document)
    assert arn == f"arn:aws:sts::{ROLES_ACCOUNT}:assumed-role/{ROLE}/{HOST}"
    (call,) = aws.calls()
    assert (call.role_arn, call.signer) == (MACHINES + ROLE, aws.access_key_id)
    assert (call.external_id, call.tags, call.source_identity) == (EXTERNAL_ID, {"host": HOST}, HOST)
    status, answer = explain(page_settings(aws), "127.0.0.1", tmp_path)
    assert (status, answer["outcome"]) == (0, "granted")
    assert f"session name: {HOST}, and source identity" in answer["steps"]


def test_explain_says_what_is_refused(aws: Aws, tmp_path: Path) -> None:
    """A machine whose role does not trust the daemon is refused, as the check-list says."""
    status, answer = explain(page_settings(aws), "127.0.0.2", tmp_path)
    assert (status, answer["outcome"]) == (1, "refused")
    assert "not authorized to perform: sts:AssumeRole" in " ".join(answer["steps"])


@pytest.mark.parametrize(
    ("account", "missing"),
    [
        ({"external_id": "another"}, "sts:AssumeRole"),
        ({"session_tags": {"host": "{name}", "admin": "yes"}}, "sts:TagSession"),
        ({"session_tags": {"host": "berbar07"}}, "sts:TagSession"),
    ],
)
def test_settings_that_do_not_fit(account: dict[str, Any], missing: str, aws: Aws, tmp_path: Path) -> None:
    """Refused by the trust policy; STS's text names the action, as the check-list says."""
    settings = page_settings(aws)
    settings["accounts"]["main"].update(account)
    status, answer = explain(settings, "127.0.0.1", tmp_path)
    assert (status, answer["outcome"]) == (1, "refused")
    assert f"not authorized to perform: {missing}" in " ".join(answer["steps"])


@pytest.mark.parametrize(
    ("role", "session_name", "is_given"),
    [
        (MACHINES + ROLE, HOST, True),
        (f"arn:aws:iam::{ROLES_ACCOUNT}:role/people/role1", "jdoe", True),
        (f"arn:aws:iam::{ROLES_ACCOUNT}:role/administrator", HOST, False),
        (MACHINES + "administrator-2", HOST, False),
        (MACHINES + "roleprefix-berbar", HOST, False),
        (MACHINES + ROLE, "berbar07.valid.example", False),
        (MACHINES + "roleprefix-nobody", HOST, False),
    ],
)
def test_what_the_daemons_key_opens(role: str, session_name: str, is_given: bool, aws: Aws) -> None:
    """The key itself, in whoever's hands: the page's roles, and none beyond its own policy or theirs."""
    sts: Any = boto3.session.Session(
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
        region_name="eu-central-1",
    ).client("sts", endpoint_url=aws.url)
    wanted = {"ExternalId": EXTERNAL_ID, "SourceIdentity": session_name}
    if is_given:
        answer = sts.assume_role(RoleArn=role, RoleSessionName=session_name, **wanted)
        assert answer["AssumedRoleUser"]["Arn"].endswith(f"/{session_name}")
        return
    with pytest.raises(ClientError) as refusal:
        sts.assume_role(RoleArn=role, RoleSessionName=session_name, **wanted)
    assert refusal.value.response["Error"]["Code"] == "AccessDenied"
