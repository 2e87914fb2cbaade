"""Several servers for one question: turns, shares of the time, who is left alone. No second really passes."""

from __future__ import annotations

import pytest

from imds_proxy.directory.groups import groups_of
from imds_proxy.directory.servers import DEAD_FOR
from imds_proxy.errors import ProviderError
from tests.standins.directory import Directory, settings

ONE, TWO, THREE = (f"ldaps://{name}.valid.example" for name in ("one", "two", "three"))

SEARCHER = {"bind_dn": "cn=searcher", "ldap_bind_password": "Suchmaschine-77"}


@pytest.fixture
def directory() -> Directory:
    """Alice is in a group, and the searcher may search."""
    directory = Directory(passwords={"cn=searcher": "Suchmaschine-77"})
    directory.add_group("theirs", [directory.add_person("alice")])
    return directory


def test_the_first_server_is_asked(directory: Directory) -> None:
    """And no other as long as it answers."""
    assert groups_of(settings(ONE, TWO), "alice", directory.means()) == ("theirs",)
    assert directory.dials == [ONE]


def test_without_bind_dn_nobody_binds(directory: Directory) -> None:
    """An anonymous search needs no bind; with bind_dn it comes first."""
    groups_of(settings(ONE), "alice", directory.means())
    assert directory.binds == []
    groups_of(settings(ONE, **SEARCHER), "alice", directory.means())
    assert directory.binds == [("cn=searcher", "Suchmaschine-77")]


@pytest.mark.parametrize("state", ["closed", "silent"])
def test_a_dead_server_is_left_alone_for_a_while(directory: Directory, state: str) -> None:
    """30 s long all questions go to the next one; then it has another chance."""
    directory.down[ONE] = state
    for _ in range(3):
        assert groups_of(settings(ONE, TWO), "alice", directory.means()) == ("theirs",)
    assert directory.dials == [ONE, TWO, TWO, TWO]
    directory.hand_clock.advance(DEAD_FOR)
    del directory.down[ONE]
    directory.dials.clear()
    groups_of(settings(ONE, TWO), "alice", directory.means())
    assert directory.dials == [ONE]


def test_a_silent_server_leaves_time_for_the_others(directory: Directory) -> None:
    """Of three each first answer has a third of what is left, and all end within the time-out."""
    directory.down |= {ONE: "silent", TWO: "silent"}
    began = directory.hand_clock.monotonic
    assert groups_of(settings(ONE, TWO, THREE, timeout=6), "alice", directory.means()) == ("theirs",)
    assert directory.hand_clock.monotonic - began == pytest.approx(4)


def test_a_slow_server_has_all_the_time(directory: Directory) -> None:
    """Once it has answered, it may go on until the time-out, though another one waits."""
    directory.down[ONE] = "slow"
    settings_ = settings(ONE, TWO, timeout=4, **SEARCHER)
    assert groups_of(settings_, "alice", directory.means()) == ("theirs",)  # a bind and two searches: 3 s
    assert directory.dials == [ONE]


def test_no_server_answers(directory: Directory) -> None:
    """Trouble that names each of them and why, when the time is over."""
    directory.down |= {ONE: "closed", TWO: "silent"}
    began = directory.hand_clock.monotonic
    with pytest.raises(ProviderError, match=rf"{ONE}: Connection refused; {TWO}: Timed out"):
        groups_of(settings(ONE, TWO), "alice", directory.means())
    assert directory.hand_clock.monotonic - began == pytest.approx(5)


def test_dead_servers_are_better_than_none(directory: Directory) -> None:
    """Where all are dead they are asked all the same: one may be back."""
    directory.down |= {ONE: "closed", TWO: "closed"}
    with pytest.raises(ProviderError):
        groups_of(settings(ONE, TWO), "alice", directory.means())
    del directory.down[TWO]
    assert groups_of(settings(ONE, TWO), "alice", directory.means()) == ("theirs",)
    directory.dials.clear()
    assert groups_of(settings(ONE, TWO), "alice", directory.means()) == ("theirs",)
    assert directory.dials == [TWO]


def test_settings_that_share_a_server_share_what_is_known(directory: Directory) -> None:
    """Who is dead is known by the URI, whichever provider found out."""
    directory.down[ONE] = "closed"
    groups_of(settings(ONE, TWO), "alice", directory.means())
    groups_of(settings(ONE, THREE, timeout=3), "alice", directory.means())
    assert directory.dials == [ONE, TWO, THREE]


def test_a_refused_searcher_is_trouble(directory: Directory) -> None:
    """And not tried at the next server: some directories lock an account after a few failures."""
    directory.passwords["cn=searcher"] = "another one"
    with pytest.raises(ProviderError, match=r"one\.valid\.example does not let bind_dn in") as caught:
        groups_of(settings(ONE, TWO, **SEARCHER), "alice", directory.means())
    assert directory.dials == [ONE]
    assert "Suchmaschine" not in str(caught.value)
    assert directory.open_connections == 0


def test_a_server_that_fails_in_the_middle(directory: Directory) -> None:
    """The whole question goes to the next one."""
    directory.down[ONE] = "slow"
    directory.dead.bury(settings(TWO).addresses()[0], directory.hand_clock.monotonic)
    with pytest.raises(ProviderError, match="no answer in time"):
        groups_of(settings(ONE, TWO, timeout=2, **SEARCHER), "alice", directory.means())
    assert directory.open_connections == 0
