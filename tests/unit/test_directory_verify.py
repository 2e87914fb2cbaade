"""Whether a password is somebody's: what reaches a server, and what does not."""

from __future__ import annotations

import pytest

from imds_proxy.directory.verify import AccountLocked, verify
from imds_proxy.errors import ProviderError
from tests.standins.directory import PEOPLE, Directory, person_dn, settings

ONE, TWO = "ldaps://one.valid.example", "ldaps://two.valid.example"
NOBODY = f"cn=imds-proxy-nobody,{PEOPLE}"


@pytest.fixture
def directory() -> Directory:
    """Alice has a password; bob has an entry and none."""
    directory = Directory()
    directory.add_person("Alice", "richtig")
    directory.add_person("bob")
    return directory


def test_a_right_password(directory: Directory) -> None:
    """Gives the name as the directory has it: however it is typed, it is one identity."""
    for typed in ("Alice", "alice", "ALICE"):
        assert verify(settings(ONE), typed, "richtig", directory.means()) == "Alice"
    assert directory.binds == 3 * [(person_dn("Alice"), "richtig")]
    assert directory.open_connections == 0


def test_a_name_of_several_is_the_one_that_was_typed(directory: Directory) -> None:
    """An entry with two login names is two identities, each spelled as the directory has it."""
    directory.entries[person_dn("Alice")]["uid"] = ["Alice", "Al", "aL"]
    assert verify(settings(ONE), "alice", "richtig", directory.means()) == "Alice"
    assert verify(settings(ONE), "aL", "richtig", directory.means()) == "aL"
    assert verify(settings(ONE), "AL", "richtig", directory.means()) == "Al"


@pytest.mark.parametrize("user", ["Alice", "bob", "carol", "*", "Alice)(uid=*"])
def test_a_wrong_password_and_an_unknown_name_take_the_same_path(directory: Directory, user: str) -> None:
    """The search, a second connection, a bind with the password, and None."""
    assert verify(settings(ONE), user, "falsch", directory.means()) is None
    assert directory.dials == [ONE, ONE]
    [(dn, password)] = directory.binds
    assert password == "falsch"
    assert dn == (person_dn(user) if user in {"Alice", "bob"} else NOBODY)


def test_the_entry_that_stands_for_nobody_lets_nobody_in(directory: Directory) -> None:
    """Not even if there were such an entry, with that password."""
    directory.passwords[NOBODY] = "richtig"
    assert verify(settings(ONE), "carol", "richtig", directory.means()) is None


@pytest.mark.parametrize(
    ("user", "password"),
    [("Alice", ""), ("", "richtig"), ("", ""), ("Alice", "\0"), ("Alice", "\0richtig"), ("Alice", "\ud800"),
     ("\ud800", "richtig")],
)  # fmt: skip
def test_what_never_reaches_a_server(directory: Directory, user: str, password: str) -> None:
    """RFC 4513 section 5.1.2: a bind without a password succeeds, as nobody."""
    assert verify(settings(ONE), user, password, directory.means()) is None
    assert directory.dials == []


def test_a_locked_account(directory: Directory) -> None:
    """OpenLDAP refuses every password; the mark in the entry says why. One bind, no other server."""
    directory.entries[person_dn("Alice")]["pwdaccountlockedtime"] = ["20261201000000Z"]
    with pytest.raises(AccountLocked, match="locked the account of 'Alice'"):
        verify(settings(ONE, TWO), "alice", "falsch", directory.means())
    assert directory.binds == [(person_dn("Alice"), "falsch")]
    assert directory.dials == [ONE, ONE]


def test_a_name_of_two_entries_is_nobodys(directory: Directory) -> None:
    """And takes the same path again."""
    directory.entries[f"cn=other,{PEOPLE}"] = {"uid": ["Alice"]}
    assert verify(settings(ONE), "Alice", "richtig", directory.means()) is None
    assert directory.binds == [(NOBODY, "richtig")]


def test_a_dead_server_says_nothing_about_a_password(directory: Directory) -> None:
    """The next one is asked; with none there is no answer, which is not a no."""
    directory.down[ONE] = "closed"
    assert verify(settings(ONE, TWO), "alice", "richtig", directory.means()) == "Alice"
    directory.down[TWO] = "silent"
    with pytest.raises(ProviderError, match="no server answers"):
        verify(settings(ONE, TWO), "alice", "richtig", directory.means())


def test_passwords_are_in_no_message(directory: Directory, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the log at its finest nor in what is raised."""
    caplog.set_level("DEBUG")
    for user, password in (("alice", "richtig"), ("alice", "falsch-99"), ("carol", "falsch-99")):
        verify(settings(ONE), user, password, directory.means())
    directory.down[ONE] = "closed"
    with pytest.raises(ProviderError) as caught:
        verify(settings(ONE), "alice", "richtig", directory.means())
    assert "wrong password for 'Alice'" in caplog.text
    for secret in ("richtig", "falsch-99"):
        assert secret not in caplog.text + str(caught.value)
