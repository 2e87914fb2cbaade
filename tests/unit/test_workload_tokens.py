"""workload_tokens: which workload shows a token, from where, until when; and what is no such token."""

from __future__ import annotations

import string
from base64 import urlsafe_b64encode
from hashlib import blake2b
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.imds_tokens import TokenKeys
from imds_proxy.model import IPAddress, canonical_address
from imds_proxy.web.page_tokens import PageTokens
from imds_proxy.workload_tokens import (
    ID_DIGITS,
    LONGEST_TOKEN,
    MOST_NETWORKS,
    PREFIX,
    Claims,
    IPNetwork,
    WorkloadTokens,
    id_of,
)
from tests.standins.old_tokens import issue_old_token

NOW = 1_800_000_000
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
CALLER = canonical_address("10.0.0.5")
NAME = "web.pods.example"
TOKENS = WorkloadTokens([KEY], any_network=True)
ALPHABET = string.ascii_letters + string.digits + "-_"

labels = st.from_regex(r"[a-z_]([a-z0-9_-]{0,30}[a-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)
networks = st.lists(st.ip_addresses().map(ip_network), max_size=MOST_NETWORKS).map(tuple)


def workload_of(tokens: WorkloadTokens, token: str, address: IPAddress, now: float) -> str | None:
    claims = tokens.claims_of(token, address, now)
    return None if claims is None else claims.workload


def issue(*networks: str, name: str = NAME, life: int = 60) -> str:
    return TOKENS.issue(Claims(name, tuple(map(ip_network, networks)), NOW + life))


@given(names, networks, st.integers(1, 365 * 86400))
def test_what_it_says(name: str, networks: tuple[IPNetwork, ...], life: int) -> None:
    """A token names its workload, in each of its networks, until its end; it is one printable word."""
    token = TOKENS.issue(Claims(name, networks, NOW + life))
    assert token.startswith(PREFIX)
    assert set(token) <= set(ALPHABET)
    assert len(token) <= LONGEST_TOKEN
    for network in networks:
        assert workload_of(TOKENS, token, network.network_address, NOW) == name
    address = networks[0].network_address if networks else CALLER
    assert workload_of(TOKENS, token, address, NOW + life - 0.1) == name
    assert workload_of(TOKENS, token, address, NOW + life) is None
    assert workload_of(TOKENS, token, address, NOW + life + 10**9) is None


def test_the_longest() -> None:
    """The longest name in the most networks makes the longest token, and it is good."""
    name = ".".join(["x" * 62] * 4)
    token = issue(*(f"fd00::{2 * number:x}" for number in range(MOST_NETWORKS)), name=name)
    assert len(name) == 251
    assert LONGEST_TOKEN - 4 <= len(token) <= LONGEST_TOKEN
    assert workload_of(TOKENS, token, canonical_address("fd00::1e"), NOW) == name


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        ("10.77.3.9", True),
        ("::ffff:10.77.3.9", True),
        ("fd00:77::1", True),
        ("10.78.0.1", False),
        ("fd00:78::1", False),
        ("::a4d:309", False),
        ("127.0.0.1", False),
    ],
)
def test_networks(address: str, is_good: bool) -> None:
    """A token is worthless outside its networks; a mapped address is the IPv4 address it is."""
    token = issue("10.77.0.0/16", "fd00:77::/32")
    assert workload_of(TOKENS, token, canonical_address(address), NOW) == (NAME if is_good else None)
    assert workload_of(TOKENS, issue(), canonical_address(address), NOW) == NAME


@given(st.data())
def test_not_a_character_may_differ(data: st.DataObject) -> None:
    """A token has one spelling: none of it may be changed, left out, doubled or added to."""
    token = issue("10.0.0.0/8")
    index = data.draw(st.integers(0, len(token)))
    character = data.draw(st.characters() | st.sampled_from(ALPHABET + "+/="))
    for changed in (
        token[:index] + character + token[index + 1 :],
        token[:index] + token[index + 1 :],
        token[:index] + character + token[index:],
        token[:index],
        token.swapcase(),
    ):
        assert (workload_of(TOKENS, changed, CALLER, NOW) is not None) is (changed == token)


@given(st.text(), st.text(ALPHABET))
def test_garbage(text: str, word: str) -> None:
    """What is no token is no error."""
    for garbage in (text, PREFIX + text, PREFIX + word, word):
        assert workload_of(TOKENS, garbage, CALLER, NOW) is None


