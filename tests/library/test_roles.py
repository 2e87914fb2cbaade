"""What a user may have, and credentials for it that AWS takes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest

from imds_proxy import AWSFederationProxy, PermissionError  # noqa: A004
from tests.library.site import ACCOUNT, ACCOUNT_ID, ACCOUNTS, MODULE, proxy_for

if TYPE_CHECKING:
    from tests.standins.aws_process import Aws


def test_roles_come_with_their_reasons(aws: Aws) -> None:
    """By account, as pairs in a set, and AWS is not asked."""
    proxy = proxy_for("r1", "r2")
    told = "alice was told so"
    assert proxy.get_account_and_role_dict() == {ACCOUNT: {("r1", told), ("r2", told)}}
    assert aws.counts() == {}


def test_nothing_is_an_empty_dictionary(aws: Aws) -> None:
    """Who has no role is not in trouble."""
    assert proxy_for().get_account_and_role_dict() == {}
    assert aws.counts() == {}


def test_credentials_are_the_roles(aws: Aws) -> None:
    """AWS knows them by account, role and user; they live for an hour; old programs read `to_dict`."""
    aws.add_roles("library-role")
    credentials = proxy_for("library-role").get_aws_credentials(ACCOUNT, "library-role")
    sts = boto3.client(
        "sts",
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.session_token,
    )
    arn = f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/library-role/alice"
    assert sts.get_caller_identity()["Arn"] == arn
    left = credentials.expires_at - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    assert credentials.expiration == credentials.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert credentials.to_dict() == {
        "access_key": credentials.access_key,
        "secret_key": credentials.secret_key,
        "session_token": credentials.session_token,
        "expiration": credentials.expiration,
    }
    [call] = aws.calls()
    assert (call.session_name, call.duration) == ("alice", 3600)


def test_permission_is_decided_before_aws_hears_of_it(aws: Aws) -> None:
    """A role that is not granted, and an account that is not: PermissionError, no request."""
    proxy = proxy_for("r1")
    proxy.check_user_permissions(ACCOUNT, "r1")
    for account, role in ((ACCOUNT, "r2"), ("other", "r1"), (ACCOUNT, "R1"), ("", "")):
        with pytest.raises(PermissionError):
            proxy.check_user_permissions(account, role)
        with pytest.raises(PermissionError):
            proxy.get_aws_credentials(account, role)
    assert aws.counts() == {}


def test_who_may_what_is_logged(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    """By the logger that was handed in: a yes with its reason, a no as a warning."""
    logger = logging.getLogger("site")
    provider = {"module": MODULE, "class": "Roles", "roles": ["r1"]}
    proxy = AWSFederationProxy("alice", {"provider": provider}, ACCOUNTS, logger=logger)
    with caplog.at_level(logging.INFO, "site"):
        proxy.check_user_permissions(ACCOUNT, "r1")
        with pytest.raises(PermissionError):
            proxy.check_user_permissions(ACCOUNT, "r2")
    found = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert found == [
        ("site", "INFO", "user 'alice' may have role 'r1' in 'main': alice was told so"),
        (
            "site",
            "WARNING",
            "user 'alice' may not have role 'r2' in 'main': alice has no role 'r2' in 'main'",
        ),
    ]
    assert aws.counts() == {}


def test_what_users_of_the_old_class_read() -> None:
    """The attributes are there, as they were given."""
    logger = logging.getLogger("site")
    config = {"module": MODULE, "class": "Stranger"}
    proxy = AWSFederationProxy(user="alice", config=config, account_config=ACCOUNTS, logger=logger)
    assert proxy.user == "alice"
    with pytest.raises(AttributeError):
        proxy.user = "bob"  # type: ignore[misc]  # on purpose: the answers would still be alice's
    assert proxy.application_config is config
    assert proxy.account_config is ACCOUNTS
    assert proxy.logger is logger
    assert proxy.provider is not None
    assert repr(proxy) == f"AWSFederationProxy(user='alice', provider='{MODULE}.Stranger')"


def test_a_class_that_derives_from_nothing(aws: Aws) -> None:
    """The shape is enough; a list of pairs is as good as a set."""
    aws.add_roles("list-role")
    proxy = proxy_for(class_name="Stranger")
    assert proxy.get_account_and_role_dict() == {ACCOUNT: {("list-role", "alice in a list")}}
    assert proxy.get_aws_credentials(ACCOUNT, "list-role").account_id == ACCOUNT_ID


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["main-r1", "nothing", "main-r2"], {"main": {"r1", "r2"}}),
        (["ap-test1-rp-role1"], {"ap-test1-rp": {"role1"}}),
        ([], {}),
        (None, {}),
    ],
)
def test_a_class_by_groups(groups: list[str] | None, roles: dict[str, set[str]]) -> None:
    """`get_group_list` and a regex make the roles, split at the last hyphen; None stands for no group."""
    provider = {
        "module": MODULE,
        "class": "Groups",
        "regex": "(?P<account>.*)-(?P<role>.*)",
        "groups": groups,
    }
    proxy = AWSFederationProxy("alice", provider, ACCOUNTS)
    found = proxy.get_account_and_role_dict()
    assert {account: {role for role, _ in pairs} for account, pairs in found.items()} == roles


def test_a_machine_as_user(aws: Aws) -> None:
    """An address is a user whose host name can be asked for; the session is named after the address."""
    aws.add_roles("rp-tuvfoo42")
    settings = {"allowed_domains": ["valid.example"], "account_name": ACCOUNT, "role_prefix": "rp-"}
    config = {
        "provider": {"module": MODULE, "class": "Machines", **settings},
        "hosts": {"10.0.0.5": "tuvfoo42.valid.example", "10.0.0.6": "tuvfoo42.foreign.example"},
    }
    proxy = AWSFederationProxy("10.0.0.5", config, ACCOUNTS)
    [account] = proxy.get_account_and_role_dict()
    assert account == ACCOUNT
    proxy.get_aws_credentials(ACCOUNT, "rp-tuvfoo42")
    assert [call.session_name for call in aws.calls()] == ["10.0.0.5"]
    for user in ("10.0.0.6", "alice"):
        stranger = AWSFederationProxy(user, config, ACCOUNTS)
        assert stranger.get_account_and_role_dict() == {}
        with pytest.raises(PermissionError):
            stranger.check_user_permissions(ACCOUNT, "rp-tuvfoo42")
    assert len(aws.calls()) == 1


def test_a_mapped_address_is_the_address(aws: Aws) -> None:
    """`::ffff:10.0.0.5` is 10.0.0.5 for a provider of the new shape as well."""
    settings = {
        "type": "by_ip",
        "allowed_domains": ["valid.example"],
        "account_name": ACCOUNT,
        "role_prefix": "",
    }
    config = {**settings, "rule": "hostname", "hosts": {"10.0.0.5": "tuvfoo42.valid.example"}}
    proxy = AWSFederationProxy("::ffff:10.0.0.5", config, ACCOUNTS)
    [(role, _)] = proxy.get_account_and_role_dict()[ACCOUNT]
    assert role == "tuvfoo42"
    assert aws.counts() == {}


def test_denied_users_have_nothing(aws: Aws) -> None:
    """`deny` means here what it means in the daemon."""
    proxy = proxy_for("r1", user="10.0.0.9", deny=["10.0.0.9"])
    assert proxy.get_account_and_role_dict() == {}
    with pytest.raises(PermissionError):
        proxy.get_aws_credentials(ACCOUNT, "r1")
    assert aws.counts() == {}
