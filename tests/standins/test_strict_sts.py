"""The strict front refuses what real STS refuses and moto does not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.standins.strict_sts import AssumeRole, Role, Signer, StsError, check_parameters, check_role

SIGNER = Signer("arn:aws:iam::000123456789:user/gateway", "000123456789")
GOOD = AssumeRole("arn:aws:iam::210987654321:role/path/demo", "tuvfoo42.valid.example", 3600)


def role_that_trusts(principal: object, *, actions: object = "sts:AssumeRole", **conditions: object) -> Role:
    """Return a role with one statement in its trust policy."""
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions}
    if conditions:
        statement["Condition"] = conditions
    return Role(GOOD.role_arn, json.dumps({"Statement": [statement]}))


def may(*actions: str) -> str:
    """Return a policy of a user's own."""
    return json.dumps({"Statement": {"Effect": "Allow", "Action": list(actions), "Resource": "*"}})


def test_form_is_read_as_it_was_sent() -> None:
    """Every parameter of the query protocol arrives, tags in their order."""
    form = {
        "RoleArn": GOOD.role_arn,
        "RoleSessionName": "name",
        "DurationSeconds": "900",
        "ExternalId": "id",
        "SourceIdentity": "source",
        "Policy": "{}",
        "Tags.member.2.Key": "b",
        "Tags.member.2.Value": "2",
        "Tags.member.1.Key": "a",
        "Tags.member.1.Value": "1",
    }
    call = AssumeRole.parse(form)
    assert call == AssumeRole(GOOD.role_arn, "name", 900, (("a", "1"), ("b", "2")), "{}", "id", "source")
    assert (call.role_name, call.account_id) == ("demo", "210987654321")


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        replace(GOOD, session_name="a@"),
        replace(GOOD, session_name="x" * 64, duration=900),
        replace(GOOD, duration=43200, external_id="a:/b", tags=(("Ort", "Tübingen 1"),)),
        replace(GOOD, tags=tuple((f"key{number}", "") for number in range(50))),
        replace(GOOD, policy='{"Statement": []}'),
        replace(GOOD, source_identity="tuvfoo42.valid.example"),
    ],
)
def test_parameters_within_limits(good: AssumeRole) -> None:
    """What the API reference allows passes."""
    check_parameters(good)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (replace(GOOD, role_arn="demo"), "ValidationError"),
        (replace(GOOD, role_arn="arn:aws:iam::123456789:role/demo"), "ValidationError"),
        (replace(GOOD, session_name="x"), "ValidationError"),
        (replace(GOOD, session_name="x" * 65), "ValidationError"),
        (replace(GOOD, session_name="two words"), "ValidationError"),
        (replace(GOOD, session_name="tübingen"), "ValidationError"),
        (replace(GOOD, session_name="a/b"), "ValidationError"),
        (replace(GOOD, duration=899), "ValidationError"),
        (replace(GOOD, duration=43201), "ValidationError"),
        (replace(GOOD, external_id="x"), "ValidationError"),
        (replace(GOOD, source_identity="x"), "ValidationError"),
        (replace(GOOD, source_identity="x" * 65), "ValidationError"),
        (replace(GOOD, source_identity="a:b"), "ValidationError"),
        (replace(GOOD, external_id="a b"), "ValidationError"),
        (replace(GOOD, tags=tuple((f"key{number}", "") for number in range(51))), "ValidationError"),
        (replace(GOOD, tags=(("", "value"),)), "ValidationError"),
        (replace(GOOD, tags=(("k" * 129, "value"),)), "ValidationError"),
        (replace(GOOD, tags=(("key", "v" * 257),)), "ValidationError"),
        (replace(GOOD, tags=(("key", "a;b"),)), "ValidationError"),
        (replace(GOOD, tags=(("aws:key", "value"),)), "ValidationError"),
        (replace(GOOD, tags=(("Key", "a"), ("key", "b"))), "InvalidParameterValue"),
        (replace(GOOD, policy="x" * 2049), "ValidationError"),
        (replace(GOOD, policy="{"), "MalformedPolicyDocument"),
        (replace(GOOD, policy="[]"), "MalformedPolicyDocument"),
    ],
)
def test_parameters_beyond_limits(bad: AssumeRole, code: str) -> None:
    """What the API reference forbids is refused with the code that real STS uses."""
    with pytest.raises(StsError) as refusal:
        check_parameters(bad)
    assert (refusal.value.status, refusal.value.code) == (400, code)


@pytest.mark.parametrize(
    "role",
    [
        role_that_trusts(SIGNER.arn),
        role_that_trusts([SIGNER.arn, "arn:aws:iam::210987654321:user/other"], actions=["sts:*"]),
        role_that_trusts("arn:aws:iam::000123456789:root"),
        role_that_trusts("000123456789"),
        role_that_trusts("*", StringLike={"sts:RoleSessionName": "*.valid.example"}),
    ],
)
def test_trusting_role(role: Role) -> None:
    """A role that trusts the signer by ARN, account or anybody, under conditions that hold, is given."""
    check_role(GOOD, SIGNER, role)


@pytest.mark.parametrize(
    "role",
    [
        None,
        role_that_trusts("arn:aws:iam::000123456789:user/gateway2"),
        role_that_trusts("arn:aws:iam::210987654321:root"),
        role_that_trusts(SIGNER.arn, actions="sts:AssumeRoleWithSAML"),
        role_that_trusts(SIGNER.arn, StringEquals={"sts:ExternalId": "wanted"}),
        role_that_trusts("*", StringLike={"sts:RoleSessionName": "*.other.example"}),
    ],
)
def test_role_that_is_missing_or_does_not_trust(role: Role | None) -> None:
    """A missing role and a distrusting one are told apart by nothing: AccessDenied as STS words it."""
    with pytest.raises(StsError) as refusal:
        check_role(GOOD, SIGNER, role)
    assert (refusal.value.status, refusal.value.code) == (403, "AccessDenied")
    assert refusal.value.message == (
        "User: arn:aws:iam::000123456789:user/gateway is not authorized to perform: sts:AssumeRole "
        "on resource: arn:aws:iam::210987654321:role/path/demo"
    )


