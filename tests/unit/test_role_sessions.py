"""role_sessions: from a grant to what STS is asked for; nobody gets into another account, path or name."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imds_proxy import naming
from imds_proxy.errors import Refusal
from imds_proxy.model import Account, Grant, RoleSession, canonical_address
from imds_proxy.names import parse_host_name
from imds_proxy.role_sessions import RoleSessions

NAME = "tuvfoo42.valid.example"
ADDRESS = canonical_address("10.0.0.5")
ACCOUNT = Account("main", "000123456789")
PER_CALLER = RoleSessions(
    signer="AKIAGATEWAY",
    endpoint="eu-central-1",
    partition="aws",
    duration=3600,
    is_shared=False,
    gateway="gw1.rz.example",
)
SHARED = replace(PER_CALLER, is_shared=True)


def grant(role: str = "roleprefix-tuvfoo") -> Grant:
    return Grant("main", role, "because")


def test_all_of_it() -> None:
    """Everything that shapes the credentials is in the session: key, place, account, role, name, limits."""
    account = Account(
        "main",
        "000123456789",
        path="/machines/",
        external_id="ext",
        session_tags=(("Team", "ops"),),
        policy='{"Statement":[]}',
    )
    session = replace(PER_CALLER, partition="aws-cn", duration=7200).session_for(
        grant(), account, (NAME,), ADDRESS
    )
    assert session.role_arn == "arn:aws-cn:iam::000123456789:role/machines/roleprefix-tuvfoo"
    assert session.role_name == "roleprefix-tuvfoo"
    assert (session.signer, session.endpoint, session.partition) == ("AKIAGATEWAY", "eu-central-1", "aws-cn")
    assert (session.account_id, session.session_name, session.duration) == ("000123456789", NAME, 7200)
    assert (session.tags, session.policy, session.external_id) == (
        (("Team", "ops"),),
        '{"Statement":[]}',
        "ext",
    )


def test_the_source_identity_is_the_session_name() -> None:
    """Where the account wants one: a machine's name or address, a person's login. Else there is none."""
    account = replace(ACCOUNT, has_source_identity=True)
    machine = PER_CALLER.session_for(grant(), account, (NAME,), ADDRESS)
    nameless = PER_CALLER.session_for(grant(), account, (), ADDRESS)
    person = PER_CALLER.session_of_person(grant(), account, "Jörg", None)
    assert (machine.source_identity, nameless.source_identity) == (NAME, "10.0.0.5")
    assert person.source_identity == person.session_name == naming.session_name("Jörg")
    assert PER_CALLER.session_for(grant(), ACCOUNT, (NAME,), ADDRESS).source_identity is None
    assert machine != PER_CALLER.session_for(grant(), ACCOUNT, (NAME,), ADDRESS)


TAGGED = replace(ACCOUNT, has_source_identity=True, session_tags=(("Name", "{name}"),))
ADDRESSES = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
LABELS = st.from_regex(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,4}[a-zA-Z0-9_])?", fullmatch=True)
MACHINES = st.lists(LABELS, min_size=1, max_size=30).map(".".join).map(parse_host_name).filter(bool)


def names_at_aws(session: RoleSession) -> set[str]:
    """Return all by which AWS tells who it is, as IAM may compare it without case."""
    assert session.source_identity is not None
    return {session.session_name.lower(), session.source_identity.lower(), session.tags[0][1].lower()}


@given(st.one_of(MACHINES, ADDRESSES), st.sampled_from(["", "upper", ".", "imds-proxy-"]))
@example("tuvfoo42.valid.example", "")
@example("10.0.0.5", "")
@example("fd00::5", "")
@example("web", "")
@example("0", "")
@example("x" * 63 + ".example." + "y" * 60, "")
def test_no_person_has_a_machines_names(name: str, change: str) -> None:
    """Session name, source identity and tags: a login that reads like a machine's name is marked."""
    login = {"": name, "upper": name.upper(), ".": f"{name}.", "imds-proxy-": f"imds-proxy-{name}"}[change]
    gateway = replace(SHARED, gateway=name)
    person = names_at_aws(PER_CALLER.session_of_person(grant(), TAGGED, login, ADDRESS))
    for sessions in (PER_CALLER, gateway):
        for names in ((name,), ()):
            address = canonical_address(name) if ":" in name else ADDRESS
            assert not person & names_at_aws(sessions.session_for(grant(), TAGGED, names, address))


