"""Whose machine gets which role: forward-confirmed reverse DNS, asked of a real name server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.lab import bind
from tests.system.lab.gateway import EXCEPTED_CALLER, FOREIGN_CALLER, make_listener, make_settings
from tests.system.lab.machine import METADATA_V6
from tests.system.verdicts import PROBAR, TUVFOO, assert_granted, assert_refused

if TYPE_CHECKING:
    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory

pytestmark = pytest.mark.system


def test_a_machine_gets_the_role_of_its_name(lab: Laboratory, gateway: Gateway) -> None:
    """curl, with nothing but a route, gets the role that follows from the confirmed name."""
    machine = lab.make_machine(gateway, "tuvfoo40.valid.example")
    assert_granted(lab, machine, TUVFOO, "tuvfoo40.valid.example")
    explained = gateway.explain(machine.address)
    assert (explained.status, explained.outcome, explained.role) == (0, "granted", TUVFOO)
    assert explained.names == [{"name": "tuvfoo40.valid.example", "confirmed": True, "allowed": True}]


def test_boto3_finds_its_role_by_itself(lab: Laboratory, gateway: Gateway) -> None:
    """Unmodified boto3 with nothing set signs as the machine's role, the machine named in the session."""
    machine = lab.make_machine(gateway, "berbar07.valid.example")
    result = machine.run_boto3(lab.aws.url)
    assert result.method == "iam-role"
    assert result.arn == f"arn:aws:sts::000123456789:assumed-role/{PROBAR}/berbar07.valid.example"
    assert [call.session_name for call in lab.calls()].count("berbar07.valid.example") == 1


def test_boto3_finds_its_role_over_ipv6(lab: Laboratory, gateway: Gateway) -> None:
    """With the endpoint mode IPv6 alone set, boto3 asks fd00:ec2::254 and is known by its IPv6 address."""
    machine = lab.make_machine(gateway)
    lab.names.register(machine.address_v6, "berbar06.valid.example")
    result = machine.run_boto3(lab.aws.url, {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"})
    assert result.arn == f"arn:aws:sts::000123456789:assumed-role/{PROBAR}/berbar06.valid.example"
    # The machine's IPv4 address has no name: nothing but the IPv6 address can have led to the role.
    assert_refused(lab, machine)


def test_an_unknown_address_is_refused(lab: Laboratory, gateway: Gateway) -> None:
    """An address without a PTR gets no role."""
    machine = lab.make_machine(gateway)
    assert_refused(lab, machine)
    explained = gateway.explain(machine.address)
    assert (explained.status, explained.outcome, explained.role) == (1, "refused", None)


def test_an_unknown_ipv6_address_is_refused(lab: Laboratory, gateway: Gateway) -> None:
    """The name of a machine's IPv4 address says nothing about its IPv6 address."""
    machine = lab.make_machine(gateway, lab.new_name())
    assert_refused(lab, machine, METADATA_V6)


def test_a_ptr_that_does_not_lead_back_is_refused(lab: Laboratory, gateway: Gateway) -> None:
    """Whoever owns a reverse zone can point at another's name, but that name has another's address."""
    owner = lab.make_machine(gateway, "tuvfoo43.valid.example")
    impostor = lab.make_machine(gateway)
    lab.names.point(impostor.address, "tuvfoo43.valid.example")
    assert_refused(lab, impostor)
    explained = gateway.explain(impostor.address)
    assert (explained.status, explained.outcome) == (1, "refused")
    assert explained.names == [{"name": "tuvfoo43.valid.example", "confirmed": False, "allowed": True}]
    assert_granted(lab, owner, TUVFOO, "tuvfoo43.valid.example")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"tuvfoo44.{bind.FORBIDDEN_DOMAIN}", id="other domain"),
        pytest.param(f"tuvfoo44.{bind.SUFFIX_TRICK_DOMAIN}", id="suffix trick"),
        pytest.param(f"tuvfoo44.valid.example.{bind.FORBIDDEN_DOMAIN}", id="allowed domain inside another"),
        pytest.param("tuvfoo44.below.valid.example", id="below the allowed domain"),
    ],
)
def test_a_name_outside_the_allowed_domains_is_refused(lab: Laboratory, gateway: Gateway, name: str) -> None:
    """A name that leads back but lies elsewhere gives no role; its zone is not even asked."""
    machine = lab.make_machine(gateway, name)
    assert_refused(lab, machine)
    assert gateway.explain(machine.address).outcome == "refused"
    assert lab.names.address_questions(name) == []
    # All that kept it from a role is its domain.
    assert lab.names.resolve(name) == [machine.address]


