"""blocking: classes of the old shape are asked on threads, and what they answer or raise becomes ours."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, TypeAdapter

from imds_proxy.blocking import HANGS_AFTER, MOST_THREADS, BlockingProvider
from imds_proxy.errors import (
    ConfigurationError,
    OverloadError,
    ProviderError,
    Refusal,
    ResolutionError,
    Trouble,
)
from imds_proxy.inquiry import ask_provider
from imds_proxy.metrics import Metrics
from imds_proxy.model import Grant
from imds_proxy.provider import MACHINES, PEOPLE, ProviderSettings
from tests.standins import old_providers
from tests.standins.callers import NamedCaller
from tests.standins.clocks import HandClock
from tests.standins.virtual_time import in_virtual_time
from tests.standins.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.names import AllowedDomains


class Joe:
    """Fulfils `provider.Caller`: a person who has logged in."""

    user = "joe"
    address = None
    workload = None

    async def confirmed_names(self, domains: AllowedDomains) -> tuple[str, ...]:
        """Fail: nobody should ask."""
        raise AssertionError(domains)


JOE = Joe()


def provider_of(provider_class: type[Any], **config: object) -> BlockingProvider:
    return BlockingProvider("site", provider_class, ProviderSettings(), config)


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function: what a class that says this is turned into."""

    async def ask(answer: object) -> frozenset[Grant]:
        monkeypatch.setattr(old_providers.Saying, "answer", answer)
        return await provider_of(old_providers.Saying, password="swordfish").grants_for(JOE)

    return ask


# --- answers --------------------------------------------------------------------------------------------


async def test_sets_of_pairs() -> None:
    """Each pair is a grant with its reason."""
    assert await provider_of(old_providers.Sets).grants_for(JOE) == {
        Grant("main", "a", "joe may"),
        Grant("main", "b", "so it is"),
        Grant("other", "a", "as well"),
    }


async def test_lists_of_pairs(caplog: pytest.LogCaptureFixture) -> None:
    """Lists as well; the object has a logger, named after its module."""
    caplog.set_level(logging.INFO)
    assert await provider_of(old_providers.Lists).grants_for(JOE) == {Grant("main", "a", "joe may")}
    assert caplog.record_tuples == [("tests.standins.old_providers", logging.INFO, "joe asks")]


async def test_a_class_without_a_base_of_ours() -> None:
    """The shape is enough."""
    provider = provider_of(old_providers.Stranger, motto="why not")
    assert await provider.grants_for(JOE) == {Grant("main", "a", "joe: why not")}
    assert provider.serves == {MACHINES, PEOPLE}


async def test_login_names() -> None:
    """As the class spells them, on a thread; the user's own where it does not say."""
    assert await provider_of(old_providers.Lists).logins_of(JOE) == {"joe"}
    assert await provider_of(old_providers.Stranger, motto="x").logins_of(JOE) == {"joe"}
    assert await provider_of(old_providers.Aliases).logins_of(JOE) == {"joe", "Joseph"}
    assert await provider_of(old_providers.Aliases).logins_of(NamedCaller("10.0.0.5")) == frozenset()
    with pytest.raises(ProviderError, match="not with login names"):
        await provider_of(old_providers.Aliases, names="joe").logins_of(JOE)
    with pytest.raises(ProviderError, match="not a text"):
        await provider_of(old_providers.Aliases, names=[7]).logins_of(JOE)
    with pytest.raises(Refusal):
        await provider_of(old_providers.Aliases, names=None).logins_of(JOE)


async def test_a_machine_is_called_by_its_address() -> None:
    """The old program called it so."""
    grants = await provider_of(old_providers.Lists).grants_for(NamedCaller("::ffff:10.0.0.5"))
    assert grants == {Grant("main", "a", "10.0.0.5 may")}


async def test_an_object_for_each_question() -> None:
    """What one does to its settings, no other sees."""
    provider = provider_of(old_providers.Spoiling)
    assert [await provider.grants_for(JOE) for _ in range(2)] == [{Grant("main", "a", "1")}] * 2


