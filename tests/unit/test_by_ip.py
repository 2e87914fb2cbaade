"""by_ip: from confirmed host names to one grant, or to a refusal that says why."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imds_proxy_providers import by_ip
from pydantic import ValidationError

from imds_proxy import naming
from imds_proxy.errors import ProviderError, Refusal, ResolutionError
from tests.standins.callers import NamedCaller
from tests.standins.provider_pages import REFUSED, Sample, samples

if TYPE_CHECKING:
    from imds_proxy.model import Grant
    from imds_proxy.names import AllowedDomains

ACCOUNTS = {"main": {"id": "000123456789"}}
BASE: dict[str, object] = {
    "allowed_domains": ["valid.example"],
    "account_name": "main",
    "role_prefix": "roleprefix-",
}
LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", fullmatch=True)
RULES: list[object] = [
    "loctyp",
    "hostname",
    {"pattern": "(?P<a>.*)", "role": "{a}"},
    {"pattern": "(?P<a>[a-z]+)(?P<b>[0-9]*).*", "role": "{b}{a}", "maps": {"b": {"": "x"}}},
]


def settings(**changes: object) -> by_ip.Settings:
    return by_ip.Settings.model_validate(BASE | changes, context={"accounts": ACCOUNTS})


async def grant_for(made: by_ip.Provider, *names: str, address: str = "10.0.0.5") -> Grant:
    (grant,) = await made.grants_for(NamedCaller(address, names))
    return grant


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("tuvfoo42.valid.example", "roleprefix-tuvfoo"),
        ("berbar07.valid.example", "roleprefix-probar"),
    ],
)
async def test_a_machine_gets_its_role(name: str, role: str) -> None:
    """Prefix and rule make the role; the account is the configured one."""
    grant = await grant_for(by_ip.Provider(settings()), name)
    assert (grant.account, grant.role) == ("main", role)


async def test_the_reason_says_who_and_why() -> None:
    """Name, address and rule are in the reason, for the audit record and for `explain`."""
    grant = await grant_for(by_ip.Provider(settings()), "tuvfoo42.valid.example")
    assert grant.reason == "tuvfoo42.valid.example is 10.0.0.5 (confirmed), rule loctyp gives tuvfoo"


async def test_names_that_agree() -> None:
    """Several names that lead to one role are one grant, whose reason has them all."""
    grant = await grant_for(
        by_ip.Provider(settings()), "hambar01.valid.example", "berbar07.valid.example", address="fd00::5"
    )
    assert grant.role == "roleprefix-probar"
    assert grant.reason == (
        "berbar07.valid.example, hambar01.valid.example are fd00::5 (confirmed), rule loctyp gives probar"
    )


async def test_names_that_disagree() -> None:
    """Two roles are a refusal that names both, never a guess."""
    with pytest.raises(Refusal) as refusal:
        await grant_for(by_ip.Provider(settings()), "tuvfoo42.valid.example", "tuvbar42.valid.example")
    assert "tuvbar42.valid.example gives roleprefix-tuvbar" in str(refusal.value)
    assert "tuvfoo42.valid.example gives roleprefix-tuvfoo" in str(refusal.value)


@pytest.mark.parametrize("other", ["tuvfoo42.valid.example", "aaafoo42.valid.example"])
async def test_a_name_without_a_role_disagrees(other: str) -> None:
    """One confirmed name without a role refuses the caller, wherever it stands in the order."""
    with pytest.raises(Refusal, match=r"rule loctyp gives short\.valid\.example no role"):
        await grant_for(by_ip.Provider(settings()), "short.valid.example", other)


async def test_no_confirmed_name() -> None:
    """The refusal of a caller without a name in the domains goes through."""
    with pytest.raises(Refusal, match=r"10\.0\.0\.5 has no confirmed name"):
        await grant_for(by_ip.Provider(settings()), "tuvfoo42.evilvalid.example")


class NamelessCaller(NamedCaller):
    """A caller that gives no name and forgets to refuse."""

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Return nothing."""
        self.look_ups.append(domains)
        return ()


async def test_no_name_is_never_a_grant() -> None:
    """Should a caller have no name at all, it is refused here; the reason says which domains count."""
    made = by_ip.Provider(settings(allowed_domains=["valid.example", "*.rz.example"]))
    with pytest.raises(
        Refusal, match=r"^10\.0\.0\.5 has no confirmed name in valid\.example, \*\.rz\.example$"
    ):
        await made.grants_for(NamelessCaller("10.0.0.5"))


