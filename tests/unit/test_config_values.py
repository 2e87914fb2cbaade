"""Texts become values, or ValueErrors that say what to write."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.config import aws_values, files, values
from imds_proxy.config.values import SocketAddress
from imds_proxy.web.tree import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("2s", 2),
        ("5m", 300),
        ("1h", 3600),
        ("1d", 86400),
        ("7", 7),
        ("1.5h", 5400),
        ("0", 0),
        ("2 s", 2),
    ],
)
def test_durations_carry_a_unit_or_are_seconds(text: str, seconds: float) -> None:
    """Exactly: 300ms is 0.3, not 0.30000000000000004."""
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1w", "-1s", "1h30m", "1e3", "٣s", "nan", "inf", "9" * 400, "1s\n"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """No guess, no infinity, ASCII digits only."""
    with pytest.raises(ValueError, match="is not a duration such as"):
        values.parse_duration(text)


@given(milliseconds=st.integers(min_value=0, max_value=100 * 86_400_000))
def test_a_shown_duration_is_read_as_the_same(milliseconds: int) -> None:
    """`config` prints what may be written."""
    assert values.parse_duration(values.format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.3, "300ms"), (90, "90s"), (900, "15m"), (3600, "1h"), (86400, "1d"), (1.5, "1500ms")],
)
def test_durations_are_shown_in_the_largest_even_unit(seconds: float, text: str) -> None:
    """As a person would write them."""
    assert values.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.77.0.0/16", "10.77.0.0/16"),
        ("10.77.0.9", "10.77.0.9/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("FD00:0::/64", "fd00::/64"),
        ("::ffff:10.77.0.0/112", "10.77.0.0/16"),
        ("::ffff:10.77.0.9", "10.77.0.9/32"),
    ],
)
def test_networks(text: str, network: str) -> None:
    """IPv4-mapped networks are the IPv4 networks they are: callers are judged as IPv4."""
    assert values.parse_network(text) == ip_network(network)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 80)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[fd00:ec2::254]", ("fd00:ec2::254", 80)),
        ("[fd00:ec2::254]:8080", ("fd00:ec2::254", 8080)),
        ("[::ffff:127.0.0.1]:1", ("127.0.0.1", 1)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    """Port 80 when left out."""
    assert values.parse_listen_address(text) == SocketAddress(ip_address(address[0]), address[1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:-1",
        "[127.0.0.1]:80",
        "::1",
        "[::1",
        "::1]:80",
        "[fe80::1%eth0]:80",
        "localhost",
        "127.1:80",
        "127.0.0.1:٨٠",
        "127.0.0.1:80\n",
        "127.0.0.1:000080",
    ],
)
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    """No names, no half addresses, no scopes."""
    with pytest.raises(ValueError, match="is not ADDRESS:PORT such as"):
        values.parse_listen_address(text)


def test_socket_addresses_are_shown_as_they_are_written() -> None:
    """IPv6 in brackets."""
    for text in ("127.0.0.1:80", "[fd00:ec2::254]:0"):
        assert str(values.parse_listen_address(text)) == text


@pytest.mark.parametrize(
    "path", ["/afp-api/latest", "/a", "/A.b_c~d-9/..x/.../x..", "/latestx", "/api/2021-03-23", "/0.1"]
)
def test_base_paths(path: str) -> None:
    """Segments of unreserved characters; a version counts at the beginning only."""
    assert values.parse_base_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "afp-api",
        "/afp-api/",
        "/afp-api//latest",
        "//afp-api",
        "/.",
        "/..",
        "/a/..",
        "/a/./b",
        "/../latest",
        "/a b",
        "/a%2Fb",
        "/ä",
        "/a?b",
        "/a#b",
        "/a:b",
        "/a\n",
        "/a\n/b",
        "http://a/b",
    ],
)
def test_what_is_no_base_path_is_refused(path: str) -> None:
    """Nothing that a client on the way would write in another way."""
    with pytest.raises(ValueError, match="is not a path such as /afp-api/latest"):
        values.parse_base_path(path)


@pytest.mark.parametrize("version", [*VERSIONS, "2030-12-31"])
def test_a_base_path_is_not_below_a_version(version: str) -> None:
    """Nor a version itself: what is there is the metadata service's, dates to come included."""
    for path in (f"/{version}", f"/{version}/x"):
        with pytest.raises(ValueError, match=f"/{version} is the metadata service's own"):
            values.parse_base_path(path)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.77.0.3", ("10.77.0.3", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("fd00::3", ("fd00::3", 53)),
        ("[fd00::3]:5353", ("fd00::3", 5353)),
    ],
)
def test_name_servers(text: str, server: tuple[str, int]) -> None:
    """Port 53 when left out; without a port IPv6 needs no brackets."""
    assert values.parse_nameserver(text) == SocketAddress(ip_address(server[0]), server[1])