@pytest.mark.parametrize(
    ("written", "read_as_text"),
    [
        pytest.param(r"tuvfoo45.valid\.example", "tuvfoo45.valid.example", id="in the domain"),
        pytest.param(r"tuvfoo46\.valid.example", "tuvfoo46.valid.example", id="in the host part"),
    ],
)
def test_an_escaped_dot_is_no_dot(lab: Laboratory, gateway: Gateway, written: str, read_as_text: str) -> None:
    """A label that has a dot in it is no host name, also where the text without the escape leads back."""
    machine = lab.make_machine(gateway)
    lab.names.point(machine.address, written)
    lab.names.publish(read_as_text, machine.address)
    assert_refused(lab, machine)
    assert lab.names.look_up_ptr(machine.address) == [f"{written}."]


def test_eight_true_names_of_one_role_are_granted(lab: Laboratory, gateway: Gateway) -> None:
    """Eight PTRs that lead back and agree are the most there may be; the first names the session."""
    names = [f"tuvfoo1{number}.valid.example" for number in range(8)]
    machine = lab.make_machine(gateway, *names)
    assert_granted(lab, machine, TUVFOO, names[0])


def test_nine_true_names_of_one_role_are_refused(lab: Laboratory, gateway: Gateway) -> None:
    """One PTR more is a refusal, though all lead back and agree."""
    machine = lab.make_machine(gateway, *(f"tuvfoo2{number}.valid.example" for number in range(9)))
    assert_refused(lab, machine)
    assert gateway.explain(machine.address).outcome == "refused"


def test_two_true_names_of_two_roles_are_refused(lab: Laboratory, gateway: Gateway) -> None:
    """Names that disagree on the role give none: no guess."""
    machine = lab.make_machine(gateway, "tuvfoo47.valid.example", "berbar08.valid.example")
    assert_refused(lab, machine)
    explained = gateway.explain(machine.address)
    assert (explained.status, explained.outcome) == (1, "refused")
    assert {"name": "tuvfoo47.valid.example", "confirmed": True, "allowed": True} in explained.names


def test_a_long_answer_is_read_in_full(lab: Laboratory, gateway: Gateway) -> None:
    """Eight PTRs too long for a datagram come over TCP; the one in the allowed domain counts."""
    label = "x" * 60
    foreign = [f"{label}.{label}.{label}.{number}.{bind.FORBIDDEN_DOMAIN}" for number in range(7)]
    machine = lab.make_machine(gateway, "tuvfoo50.valid.example")
    lab.names.point(machine.address, *foreign)
    assert_granted(lab, machine, TUVFOO, "tuvfoo50.valid.example")
    assert lab.names.is_asked_over_tcp(machine.address)


def test_a_classless_delegation_is_followed(lab: Laboratory, gateway: Gateway) -> None:
    """RFC 2317: the PTR stands behind a CNAME in another zone."""
    machine = lab.make_machine(gateway, address=bind.CLASSLESS_ADDRESS)
    lab.names.point_classless(machine.address, "tuvfoo48.valid.example")
    lab.names.publish("tuvfoo48.valid.example", machine.address)
    assert lab.names.look_up_ptr(machine.address) == [f"5.{bind.CLASSLESS_ZONE}.", "tuvfoo48.valid.example."]
    assert_granted(lab, machine, TUVFOO, "tuvfoo48.valid.example")


def test_upper_case_does_not_matter(lab: Laboratory, gateway: Gateway) -> None:
    """A name in upper case is the same name: role and session are in lower case."""
    machine = lab.make_machine(gateway, "TUVFOO49.Valid.EXAMPLE")
    assert lab.names.look_up_ptr(machine.address) == ["TUVFOO49.Valid.EXAMPLE."]
    assert_granted(lab, machine, TUVFOO, "tuvfoo49.valid.example")


def test_an_ipv4_caller_of_a_dual_stack_listener_is_an_ipv4_caller(lab: Laboratory) -> None:
    """On `[::]:80` an IPv4 peer shows as ::ffff:A.B.C.D; lists, names and roles take it as A.B.C.D."""
    settings = make_settings(lab.aws, listen=[make_listener("[::]:80")])
    with lab.running_gateway(settings) as gateway:
        machine = lab.make_machine(gateway, "tuvfoo51.valid.example")
        assert_granted(lab, machine, TUVFOO, "tuvfoo51.valid.example")
        assert_refused(lab, lab.make_machine(gateway))
        excepted = lab.make_machine(gateway, address=EXCEPTED_CALLER)
        assert excepted.ask_token().status == 403
        foreigner = lab.make_machine(gateway, address=FOREIGN_CALLER)
        assert foreigner.ask_token().status == 403