async def test_the_domains_are_asked_for_once() -> None:
    """One decision is one look-up, with the configured domains."""
    caller = NamedCaller("10.0.0.5", ["tuvfoo42.a.rz.example"])
    await by_ip.Provider(settings(allowed_domains=["*.rz.example"])).grants_for(caller)
    (domains,) = caller.look_ups
    assert (domains.exact, domains.below) == (frozenset(), frozenset({"rz.example"}))


async def test_an_empty_list_allows_nobody() -> None:
    """No allowed domain is a refusal, without a look-up."""
    caller = NamedCaller("10.0.0.5", ["tuvfoo42.valid.example"])
    with pytest.raises(Refusal, match="allows nobody"):
        await by_ip.Provider(settings(allowed_domains=[])).grants_for(caller)
    assert caller.look_ups == []


@pytest.mark.parametrize("trouble", [ResolutionError("SERVFAIL"), Refusal("nine PTR names")])
async def test_what_the_look_up_raises_goes_through(trouble: Exception) -> None:
    """DNS trouble stays trouble, a suspicious answer a refusal."""
    caller = NamedCaller("10.0.0.5", trouble=trouble)
    with pytest.raises(type(trouble)) as raised:
        await by_ip.Provider(settings()).grants_for(caller)
    assert raised.value is trouble


async def test_a_role_that_iam_would_not_take() -> None:
    """A prefix and a host part that are longer than 64 characters together are a refusal."""
    made = by_ip.Provider(settings(rule="hostname"))
    with pytest.raises(Refusal, match="no role name for IAM"):
        await grant_for(made, "x" * 54 + ".valid.example")
    assert (await grant_for(made, "x" * 53 + ".valid.example")).role == "roleprefix-" + "x" * 53


@pytest.mark.parametrize("prefix", ["roleprefix-", ""])
async def test_the_prefix_alone_is_no_role(prefix: str) -> None:
    """A rule that gives nothing is a refusal: the role is always longer than the prefix."""
    made = by_ip.Provider(settings(role_prefix=prefix, rule={"pattern": "x(?P<a>.?)", "role": "{a}"}))
    with pytest.raises(Refusal, match="no role name for IAM"):
        await grant_for(made, "x.valid.example")


async def test_an_empty_prefix() -> None:
    """An empty prefix is allowed: the rule's answer is the whole role."""
    assert (
        await grant_for(by_ip.Provider(settings(role_prefix="")), "tuvfoo42.valid.example")
    ).role == "tuvfoo"


class Overridden(by_ip.Provider):
    """A site's subclass whose answer the test chooses."""

    answer: Any = None

    def role_for(self, host: str) -> str | None:
        """Return what the test chose, and remember the question."""
        self.asked = host
        answer: str | None = self.answer
        return answer


def overridden(answer: object) -> Overridden:
    made = Overridden(settings())
    made.answer = answer
    return made


async def test_a_subclass_overrides_the_rule() -> None:
    """`role_for` gets the host part and gives the rest of the role; the reason says who decided."""
    made = overridden("special")
    grant = await grant_for(made, "tuvfoo42.valid.example")
    assert made.asked == "tuvfoo42"
    assert grant.role == "roleprefix-special"
    assert grant.reason.endswith(".Overridden.role_for gives special")


@pytest.mark.parametrize("answer", ["", "a/b", "../x", "x" * 54, "ä", "a\n", "a b", None, "*", "{a}"])
async def test_a_silly_override_is_refused(answer: str | None) -> None:
    """What is no role name, or no role, is a refusal."""
    with pytest.raises(Refusal):
        await grant_for(overridden(answer), "tuvfoo42.valid.example")


@pytest.mark.parametrize("answer", [b"tuvfoo", 7, ["tuvfoo"], True, object()])
async def test_a_broken_override_is_trouble(answer: object) -> None:
    """What is no text is the provider's error, not a verdict on the caller."""
    with pytest.raises(ProviderError, match="not a role name"):
        await grant_for(overridden(answer), "tuvfoo42.valid.example")


class Sly(str):
    """Text that wants to replace what stands before it."""

    __slots__ = ()

    def __radd__(self, other: str) -> str:
        """Forget the prefix."""
        return str(self)

    def __format__(self, spec: str) -> str:
        """Show another face."""
        return "admin"


async def test_a_sly_override_stays_in_the_prefix() -> None:
    """Not even a subclass of str gets rid of the prefix."""
    assert (await grant_for(overridden(Sly("admin")), "tuvfoo42.valid.example")).role == "roleprefix-admin"