def test_names_and_addresses_are_told_apart() -> None:
    """What ends in a number is an address or a mistake, never a name."""
    assert values.parse_address_or_name("10.77.3.9") == ip_address("10.77.3.9")
    assert values.parse_address_or_name("::ffff:10.77.3.9") == ip_address("10.77.3.9")
    assert values.parse_address_or_name("TuvFoo43.valid.example.") == "tuvfoo43.valid.example"
    for text in ("10.77.3.999", "10.77.3", "a.b.1", "", ".", "a b", "fe80::1%eth0"):
        with pytest.raises(ValueError, match="neither an address nor a host name"):
            values.parse_address_or_name(text)


@given(digits=st.integers(min_value=0, max_value=10**12 - 1))
def test_account_ids_have_12_digits(digits: int) -> None:
    """Zeros that were lost come back."""
    assert values.parse_account_id(str(digits)) == f"{digits:012}"


@given(text=st.text())
def test_nothing_but_digits_is_an_account_id(text: str) -> None:
    """Whatever passes is 12 ASCII digits."""
    try:
        account_id = values.parse_account_id(text)
    except ValueError:
        return
    assert len(account_id) == 12
    assert set(account_id) <= set("0123456789")


def test_socket_paths_are_bounded() -> None:
    """Beyond 107 bytes bind() fails with a message that nobody understands."""
    assert values.parse_socket_path("/" + "x" * 106) == Path("/" + "x" * 106)
    with pytest.raises(ValueError, match="longer than the 107 bytes"):
        values.parse_socket_path("/" + "é" * 60)


@pytest.mark.parametrize(
    "url", ["https://sts.example", "http://127.0.0.1:5000/", "https://[fd00::1]:443/x", "HTTPS://a"]
)
def test_urls(url: str) -> None:
    """http and https, with a host."""
    assert values.parse_endpoint(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sts.example",
        "ftp://x",
        "https://",
        "https:///x",
        "https://a:b",
        "https://a:99999",
        "https://[::1",
        "https://a b",
        "https://a\n",
        "https://a:0",
        "https://a?x",
        "https://a#x",
        "https://u:p@a",
    ],
)
def test_what_is_no_url_of_a_service_is_refused(url: str) -> None:
    """Only what a service's address can be."""
    with pytest.raises(ValueError, match="URL"):
        values.parse_endpoint(url)


def test_a_proxy_may_have_a_user() -> None:
    """Unlike a service."""
    assert values.parse_url("http://u:p@proxy:3128") == "http://u:p@proxy:3128"


@pytest.mark.parametrize("policy", ['{"a": [1, null, true]}', {"a": ["1", "x"]}, ' {"é": "\\ud83d\\ude00"} '])
def test_policies_become_compact_json(policy: object) -> None:
    """The same policy in the fewest characters, in ASCII, which STS takes."""
    text = aws_values.parse_policy(policy)
    assert json.loads(text) == (json.loads(policy) if isinstance(policy, str) else policy)
    assert text.isascii()
    assert ": " not in text


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("[]", "must be a policy"),
        ("", "not JSON: Expecting value, line 1 column 1"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        ('{"a":' + "[" * 20_000, "too many levels"),
        ('{"a":' + "9" * 9_000 + "}", "."),
        ({"a": "x" * 2041}, "2049 characters of JSON; STS takes 2048 at most"),
        (" " * 40_000 + "{}", "STS takes 2048 at most"),
    ],
)
def test_what_is_no_policy_is_refused(policy: object, message: str) -> None:
    """Twice the same key would make one of two statements vanish."""
    with pytest.raises(ValueError, match=message):
        aws_values.parse_policy(policy)


