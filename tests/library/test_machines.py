"""A machine's address as the user: real DNS confirms its names, both ways, before a class is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy import AWSFederationProxy, FederationError, PermissionError  # noqa: A004
from imds_proxy.errors import ResolutionError
from tests.library.site import ACCOUNT, ACCOUNTS, MODULE
from tests.standins.dns_server import NameServer, running_name_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.aws_process import Aws

SETTINGS = {"allowed_domains": ["valid.example"], "account_name": ACCOUNT, "role_prefix": "rp-"}


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    """A name server without records."""
    with running_name_server() as server:
        yield server


def _proxy(server: NameServer, address: str) -> AWSFederationProxy:
    provider = {"module": MODULE, "class": "Machines", **SETTINGS}
    config = {"provider": provider, "dns": {"nameservers": [server.endpoint], "deadline": "1s"}}
    return AWSFederationProxy(address, config, ACCOUNTS)


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5"])
def test_a_name_that_leads_back(aws: Aws, name_server: NameServer, address: str) -> None:
    """Makes the role, and AWS gives credentials for it."""
    aws.add_roles("rp-tuvfoo42")
    name_server.add_host(address, "tuvfoo42.valid.example")
    proxy = _proxy(name_server, address)
    [(role, reason)] = proxy.get_account_and_role_dict()[ACCOUNT]
    assert role == "rp-tuvfoo42"
    assert "tuvfoo42.valid.example" in reason
    proxy.get_aws_credentials(ACCOUNT, role)
    assert len(aws.calls()) == 1


def test_a_name_that_does_not(aws: Aws, name_server: NameServer) -> None:
    """Whoever runs a reverse zone may write any name there."""
    name_server.set_pointers("10.0.0.6", "tuvfoo42.valid.example")
    name_server.set_records("tuvfoo42.valid.example", "A", "10.0.0.5")
    name_server.set_pointers("10.0.0.7", "tuvfoo42.foreign.example")
    for address in ("10.0.0.6", "10.0.0.7", "10.0.0.8"):
        proxy = _proxy(name_server, address)
        assert proxy.get_account_and_role_dict() == {}
        with pytest.raises(PermissionError):
            proxy.get_aws_credentials(ACCOUNT, "rp-tuvfoo42")
    assert aws.counts() == {}


def test_dns_that_fails(aws: Aws, name_server: NameServer) -> None:
    """Is trouble, not a no."""
    name_server.fault_all("servfail")
    proxy = _proxy(name_server, "10.0.0.5")
    for ask in (proxy.get_account_and_role_dict, lambda: proxy.check_user_permissions(ACCOUNT, "r")):
        with pytest.raises(ResolutionError) as caught:
            ask()
        assert isinstance(caught.value, FederationError)
        assert PermissionError not in type(caught.value).__mro__
    assert aws.counts() == {}