@pytest.mark.parametrize("answer", [None, {}, {"main": ()}, {"main": set(), "other": []}])
async def test_nothing_is_a_no(saying: Any, answer: object) -> None:
    """Without a reason."""
    assert await saying(answer) == frozenset()


async def test_one_grant_for_two_reasons(saying: Any) -> None:
    """It is one, and has both."""
    assert await saying({"main": [("a", "y"), ("a", "x"), ("a", "y")]}) == {Grant("main", "a", "x; y")}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (False, "answered with a bool, not with {account: {(role, reason), ...}}"),
        ([("main", "a")], "answered with a list, not with"),
        ("swordfish", "answered with a str, not with"),
        ({1: [("a", "x")]}, "an int for the name of an account, not a text"),
        ({"main": "ab"}, "answered for main with a str, not with (role, reason) pairs"),
        ({"main": {"a": "x"}}, "answered for main with a dict, not with (role, reason) pairs"),
        ({"main": None}, "answered for main with a NoneType, not with (role, reason) pairs"),
        ({"main": ["ab"]}, "answered for main with a str among its roles, not a (role, reason) pair"),
        ({"main": [("a",)]}, "answered for main with a tuple among its roles"),
        ({"main": [("a", "x", "y")]}, "answered for main with a tuple among its roles"),
        ({"main": [(b"a", "x")]}, "a bytes for the name of a role, not a text"),
        ({"main": [("a", None)]}, "answered for main with a NoneType as the reason of a, not a text"),
    ],
)
async def test_an_answer_of_another_form_is_trouble(saying: Any, answer: object, text: str) -> None:
    """Never a yes, and never half of one; what it was is not shown, only its type."""
    with pytest.raises(ProviderError) as caught:
        await saying(answer)
    assert text in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"": [("a", "x")]}, "an empty text for the name of an account"),
        ({"main": [("", "x")]}, "an empty text for the name of a role"),
        ({"main\n": [("a", "x")]}, "a line break or control character in the name of an account"),
        ({"main": [("a\tb", "x")]}, "a line break or control character in the name of a role"),
        ({"main": [("a\udcff", "x")]}, "a line break or control character in the name of a role"),
    ],
)
async def test_a_name_that_nothing_can_have_is_trouble(saying: Any, answer: object, text: str) -> None:
    """It would forge lines wherever roles are listed."""
    with pytest.raises(ProviderError, match=text) as caught:
        await saying(answer)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_reason_is_one_line(saying: Any) -> None:
    """Whatever it was."""
    assert await saying({"main": [("a", " x\ty\n\nz\0 ")]}) == {Grant("main", "a", "x y z?")}


# --- what is raised -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [Refusal("not you"), PermissionError("not you")],
    ids=["ours", "builtin"],
)
async def test_permission_denied_is_a_refusal(saying: Any, error: Exception) -> None:
    """Ours, or Python's, as old classes raise it."""
    with pytest.raises(Refusal, match=r"^not you$"):
        await saying(error)


async def test_a_refusal_without_words_has_the_name_of_the_class(saying: Any) -> None:
    """A reason is never empty."""
    with pytest.raises(Refusal, match=r"old_providers\.Saying says no"):
        await saying(PermissionError())


@pytest.mark.parametrize("error", [ResolutionError("no DNS"), OverloadError("full"), Trouble("later")])
async def test_trouble_stays_what_it_is(saying: Any, error: Exception) -> None:
    """A class that knows our errors may use them."""
    with pytest.raises(Trouble) as caught:
        await saying(error)
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "no access", "/etc/groups"),
        KeyError("x"),
        StopIteration(),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        TimeoutError(),
        ConfigurationError([]),
        NotImplementedError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_anything_else_is_trouble(saying: Any, error: BaseException) -> None:
    """The end of the program included, and a file that may not be read; the cause is kept."""
    with pytest.raises(
        ProviderError, match=r"^provider site: tests\.standins\.old_providers\.Saying: "
    ) as caught:
        await saying(error)
    assert caught.value.__cause__ is error