def test_a_policy_of_2048_characters_passes() -> None:
    """The limit itself is inside."""
    assert len(aws_values.parse_policy({"a": "x" * 2040})) == 2048


def test_session_tags_have_sts_limits() -> None:
    """Lengths, characters, number, keys that only case tells apart."""
    assert aws_values.parse_tag_key("Größe 1_.:/=+-@") == "Größe 1_.:/=+-@"
    assert aws_values.parse_tag_key("x" * 128)
    assert aws_values.parse_tag_value("") == ""
    assert aws_values.parse_tag_value("x" * 256)
    assert aws_values.parse_tag_value("{name} at {address}") == "{name} at {address}"
    for key in ("", "x" * 129, "a{name}", "AWS:x", "a,b"):
        with pytest.raises(ValueError, match="key"):
            aws_values.parse_tag_key(key)
    for value in ("x" * 257, "{other}", "{", "a;b", "a\nb"):
        with pytest.raises(ValueError, match="tag's value"):
            aws_values.parse_tag_value(value)
    with pytest.raises(ValueError, match="51 tags; STS takes 50 at most"):
        aws_values.check_tag_keys(str(number) for number in range(51))
    aws_values.check_tag_keys(str(number) for number in range(50))


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-east-1", "aws"),
    ],
)
def test_the_partition_follows_from_the_region(region: str, partition: str) -> None:
    """It is part of every role's ARN."""
    assert aws_values.parse_region(region) == region
    assert aws_values.partition_of(region) == partition


def test_token_keys_are_lines_of_base64() -> None:
    """The first signs, so the order counts."""
    first, second = bytes(range(32)), bytes(range(100, 164))
    text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert files.parse_token_keys(text) == (first,)
    assert files.parse_token_keys(text.strip()) == (first,)
    longer = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKTlJWWl5iZmpucnZ6foKGiow=="
    assert files.parse_token_keys(f"{text.strip()} \r\n{longer}\n") == (first, second)


GOOD_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; make a key with: openssl rand -base64 32"),
        ("\n", "line 1 is not base64 of 32 bytes or more"),
        (f"{GOOD_KEY}\n\n{GOOD_KEY}\n", "line 2 is not base64"),
        (f"# a key\n{GOOD_KEY}\n", "line 1 is not base64"),
        ("AAEC\n", "line 1 is not base64"),
        (f"{GOOD_KEY}\n{GOOD_KEY[:-2]}\n", "line 2 is not base64"),
        (GOOD_KEY.replace("A", "_"), "line 1 is not base64"),
        (GOOD_KEY.replace("A", "é"), "line 1 is not base64"),
    ],
)
def test_what_is_no_token_key_is_refused_without_showing_it(text: str, message: str) -> None:
    """Anything that is not a key is a fault, a comment and an empty line too."""
    with pytest.raises(ValueError, match=message) as caught:
        files.parse_token_keys(text)
    assert GOOD_KEY[:8] not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n", "two words", "two\nlines", "caf\u00e9\x00"])
def test_a_secret_key_file_has_one_word(text: str) -> None:
    """What an editor adds at the end of a line is no part of the key."""
    assert files.parse_secret_key(" wJalrXUtnFEMI\r\n") == "wJalrXUtnFEMI"
    with pytest.raises(ValueError, match="on one line"):
        files.parse_secret_key(text)


PARSERS: list[Callable[[str], object]] = [
    values.parse_address,
    values.parse_network,
    values.parse_listen_address,
    values.parse_base_path,
    values.parse_admin_address,
    values.parse_nameserver,
    values.parse_name,
    values.parse_address_or_name,
    values.parse_duration,
    values.parse_account_id,
    values.parse_external_id,
    values.parse_role_path,
    values.parse_text,
    values.parse_endpoint,
    values.parse_url,
    aws_values.parse_policy,
    aws_values.parse_region,
    aws_values.parse_partition,
    aws_values.parse_tag_key,
    aws_values.parse_tag_value,
    files.parse_token_keys,
    files.parse_secret_key,
]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text() | st.text("0123456789abcdef.:/[]%-@{}\"' \nhtps", max_size=60))
def test_no_text_raises_anything_but_value_error(parse: Callable[[str], object], text: str) -> None:
    """pydantic takes a ValueError for a fault; anything else would be a traceback."""
    try:
        parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  that it raises isn't sure; that it says something is