@pytest.mark.parametrize("suffix", ["", "=", "==", "\n", " ", "\r\n", "\x00", "A", "%3D"])
@pytest.mark.parametrize("prefix", ["", " ", "Bearer ", "\n"])
def test_what_stands_around_it(prefix: str, suffix: str) -> None:
    """A newline at its end, a scheme before it, padding: none of it is a token."""
    good = prefix == suffix == ""
    assert (workload_of(TOKENS, prefix + issue() + suffix, CALLER, NOW) == NAME) is good


def test_over_long() -> None:
    """What is longer than any token is not even decoded."""
    assert workload_of(TOKENS, PREFIX + "A" * 8000, CALLER, NOW) is None
    assert workload_of(TOKENS, PREFIX + "A" * 10_000_000, CALLER, NOW) is None


def test_keys() -> None:
    """All keys verify, the first signs: a key can be put in front and the old one taken out later."""
    old, both, new = (
        WorkloadTokens(keys, any_network=True) for keys in ([KEY], [OTHER_KEY, KEY], [OTHER_KEY])
    )
    before, after = issue(), both.issue(Claims(NAME, (), NOW + 60))
    assert [workload_of(keys, before, CALLER, NOW) for keys in (old, both, new)] == [NAME, NAME, None]
    assert [workload_of(keys, after, CALLER, NOW) for keys in (old, both, new)] == [None, NAME, NAME]
    long = WorkloadTokens([bytes(100)], any_network=True)
    assert workload_of(long, long.issue(Claims(NAME, (), NOW + 60)), CALLER, NOW) == NAME
    with pytest.raises(ValueError, match="at least one"):
        WorkloadTokens([])


@given(st.integers(1, 21600))
def test_an_imds_token_is_none(life: int) -> None:
    """Under the same key, an IMDS token and a token of the page pass for none, with our prefix neither."""
    for token in (TokenKeys([KEY]).issue(CALLER, life, NOW), PageTokens(KEY).issue("alice", NOW)):
        assert workload_of(TOKENS, token, CALLER, NOW) is None
        assert workload_of(TOKENS, PREFIX + token, CALLER, NOW) is None


def test_it_is_no_imds_token() -> None:
    """Nor does any piece of a workload's token pass for an IMDS token or one of the page."""
    token = issue()
    words = {token, token.removeprefix(PREFIX)}
    words |= {token[start : start + 56] for start in range(len(token))}
    words |= {token[start : start + 40] for start in range(len(token))}
    for word in words:
        assert TokenKeys([KEY]).remaining_life(word, CALLER, NOW) is None
        assert not PageTokens(KEY).is_good(word, NAME, NOW)


def test_the_same_bytes_signed_for_another_purpose() -> None:
    """A signature of the same bytes under the same key without our `person` is none of ours."""
    token_id = bytes(range(8))
    body = (NOW + 60).to_bytes(6, "big") + b"\x03web\x00"
    for person, is_ours in (
        (b"", False),
        (b"page token", False),
        (b"workload token", False),
        (b"workload token 2", True),
    ):
        signature = blake2b(token_id + body, key=KEY, digest_size=32, person=person).digest()
        token = f"{PREFIX}{token_id.hex()}-{urlsafe_b64encode(body + signature).decode().rstrip('=')}"
        assert (workload_of(TOKENS, token, CALLER, NOW) == "web") is is_ours


# --- a key of their own ------------------------------------------------------------------------------


@given(names, networks, st.integers(1, 365 * 86400))
def test_the_key_of_imds_tokens_makes_none(name: str, networks: tuple[IPNetwork, ...], life: int) -> None:
    """The gateways' shared key signs no token of a workload that counts, and the other key no old one."""
    tokens = WorkloadTokens([OTHER_KEY], old_keys=[KEY], old_until=NOW + 10**9, any_network=True)
    claims = Claims(name, networks, NOW + life)
    address = networks[0].network_address if networks else CALLER
    foreign = WorkloadTokens([KEY], any_network=True).issue(claims)
    assert tokens.claims_of(foreign, address, NOW) is None
    assert tokens.claims_of(issue_old_token(OTHER_KEY, claims), address, NOW) is None
    own = tokens.issue(claims)
    for keys in ([KEY], [OTHER_KEY]):
        assert TokenKeys(keys).remaining_life(own, canonical_address(str(address)), NOW) is None
    imds = TokenKeys([OTHER_KEY]).issue(canonical_address(str(address)), life % 21600 + 1, NOW)
    assert tokens.claims_of(imds, address, NOW) is None


