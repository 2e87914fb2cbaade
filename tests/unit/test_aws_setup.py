"""docs/aws-setup.md: its policies have the shape and size that AWS takes, and allow what the page says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from tests.standins import manual
from tests.standins.aws_setup import (
    BUCKET_ACCOUNT,
    DAEMON,
    DAEMON_ACCOUNT,
    EXTERNAL_ID,
    GATEWAY_ADDRESS,
    PAGE,
    POLICIES,
    ROLES_ACCOUNT,
)
from tests.standins.iam_policies import ALLOW_ALL, Asked, decide, listed
from tests.standins.strict_sts import AssumeRole, Role, Signer, StsError, check_parameters, check_role

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = {"identity": 2048, "trust": 2048, "resource": 20480, "scp": 5120, "rcp": 5120}
"""Characters: IAM and STS quotas (a user's inline policies; trust policy), S3, AWS Organizations."""

PERMISSIONS_ONLY = {"sts": {"TagSession", "SetSourceIdentity"}, "s3": {"ListBucket"}}
"""Actions that are no operation of an API. Service authorization reference."""

_ARN = re.compile(r"arn:aws:[a-z0-9]+:[a-z0-9-]*:(\d{12}|\*|):[^\s]+")
_STATEMENTS = [
    pytest.param(name, statement, id=f"{name} {number}")
    for name, text in POLICIES.items()
    for number, statement in enumerate(json.loads(text)["Statement"])
]


def kind_of(name: str) -> str:
    """Return what kind of policy it is."""
    return name.partition(":")[0]


def principals_of(statement: Mapping[str, Any]) -> list[str]:
    """Return whom a statement names, services included."""
    principal = statement.get("Principal", [])
    named = principal.values() if isinstance(principal, dict) else [principal]
    return [name for names in named for name in listed(names)]


# --- shape -------------------------------------------------------------------------------------------


def test_every_policy_has_a_name() -> None:
    """No JSON on the page is left out of these tests."""
    assert len(POLICIES) == sum(block.kind == "json" for block in manual.blocks(PAGE)) >= 10
    assert {kind_of(name) for name in POLICIES} == set(LIMITS)


@pytest.mark.parametrize("name", POLICIES)
def test_documents(name: str) -> None:
    """The language's version, statements, distinct Sids, and within the limit of its kind."""
    document = json.loads(POLICIES[name])
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"] if "Sid" in statement]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
    counts_white_space = kind_of(name) in {"scp", "rcp", "resource"}
    text = POLICIES[name] if counts_white_space else json.dumps(document, separators=(",", ":"))
    assert len(text) <= LIMITS[kind_of(name)]


@pytest.mark.parametrize(("name", "statement"), _STATEMENTS)
def test_elements(name: str, statement: dict[str, Any]) -> None:
    """A trust policy has no resource, a user's own and an SCP no principal; the fences only deny."""
    kind = kind_of(name)
    assert statement["Effect"] == ("Deny" if kind in {"scp", "rcp"} else "Allow")
    assert ("Principal" in statement) == (kind in {"trust", "resource", "rcp"})
    assert ("Resource" in statement) == (kind != "trust")
    assert "Action" in statement
    assert kind != "rcp" or statement["Principal"] == "*"


@pytest.mark.parametrize(("name", "statement"), _STATEMENTS)
def test_nobody_gets_too_much(name: str, statement: dict[str, Any]) -> None:
    """What allows names principals (no account) and actions, and all resources only under conditions."""
    if kind_of(name) in {"scp", "rcp"}:
        assert statement["Condition"]
        return
    for principal in principals_of(statement):
        assert re.fullmatch(r"[a-z0-9]+\.amazonaws\.com|arn:aws:iam::\d{12}:(user|role)/[^*]+", principal)
    assert not any("*" in action for action in listed(statement["Action"]))
    assert "*" not in listed(statement.get("Resource", [])) or statement["Condition"]


@pytest.mark.parametrize(("name", "statement"), _STATEMENTS)
def test_actions_and_arns_are_known(name: str, statement: dict[str, Any]) -> None:
    """Actions of services that there are; ARNs of well-known accounts."""
    session = botocore.session.get_session()
    for action in listed(statement["Action"]):
        if action != "*":
            service, _, operation = action.partition(":")
            known = session.get_service_model(service).operation_names
            assert operation in {*known, *PERMISSIONS_ONLY.get(service, ())}, action
    accounts = {DAEMON_ACCOUNT, ROLES_ACCOUNT, BUCKET_ACCOUNT}
    for text in re.findall(r'"(arn:[^"]*)"', json.dumps(statement)):
        match = _ARN.fullmatch(text)
        assert match, f"{name}: {text}"
        assert match[1] in {*accounts, "*", ""}


@pytest.mark.parametrize(("name", "statement"), _STATEMENTS)
def test_conditions_fit_their_actions(name: str, statement: dict[str, Any]) -> None:
    """sts:TagSession knows neither external id nor names, sts:SetSourceIdentity only its own key."""
    known_by = {
        "sts:TagSession": r"aws:.*",
        "sts:SetSourceIdentity": r"aws:(?!RequestTag|TagKeys).*|sts:SourceIdentity",
    }
    keys = [key for keys in statement.get("Condition", {}).values() for key in keys]
    for action in listed(statement["Action"]):
        assert [key for key in keys if not re.fullmatch(known_by.get(action, ".*"), key)] == [], name


def test_the_page_explains_its_placeholders() -> None:
    """Each account in a policy or elsewhere is in the table at the top."""
    explained = {
        number for row in manual.rows(manual.section(PAGE, "What AWS needs")) for number in row[0].split("`")
    }
    found = set(re.findall(r"\b\d{12}\b", manual.read(PAGE)))
    assert found == {DAEMON_ACCOUNT, ROLES_ACCOUNT, BUCKET_ACCOUNT}
    assert found <= explained


# --- what they allow -----------------------------------------------------------------------------------

MACHINE_ROLE = f"arn:aws:iam::{ROLES_ACCOUNT}:role/machines/roleprefix-tuvfoo"
PEOPLE_ROLE = f"arn:aws:iam::{ROLES_ACCOUNT}:role/people/role1"
HOST = "tuvfoo42.valid.example"
SIGNER = Signer(DAEMON, DAEMON_ACCOUNT, policies=(POLICIES["identity: daemon"],))
HERE = {"aws:sourceip": GATEWAY_ADDRESS}
FOR_MACHINE = AssumeRole(
    MACHINE_ROLE, HOST, 3600, tags=(("host", HOST),), external_id=EXTERNAL_ID, source_identity=HOST
)
FOR_PERSON = AssumeRole(PEOPLE_ROLE, "jdoe", 3600, external_id=EXTERNAL_ID, source_identity="jdoe")


def is_given(
    call: AssumeRole, trust: str, signer: Signer = SIGNER, network: Mapping[str, str] = HERE
) -> bool:
    """Tell whether STS gives the role, with a trust policy of the page."""
    check_parameters(call)
    try:
        check_role(call, signer, Role(call.role_arn, POLICIES[f"trust: {trust}"]), network)
    except StsError as error:
        if error.code != "AccessDenied":
            raise
        return False
    return True


def test_the_daemon_gets_its_roles() -> None:
    """With all of it, and with the least: without tags and source identity a machine's role is given too."""
    assert is_given(FOR_MACHINE, "machines")
    assert is_given(replace(FOR_MACHINE, tags=(), source_identity=None), "machines")
    assert is_given(FOR_PERSON, "people")
    assert is_given(replace(FOR_PERSON, tags=(("team", "ops"),)), "people")


@pytest.mark.parametrize(
    "role",
    [
        f"arn:aws:iam::{ROLES_ACCOUNT}:role/machines/administrator",
        f"arn:aws:iam::{ROLES_ACCOUNT}:role/roleprefix-tuvfoo",
        f"arn:aws:iam::{ROLES_ACCOUNT}:role/administrator",
        f"arn:aws:iam::{BUCKET_ACCOUNT}:role/machines/roleprefix-tuvfoo",
    ],
)
def test_the_daemon_gets_no_other_role(role: str) -> None:
    """Even of one that trusts it: its own policy ends at the path, the prefix and the account."""
    assert not is_given(replace(FOR_MACHINE, role_arn=role), "machines")
    assert is_given(replace(FOR_MACHINE, role_arn=role), "machines", replace(SIGNER, policies=(ALLOW_ALL,)))


@pytest.mark.parametrize(
    "call",
    [
        replace(FOR_MACHINE, external_id=None),
        replace(FOR_MACHINE, external_id="another-gateway"),
        replace(FOR_MACHINE, session_name="berbar07.valid.example"),
        replace(FOR_MACHINE, session_name="tuvfoo42.evil.example"),
        replace(FOR_MACHINE, tags=(("host", "berbar07.valid.example"),)),
        replace(FOR_MACHINE, tags=(("host", HOST), ("admin", "yes"))),
        replace(FOR_MACHINE, tags=(("admin", "yes"),)),
        replace(FOR_MACHINE, source_identity="berbar07.valid.example"),
    ],
)
def test_a_machines_role_is_for_its_machines(call: AssumeRole) -> None:
    """Whatever does not fit the trust policy is refused, though the daemon asks."""
    assert not is_given(call, "machines")


@pytest.mark.parametrize("trust", ["machines", "people"])
def test_nobody_else_gets_a_role(trust: str) -> None:
    """No other user of the daemon's account, no administrator of it, and nobody from another address."""
    call = FOR_MACHINE if trust == "machines" else FOR_PERSON
    assert is_given(call, trust)
    for arn in (
        f"arn:aws:iam::{DAEMON_ACCOUNT}:user/administrator",
        f"arn:aws:iam::{ROLES_ACCOUNT}:user/imds-proxy",
    ):
        other = Signer(arn, arn.split(":")[4])
        assert not is_given(call, trust, other)
    assert not is_given(call, trust, network={"aws:sourceip": "198.51.100.7"})
    assert not is_given(call, trust, network={"aws:sourcevpce": "vpce-1"})


def test_a_persons_role_wants_a_name() -> None:
    """Without a source identity it is refused, and without the external id."""
    assert not is_given(replace(FOR_PERSON, source_identity=None), "people")
    assert not is_given(replace(FOR_PERSON, external_id=None), "people")


def test_explain_may_look_at_roles_only() -> None:
    """iam:GetRole on the roles of the prefix, in the daemon's own account."""
    own = f"arn:aws:iam::{DAEMON_ACCOUNT}:role/machines/roleprefix-tuvfoo"
    policy = [POLICIES["identity: explain"]]
    assert decide(policy, Asked(DAEMON, "iam:GetRole", own)) is True
    assert decide(policy, Asked(DAEMON, "iam:GetRole", MACHINE_ROLE)) is None
    assert decide(policy, Asked(DAEMON, "iam:ListRoles", "*")) is None


def test_roles_without_permissions() -> None:
    """Both sides together open the bucket; either alone opens nothing, and nothing in the roles' account."""
    elsewhere = {"aws:resourceaccount": BUCKET_ACCOUNT, "aws:resourceorgid": "o-exampleorgid"}
    read = Asked(MACHINE_ROLE, "s3:GetObject", "arn:aws:s3:::shop-images/a.png", elsewhere)
    role, bucket = [POLICIES["identity: leave"]], [POLICIES["resource: bucket"]]
    assert decide(role, read) is decide(bucket, read) is True
    assert decide(role, replace(read, context={**elsewhere, "aws:resourceaccount": ROLES_ACCOUNT})) is None
    assert decide(role, replace(read, context={**elsewhere, "aws:resourceorgid": "o-another"})) is None
    for other in (
        replace(read, principal=MACHINE_ROLE + "2"),
        replace(read, action="s3:PutObject"),
        replace(read, resource="arn:aws:s3:::shop-images-2/a.png"),
    ):
        assert decide(bucket, other) is None
    listing = replace(read, action="s3:ListBucket", resource="arn:aws:s3:::shop-images")
    assert decide(bucket, listing) is True


def test_a_folder_for_each_machine() -> None:
    """By its tag; without one there is none, and a longer name is another folder."""
    policy = [POLICIES["identity: own-folder"]]
    tagged = {"aws:principaltag/host": HOST}
    folder = "arn:aws:s3:::machine-state/"
    own = Asked(MACHINE_ROLE, "s3:PutObject", f"{folder}{HOST}/x", tagged)
    assert decide(policy, own) is True
    assert decide(policy, replace(own, resource=f"{folder}berbar07.valid.example/x")) is None
    assert decide(policy, replace(own, resource=f"{folder}{HOST}2/x")) is None
    assert decide(policy, replace(own, context={})) is None


@pytest.mark.parametrize(
    ("context", "is_denied"),
    [
        ({"aws:sourceip": "203.0.113.99", "aws:viaawsservice": "false"}, False),
        ({"aws:sourcevpc": "vpc-0a1b2c3d4e5f60718", "aws:viaawsservice": "false"}, False),
        ({"aws:sourceip": "198.51.100.7", "aws:viaawsservice": "false"}, True),
        ({"aws:sourcevpc": "vpc-another", "aws:viaawsservice": "false"}, True),
        ({"aws:sourceip": "198.51.100.7", "aws:viaawsservice": "true"}, False),
    ],
)
def test_a_machines_keys_are_worthless_elsewhere(context: dict[str, str], is_denied: bool) -> None:
    """The SCP lets them be used in the network, from the VPC and by services; other roles are left alone."""
    fence = [POLICIES["scp: fence"]]
    asked = Asked(MACHINE_ROLE, "s3:GetObject", "arn:aws:s3:::shop-images/a.png", context)
    assert (decide(fence, asked) is False) == is_denied
    assert decide(fence, replace(asked, principal=PEOPLE_ROLE)) is None


@pytest.mark.parametrize("fence", ["scp: fence", "rcp: fence"])
@pytest.mark.parametrize("role", [MACHINE_ROLE, PEOPLE_ROLE])
def test_only_the_daemon_gets_into_the_roles(fence: str, role: str) -> None:
    """Both fences stop everybody else, whatever the role's trust policy says, and nobody at other roles."""
    asked = Asked(DAEMON, "sts:AssumeRole", role, HERE)
    other = replace(asked, principal=f"arn:aws:iam::{ROLES_ACCOUNT}:role/administrator")
    policy = [POLICIES[fence]]
    assert decide(policy, asked) is None
    assert decide(policy, other) is False
    assert decide(policy, replace(other, resource=f"arn:aws:iam::{ROLES_ACCOUNT}:role/deployment")) is None


def test_roles_stay_as_they_are() -> None:
    """The SCP lets one role change them, and add others."""
    fence = [POLICIES["scp: fence"]]
    change = Asked(f"arn:aws:iam::{ROLES_ACCOUNT}:user/x", "iam:UpdateAssumeRolePolicy", MACHINE_ROLE, HERE)
    keeper = f"arn:aws:iam::{ROLES_ACCOUNT}:role/role-administration"
    assert decide(fence, change) is False
    assert decide(fence, replace(change, action="iam:CreateRole")) is False
    assert decide(fence, replace(change, principal=keeper)) is None