def test_external_id_has_to_be_equal() -> None:
    """The external id that the role wants opens it, no other does."""
    role = role_that_trusts(SIGNER.arn, StringEquals={"sts:ExternalId": "wanted"})
    check_role(replace(GOOD, external_id="wanted"), SIGNER, role)
    with pytest.raises(StsError, match="AccessDenied"):
        check_role(replace(GOOD, external_id="Wanted"), SIGNER, role)


def test_deny_beats_allow() -> None:
    """A statement that denies wins over one that allows."""
    allow = {"Effect": "Allow", "Principal": "*", "Action": "*"}
    deny = {"Effect": "Deny", "Principal": {"AWS": SIGNER.arn}, "Action": "*"}
    with pytest.raises(StsError, match="AccessDenied"):
        check_role(GOOD, SIGNER, Role(GOOD.role_arn, json.dumps({"Statement": [allow, deny]})))


def test_tags_need_their_own_permission() -> None:
    """Tags are refused unless the role lets its sessions be tagged."""
    tagged = replace(GOOD, tags=(("key", "value"),))
    check_role(tagged, SIGNER, role_that_trusts(SIGNER.arn, actions=["sts:AssumeRole", "sts:TagSession"]))
    with pytest.raises(StsError, match="sts:TagSession"):
        check_role(tagged, SIGNER, role_that_trusts(SIGNER.arn))


def test_a_source_identity_needs_its_own_permission() -> None:
    """From the role and from whoever signs; and once set it is in all that follows."""
    named = replace(GOOD, source_identity="host.example")
    role = role_that_trusts(SIGNER.arn, actions=["sts:AssumeRole", "sts:SetSourceIdentity"])
    check_role(named, SIGNER, role)
    with pytest.raises(StsError, match="sts:SetSourceIdentity"):
        check_role(named, SIGNER, role_that_trusts(SIGNER.arn))
    with pytest.raises(StsError, match="sts:SetSourceIdentity"):
        check_role(named, replace(SIGNER, policies=(may("sts:AssumeRole"),)), role)
    chained = replace(SIGNER, is_session=True, source_identity="other.example")
    check_role(GOOD, chained, role)
    with pytest.raises(StsError, match="sts:SetSourceIdentity"):
        check_role(GOOD, chained, role_that_trusts(SIGNER.arn))
    with pytest.raises(StsError, match="can't be changed"):
        check_role(named, chained, role)


def test_both_accounts_have_to_agree() -> None:
    """Without a policy of its own a user gets into no other account; into its own if a role names it."""
    nobody = replace(SIGNER, policies=())
    here = replace(GOOD, role_arn="arn:aws:iam::000123456789:role/demo")
    check_role(here, nobody, replace(role_that_trusts(SIGNER.arn), arn=here.role_arn))
    for call, principal in (
        (GOOD, SIGNER.arn),
        (here, "arn:aws:iam::000123456789:root"),
        (here, "000123456789"),
    ):
        role = replace(role_that_trusts(principal), arn=call.role_arn)
        check_role(call, SIGNER, role)
        with pytest.raises(StsError, match="AccessDenied"):
            check_role(call, nobody, role)


def test_conditions_that_an_action_does_not_know() -> None:
    """An external id is no part of sts:TagSession: a statement for both of them refuses the tags."""
    tagged = replace(GOOD, tags=(("key", "value"),), external_id="wanted")
    both = ["sts:AssumeRole", "sts:TagSession"]
    role = role_that_trusts(SIGNER.arn, actions=both, StringEquals={"sts:ExternalId": "wanted"})
    check_role(replace(tagged, tags=()), SIGNER, role)
    with pytest.raises(StsError, match="sts:TagSession"):
        check_role(tagged, SIGNER, role)


def test_duration_beyond_the_role() -> None:
    """A session longer than the role allows is a ValidationError in the words of STS."""
    role = replace(role_that_trusts(SIGNER.arn), max_session_duration=7200)
    check_role(replace(GOOD, duration=7200), SIGNER, role)
    with pytest.raises(StsError) as refusal:
        check_role(replace(GOOD, duration=7201), SIGNER, role)
    text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    assert (refusal.value.code, refusal.value.message) == ("ValidationError", text)


def test_role_chaining_is_limited_to_an_hour() -> None:
    """A session of a role may not ask for more than an hour, whatever the role allows."""
    chained = Signer(SIGNER.arn, SIGNER.account_id, is_session=True)
    role = replace(role_that_trusts(SIGNER.arn), max_session_duration=43200)
    check_role(GOOD, chained, role)
    with pytest.raises(StsError, match="role chaining"):
        check_role(replace(GOOD, duration=3601), chained, role)


@pytest.mark.parametrize(
    "policy",
    [
        {"Effect": "Allow", "NotPrincipal": "*", "Principal": "*", "Action": "*"},
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "*",
            "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
        },
    ],
)
def test_what_the_front_does_not_understand_is_an_error(policy: dict[str, object]) -> None:
    """A trust policy beyond the front's understanding is never taken for a yes or a no."""
    with pytest.raises(ValueError, match="beyond this stand-in"):
        check_role(GOOD, SIGNER, Role(GOOD.role_arn, json.dumps({"Statement": policy})))