async def test_what_failed_is_logged_without_secrets(saying: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The place in the class's code is there, what the settings hide is not."""
    with pytest.raises(ProviderError, match=r"RuntimeError: bind failed with \*{8}$"):
        await saying(RuntimeError("bind failed with swordfish"))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.startswith(
        "provider site: failed for joe: RuntimeError: bind failed with ********\n"
    )
    assert "in get_accounts_and_roles" in record.message
    assert "swordfish" not in caplog.text


async def test_what_was_raised_is_told_in_one_line(saying: Any) -> None:
    """A name in it could have a line break."""
    with pytest.raises(ProviderError, match=r"RuntimeError: a b$"):
        await saying(RuntimeError("a\nb"))
    with pytest.raises(Refusal, match=r"^a b$"):
        await saying(PermissionError("a\nb"))


async def test_what_pydantic_finds_is_told_without_the_value(saying: Any) -> None:
    """Its own text has the value in it."""
    with pytest.raises(ValueError, match="valid integer") as invalid:
        TypeAdapter(int).validate_python("catfish")
    with pytest.raises(ProviderError) as caught:
        await saying(invalid.value)
    assert "catfish" not in str(caught.value)


async def test_secrets_of_a_model_are_hidden_too(caplog: pytest.LogCaptureFixture) -> None:
    """They arrive as SecretStr, whatever their key is called."""
    provider = provider_of(old_providers.Failing, password="x", other=SecretStr("no answer"))
    with pytest.raises(ProviderError, match=r"ConnectionError: \*{8} for x"):
        await provider.grants_for(JOE)
    assert "no answer" not in caplog.text


# --- names ----------------------------------------------------------------------------------------------


def _named(*domains: str) -> BlockingProvider:
    return provider_of(old_providers.Named, domains=list(domains))


async def test_names_are_confirmed_before_a_class_is_asked() -> None:
    """The object has the name as client_fqdn."""
    caller = NamedCaller("10.0.0.5", ["web1.valid.example", "web1.foreign.example"])
    grants = await _named("valid.example").grants_for(caller)
    assert grants == {Grant("main", "web1", "web1.valid.example")}
    assert [domains.exact for domains in caller.look_ups] == [{"valid.example"}]


async def test_no_name_no_question() -> None:
    """The class is not even made."""
    provider = provider_of(old_providers.Named, domains=["valid.example"])
    with pytest.raises(Refusal, match="has no confirmed name"):
        await provider.grants_for(NamedCaller("10.0.0.5", ["web1.foreign.example"]))
    with pytest.raises(ResolutionError, match="SERVFAIL"):
        await provider.grants_for(NamedCaller("10.0.0.5", trouble=ResolutionError("SERVFAIL")))


async def test_no_domain_allows_nobody() -> None:
    """Without a look-up."""
    caller = NamedCaller("10.0.0.5", ["web1.valid.example"])
    with pytest.raises(Refusal, match="no domain is allowed"):
        await _named().grants_for(caller)
    assert caller.look_ups == []


async def test_names_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """One grant, with the reasons of both."""
    monkeypatch.setitem(old_providers.Named.roles, "web2", "web1")
    caller = NamedCaller("10.0.0.5", ["web2.valid.example", "web1.valid.example"])
    assert await _named("valid.example").grants_for(caller) == {
        Grant("main", "web1", "web1.valid.example; web2.valid.example")
    }


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("web2", "web1.valid.example gives web1 in main, web2.valid.example gives web2 in main"),
        ("nobody", "nobody is refused"),
    ],
)
async def test_names_that_disagree(other: str, reason: str) -> None:
    """Then it is not known who is asking: a refusal."""
    caller = NamedCaller("10.0.0.5", ["web1.valid.example", f"{other}.valid.example"])
    with pytest.raises(Refusal, match=reason):
        await _named("valid.example").grants_for(caller)