@pytest.mark.parametrize("login", ["jdoe", "JDoe", "j.doe@valid.example", "web", "o_neill", "a-b", "42"])
def test_ordinary_logins_are_session_names(login: str) -> None:
    """And so is a machine's name with a dot in it; a machine's name without one has the mark."""
    session = PER_CALLER.session_of_person(grant(), TAGGED, login, None)
    assert {session.session_name, session.source_identity, session.tags[0][1]} == {login}


@pytest.mark.parametrize(
    "login", ["tuvfoo42.valid.example", "j.doe", "10.0.0.5", "FD00::5", "fd00::/64", "imds-proxy-gw1"]
)
def test_a_login_that_reads_like_a_machines_name(login: str) -> None:
    """Keeps its text in front of the mark."""
    name = PER_CALLER.session_of_person(grant(), ACCOUNT, login, None).session_name
    assert re.fullmatch(re.sub("[:/]", "-", login) + "=[0-9a-f]{16}", name)


def test_a_machine_without_a_domain() -> None:
    """From `hosts:` or a token: it has the mark, since most logins read like it."""
    session = PER_CALLER.session_for(grant(), TAGGED, ("web",), ADDRESS)
    assert re.fullmatch("web=[0-9a-f]{16}", session.session_name)
    assert session.session_name == session.source_identity == session.tags[0][1]


@pytest.mark.parametrize(
    ("names", "address", "name"),
    [
        ((NAME,), "10.0.0.5", NAME),
        (("a.valid.example", NAME), "10.0.0.5", "a.valid.example"),
        ((), "10.0.0.5", "10.0.0.5"),
    ],
)
def test_session_names(names: tuple[str, ...], address: str, name: str) -> None:
    """Per caller, the session is named after the first confirmed name, or after the address."""
    session = PER_CALLER.session_for(grant(), ACCOUNT, names, canonical_address(address))
    assert session.session_name == name


def test_an_ipv6_caller_without_a_name() -> None:
    """What STS does not take in a session name is replaced, and a hash keeps callers apart."""
    first, second = (
        PER_CALLER.session_for(grant(), ACCOUNT, (), canonical_address(address)).session_name
        for address in ("fd00::5", "fd00::5:0")
    )
    assert first.startswith("fd00--5=")
    assert first != second


def test_shared() -> None:
    """With `session: shared` all callers of a grant have one session, named after the gateway."""
    sessions = {
        SHARED.session_for(grant(), ACCOUNT, names, canonical_address(address))
        for names, address in [((NAME,), "10.0.0.5"), (("b.valid.example",), "10.0.0.6"), ((), "fd00::1")]
    }
    (session,) = sessions
    assert session.session_name == "imds-proxy-gw1.rz.example"


def test_shared_grants_stay_apart() -> None:
    """... but two grants have two sessions."""
    first = SHARED.session_for(grant(), ACCOUNT, (NAME,), ADDRESS)
    second = SHARED.session_for(grant("roleprefix-other"), ACCOUNT, (NAME,), ADDRESS)
    third = SHARED.session_for(grant(), replace(ACCOUNT, id="000123456780"), (NAME,), ADDRESS)
    assert len({first, second, third}) == 3


def test_placeholders() -> None:
    """`{name}` and `{address}` in a tag's value stand for the caller; other braces are text."""
    account = replace(ACCOUNT, session_tags=(("Machine", "{name}@{address}"), ("Other", "{x}")))
    session = PER_CALLER.session_for(grant(), account, (NAME,), ADDRESS)
    assert session.tags == (("Machine", f"{NAME}@10.0.0.5"), ("Other", "{x}"))
    nameless = PER_CALLER.session_for(grant(), account, (), ADDRESS)
    assert nameless.tags[0] == ("Machine", "10.0.0.5@10.0.0.5")


def test_a_tag_that_does_not_fit() -> None:
    """A value that is too long when it is filled in is a refusal: cut, it would say something else."""
    account = replace(ACCOUNT, session_tags=(("Machine", "{name}" * 20),))
    with pytest.raises(Refusal, match="a session tag of 440 characters, 256 at most"):
        PER_CALLER.session_for(grant(), account, (NAME,), ADDRESS)