def test_tokens_of_the_old_kind() -> None:
    """One that an earlier release made under the shared key counts until the moment that the settings name,
    from its networks, until its own end; a network is not demanded of it.
    """
    tokens = WorkloadTokens([OTHER_KEY], old_keys=[KEY], old_until=NOW + 100)
    everywhere = issue_old_token(KEY, Claims(NAME, (), NOW + 1000))
    assert tokens.claims_of(everywhere, CALLER, NOW) == Claims(NAME, (), NOW + 1000, None)
    assert tokens.claims_of(everywhere, CALLER, NOW + 99.9) is not None
    assert tokens.claims_of(everywhere, CALLER, NOW + 100) is None
    elsewhere = issue_old_token(KEY, Claims(NAME, (ip_network("10.77.0.0/16"),), NOW + 50))
    assert tokens.claims_of(elsewhere, CALLER, NOW) is None
    assert tokens.claims_of(elsewhere, canonical_address("10.77.0.1"), NOW) is not None
    assert tokens.claims_of(elsewhere, canonical_address("10.77.0.1"), NOW + 50) is None
    for person in (b"", b"workload token 2", b"page token"):
        other = issue_old_token(KEY, Claims(NAME, (), NOW + 1000), person=person)
        assert tokens.claims_of(other, CALLER, NOW) is None
    assert WorkloadTokens([KEY]).claims_of(everywhere, CALLER, NOW) is None


# --- networks, ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "everything",
    [
        (),
        ("0.0.0.0/0",),
        ("10.0.0.0/8", "::/0"),
        ("0.0.0.0/1", "128.0.0.0/1"),
        ("10.0.0.0/8", "::/1", "8000::/1"),
    ],
)
def test_from_anywhere(everything: tuple[str, ...]) -> None:
    """Without `any_network` no token that is good from anywhere is made, and none counts."""
    claims = Claims(NAME, tuple(map(ip_network, everything)), NOW + 60)
    strict = WorkloadTokens([KEY])
    with pytest.raises(ValueError, match=r"--from NETWORK.*tokens\.any_network"):
        strict.issue(claims)
    token = TOKENS.issue(claims)
    assert TOKENS.claims_of(token, CALLER, NOW) is not None
    assert strict.claims_of(token, CALLER, NOW) is None
    assert strict.claims_of(issue("10.0.0.0/8"), CALLER, NOW) is not None


def test_ids() -> None:
    """Each token has an id of its own, which stands in it, is signed, and by which it alone is revoked."""
    first, second = issue("10.0.0.0/8"), issue("10.0.0.0/8")
    ids = [id_of(token) for token in (first, second)]
    assert len(set(ids)) == 2
    assert all(token.startswith(f"{PREFIX}{one}-") for token, one in zip((first, second), ids, strict=True))
    assert set(ids[0]) <= set("0123456789abcdef")
    assert len(ids[0]) == ID_DIGITS
    keys = WorkloadTokens([KEY], revoked=frozenset({ids[0]}))
    found = [keys.claims_of(token, CALLER, NOW) for token in (first, second)]
    assert [one is not None and (one.id, keys.is_revoked(one)) for one in found] == [
        (ids[0], True),
        (ids[1], False),
    ]
    assert keys.claims_of(first.replace(ids[0], ids[1]), CALLER, NOW) is None


@pytest.mark.parametrize(
    "name", ["", "Web.pods.example", "web pods", "10.0.0.5", "web.7", "a..b", "web.", "ü"]
)
def test_names_that_are_none(name: str) -> None:
    """A token is never made for what is no workload's name: it could be taken for an address."""
    with pytest.raises(ValueError, match="no workload's name"):
        issue(name=name)


def test_too_many_networks() -> None:
    """16 networks fit into a token."""
    with pytest.raises(ValueError, match="16 at most"):
        issue(*(f"10.0.0.{number}" for number in range(17)))


def test_no_two_are_equal() -> None:
    """Two tokens of the same claims differ."""
    assert issue() != issue()