@pytest.mark.parametrize(("domains", "error"), [("valid.example", TypeError), (["a..b"], ValueError)])
def test_domains_that_are_none(domains: object, error: type[Exception]) -> None:
    """Found when the provider is built, not at the first caller."""
    with pytest.raises(error):
        provider_of(old_providers.Named, domains=domains)


# --- time -----------------------------------------------------------------------------------------------


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return what lets the objects of `Waiting` go."""
    gate = threading.Event()
    monkeypatch.setattr(old_providers.Waiting, "may_go", gate)
    monkeypatch.setattr(old_providers.Waiting, "asked", [])
    yield gate
    gate.set()


@in_virtual_time
async def test_a_class_that_hangs_has_the_time_of_any_provider(gate: threading.Event) -> None:
    """Five seconds; then it is trouble, and the loop was never held up."""
    assert not gate.is_set()
    metrics = Metrics()
    with pytest.raises(ProviderError, match="provider site: no answer in 5 s"):
        await ask_provider("site", provider_of(old_providers.Waiting), JOE, metrics)
    gate.set()


async def test_all_threads_hang(gate: threading.Event) -> None:
    """Then nobody waits in vain; when the class answers again, so does the provider."""
    provider = provider_of(old_providers.Waiting)
    asked = old_providers.Waiting.asked
    hanging = [asyncio.create_task(provider.grants_for(JOE)) for _ in range(MOST_THREADS + 1)]
    await wait_until(lambda: len(asked) == MOST_THREADS, "all threads are at work")
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    with pytest.raises(OverloadError, match=f"provider site: {MOST_THREADS} earlier calls hang"):
        await provider.grants_for(JOE)
    assert len(asked) == MOST_THREADS
    gate.set()
    await wait_until(lambda: all(each.name != "provider site" for each in threading.enumerate()), "all back")
    assert await provider.grants_for(JOE) == {Grant("main", "a", "joe")}


async def test_calls_hang_whoever_made_them(gate: threading.Event) -> None:
    """A program that makes a provider for each question would have a thread more for each. Other settings
    are another's."""
    time = HandClock()

    def make(**config: object) -> BlockingProvider:
        settings = ProviderSettings()
        return BlockingProvider("site", old_providers.Waiting, settings, config, clock=time.clock())

    asked = old_providers.Waiting.asked
    hanging = [asyncio.create_task(make().grants_for(JOE)) for _ in range(MOST_THREADS)]
    await wait_until(lambda: len(asked) == MOST_THREADS, "all ask")
    time.advance(HANGS_AFTER + 1)
    for _ in range(2):
        with pytest.raises(OverloadError, match=f"provider site: {MOST_THREADS} earlier calls hang"):
            await make().grants_for(JOE)
    with pytest.raises(OverloadError):
        make().rehearse("joe", 5)
    hanging.append(asyncio.create_task(make(other=True).grants_for(JOE)))
    await wait_until(lambda: len(asked) == MOST_THREADS + 1, "one with other settings asks")
    gate.set()
    await asyncio.gather(*hanging)
    assert await make().grants_for(JOE) == {Grant("main", "a", "joe")}


def test_a_rehearsal_makes_an_object_and_asks_it_nothing(gate: threading.Event) -> None:
    """What the constructor raises comes out as it is."""
    provider_of(old_providers.Waiting).rehearse("joe", 5)
    assert old_providers.Waiting.asked == []
    assert not gate.is_set()
    with pytest.raises(ConnectionError, match="no answer for x"):
        provider_of(old_providers.Failing, password="x").rehearse("joe", 5)


def test_a_rehearsal_ends(gate: threading.Event) -> None:
    """Whoever waits for it gets a TimeoutError."""
    with pytest.raises(TimeoutError):
        provider_of(old_providers.SlowlyMade).rehearse("joe", 0.05)
    assert not gate.is_set()