@pytest.mark.parametrize("role", ["", "a/b", "role name", "x" * 65, "röle", "role\n", "../admin", "a:b", "*"])
def test_no_role_name(role: str) -> None:
    """A role's name that IAM would not take, or that would lead out of the path, is a refusal."""
    with pytest.raises(Refusal, match="is no role name"):
        PER_CALLER.session_for(grant(role), ACCOUNT, (NAME,), ADDRESS)


def test_no_external_id_in_a_repr() -> None:
    """The external id is not shown where a session is printed."""
    account = replace(ACCOUNT, external_id="ext-7")
    assert "ext-7" not in repr(PER_CALLER.session_for(grant(), account, (NAME,), ADDRESS))
    assert "ext-7" not in repr(account)


NAMES = st.lists(st.from_regex(r"[a-z0-9_-]{1,20}(\.[a-z0-9_-]{1,20}){0,4}", fullmatch=True), max_size=3)
CALLS = st.tuples(
    st.text(max_size=70) | st.from_regex(r"[\w+=,.@-]{1,64}", fullmatch=True),
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    NAMES.map(tuple),
    st.ip_addresses().map(lambda address: canonical_address(str(address))),
)


@given(CALLS, CALLS)
def test_any_two_callers(first: tuple, second: tuple) -> None:  # type: ignore[type-arg]  # as drawn
    """Whatever role, account, name and address: a session of just these that STS takes, or a refusal.

    Two callers share a session only if role, account and what names it are the same.
    """
    sessions = []
    for role, account_id, names, address in (first, second):
        try:
            session = PER_CALLER.session_for(grant(role), replace(ACCOUNT, id=account_id), names, address)
        except Refusal:
            assert not naming.is_role_name(role)
            return
        assert session.role_arn == f"arn:aws:iam::{account_id}:role/{role}"
        assert 2 <= len(session.session_name) <= 64
        sessions.append(session)
    is_same = first[:2] == second[:2] and (first[2][:1] or (str(first[3]),)) == (
        second[2][:1] or (str(second[3]),)
    )
    assert (sessions[0] == sessions[1]) is is_same


# --- one session for a network -----------------------------------------------------------------------

LAN = IPv6Network("2001:db8::/64")
V6 = canonical_address("2001:db8::5")


def test_a_session_of_a_network() -> None:
    """Named after the network with a mark, tags included: the same for all in it, whatever their names."""
    account = replace(ACCOUNT, session_tags=(("host", "{name}"), ("from", "{address}")))
    shared = replace(grant(), network=LAN)
    first = PER_CALLER.session_for(shared, account, (NAME,), V6)
    assert first == PER_CALLER.session_for(shared, account, (), canonical_address("2001:db8::6"))
    assert first.session_name == naming.session_name("2001:db8::/64")
    assert first.session_name.startswith("2001-db8---64=")
    assert first.tags == (("host", "2001:db8::/64"), ("from", "2001:db8::/64"))
    assert first != PER_CALLER.session_for(grant(), account, (), V6)
    assert SHARED.session_for(shared, ACCOUNT, (), V6) == SHARED.session_for(grant(), ACCOUNT, (), V6)


@pytest.mark.parametrize("address", ["2001:db8:0:1::5", "10.0.0.5"])
def test_a_session_of_another_network(address: str) -> None:
    """A provider that grants a network its caller is not in gets nobody into that network's session."""
    with pytest.raises(Refusal, match="the grant is for callers in 2001:db8::/64"):
        PER_CALLER.session_for(replace(grant(), network=LAN), ACCOUNT, (), canonical_address(address))


def test_grants_with_and_without_a_network_have_an_order() -> None:
    """A provider may give both: nothing compares a network with nothing."""
    grants = {grant(), replace(grant(), network=LAN), replace(grant(), tags=(("a", "b"),))}
    assert len(grants) == 3
    assert sorted(grants, reverse=True)[-1] == min(grants) == grant()
    assert max(grants) >= min(grants)
    with pytest.raises(TypeError):
        _ = grant() < NAME