@given(st.text())
async def test_no_override_leaves_the_prefix(answer: str) -> None:
    """Whatever text an override returns: a role that IAM takes, longer than the prefix, or a refusal."""
    try:
        grant = await grant_for(overridden(answer), "tuvfoo42.valid.example")
    except Refusal:
        return
    assert grant.role == "roleprefix-" + answer
    assert answer
    assert naming.is_role_name(grant.role)


@given(
    st.lists(st.lists(LABEL, min_size=1, max_size=4).map(".".join), max_size=3),
    st.sampled_from(RULES),
    st.sampled_from(["roleprefix-", "p", "x" * 63, ""]),
)
async def test_no_names_lead_outside_the_prefix(names: list[str], rule: object, prefix: str) -> None:
    """Whatever names DNS has: one grant within the prefix and the account, or a refusal."""
    made = by_ip.Provider(settings(rule=rule, role_prefix=prefix, allowed_domains=["valid.example"]))
    try:
        grants = await made.grants_for(NamedCaller("10.0.0.5", [f"{name}.valid.example" for name in names]))
    except Refusal:
        return
    (grant,) = grants
    assert grant.account == "main"
    assert grant.role.startswith(prefix)
    assert len(grant.role) > len(prefix)
    assert naming.is_role_name(grant.role)


@pytest.mark.parametrize(
    ("changes", "where", "text"),
    [
        ({"allowed_domains": ["valid.example", "a b"]}, ("allowed_domains", 1), "is not a domain"),
        ({"allowed_domains": "valid.example"}, ("allowed_domains",), "valid list"),
        ({"account_name": "other"}, ("account_name",), "no account 'other'"),
        ({"role_prefix": "path/"}, ("role_prefix",), "'path/' can't begin a role name"),
        ({"role_prefix": "x" * 64}, ("role_prefix",), "at most 63"),
        ({"rule": "loctype"}, ("rule",), "not a rule; known: loctyp, hostname"),
        ({"rule": ["loctyp"]}, ("rule",), "not a rule"),
        ({"rule": None}, ("rule",), "not a rule"),
        ({"rule": {"pattern": "(", "role": "{a}"}}, ("rule", "pattern"), "not a regular expression"),
        ({"rule": {"pattern": "(?P<a>.)", "role": "{b}"}}, ("rule", "role"), "no group 'b'"),
        ({"role": "x"}, ("role",), "not permitted"),
    ],
)
def test_faults(changes: dict[str, object], where: tuple[str | int, ...], text: str) -> None:
    """A fault is found when the settings are read, once, at its key."""
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    (fault,) = error.value.errors()
    assert fault["loc"] == where
    assert text in fault["msg"]


@pytest.mark.parametrize("key", BASE)
def test_required_settings(key: str) -> None:
    """Domains, account and prefix have no default: whoever leaves one out is told."""
    with pytest.raises(ValidationError, match="Field required") as error:
        by_ip.Settings.model_validate({name: value for name, value in BASE.items() if name != key})
    assert [fault["loc"] for fault in error.value.errors()] == [(key,)]


def test_settings_can_be_shown_and_read_again() -> None:
    """`imds-proxy config` prints what the file said, in a form that gives the same settings."""
    first = settings(rule={"pattern": "(?P<a>.)", "role": "{a}"}, allowed_domains=["*.valid.example"])
    assert by_ip.Settings.model_validate(first.model_dump(mode="json")) == first


def provider_of(sample: Sample) -> by_ip.Provider:
    """Return the provider that a sample of the page describes, of the sample's own class if it has one."""
    (shown,) = sample.providers()
    shown = dict(shown)
    cls = by_ip.Provider
    if sample.module:
        module = ModuleType(str(shown.pop("module")))
        exec(compile(sample.module, module.__name__, "exec"), module.__dict__)
        cls = getattr(module, str(shown.pop("class")))
    else:
        assert shown.pop("type") == "by_ip"
    return cls(cls.settings_model.model_validate(shown, context={"accounts": sample.accounts()}))


@pytest.mark.parametrize("sample", samples("by_ip"), ids=str)
async def test_the_samples_of_the_page(sample: Sample) -> None:
    """The settings in docs/providers/by_ip.md are valid and give what the page says."""
    made = provider_of(sample)
    assert sample.promises
    for name, role in sample.promises:
        try:
            given_role = (await grant_for(made, name)).role
        except Refusal:
            given_role = REFUSED
        assert given_role == role, name
