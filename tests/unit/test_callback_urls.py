"""Where AWS may send people: the list, and the tricks to get off it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.callback_urls import LONGEST_CALLBACK_URL, CallbackUrls

URLS = CallbackUrls(
    [
        "https://portal.example",
        "https://apps.example/aws/",
        "http://localhost:8080/back",
        "https://[2001:db8::1]:8443",
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "https://portal.example",
        "https://portal.example/",
        "https://portal.example/any/where?x=https://attacker.example/#y",
        "https://portal.example:443/",
        "HTTPS://Portal.EXAMPLE/x",
        "https://portal.example/a@b",
        "https://portal.example/a%20b",
        "https://apps.example/aws",
        "https://apps.example/aws/",
        "https://apps.example/aws?x",
        "https://apps.example/aws#x",
        "https://apps.example/aws/roles",
        "http://localhost:8080/back",
        "https://[2001:DB8:0::1]:8443/",
    ],
)
def test_on_the_list(url: str) -> None:
    """Same scheme, host and port; a path that begins with whole segments of the entry's."""
    assert URLS.allow(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "portal.example",
        "//portal.example/",
        "/",
        "https:portal.example",
        "https:/portal.example",
        "https:///portal.example",
        "https://",
        "http://portal.example/",
        "ftp://portal.example/",
        "javascript://portal.example/%0aalert(1)",
        "data:text/html,https://portal.example/",
        "https://portal.example.attacker.example/",
        "https://attacker.example/portal.example",
        "https://attackerportal.example/",
        "https://sub.portal.example/",
        "https://portal.example./",
        "https://portal.example:444/",
        "https://portal.example:/",
        "https://portal.example:0443/",
        "https://portal.example:99999/",
        "https://portal.example@attacker.example/",
        "https://portal.example:443@attacker.example/",
        "https://attacker.example#@portal.example/",
        "https://attacker.example\\@portal.example/",
        "https://portal.example\\.attacker.example/",
        "https://portal.example\\@attacker.example/",
        "https://user@portal.example/",
        "https://user:password@portal.example/",
        "https://portal.example?x",
        "https://portal.example#x",
        "https://portal.example;x/",
        "https://portal.example%2eattacker.example/",
        "https://portal%2eexample/",
        "https://pörtal.example/",
        "https://portal.example\u3002attacker.example/",
        "https://portal.example\t/",
        "https://portal.example/\r\nSet-Cookie: x",
        " https://portal.example/",
        "https://portal.example/ ",
        "https://portal.example/\0",
        "https://portal.example//attacker.example",
        "https://portal.example/a//b",
        "https://portal.example/..",
        "https://portal.example/./x",
        "https://apps.example/",
        "https://apps.example/awsome",
        "https://apps.example/AWS",
        "https://apps.example/aws.evil",
        "https://apps.example/aws/../admin",
        "https://apps.example/aws/%2e%2e/admin",
        "https://apps.example/aws/%2E./admin",
        "https://apps.example/aws/%252e%252e/admin",
        "https://apps.example/aws/%25252e%25252e/admin",
        "https://apps.example/aws/%" + "25" * 9 + "2e%2e/admin",
        "https://apps.example/aws/..;/admin",
        "https://apps.example/aws/..;x=1/admin",
        "https://apps.example/aws/..%2fadmin",
        "https://apps.example/aws/..%5cadmin",
        "https://apps.example/aws/..\\admin",
        "https://apps.example/aws%2f..",
        "https://apps.example/aws/%00",
        "https://apps.example/aws/%0d%0a",
        "https://apps.example/%61ws",
        "https://apps.example/aws/../aws/",
        "http://localhost/back",
        "https://localhost:8080/back",
        "http://127.0.0.1:8080/back",
        "https://[2001:db8::2]:8443/",
        "https://[2001:db8::1%25eth0]:8443/",
        "https://[::ffff:1.2.3.4]:8443/",
        "https://portal.example/" + "x" * LONGEST_CALLBACK_URL,
    ],
)
def test_tricks(url: str) -> None:
    """Whatever two readers of a URL could read differently, and what is simply elsewhere."""
    assert not URLS.allow(url)


def test_an_empty_list_allows_nothing() -> None:
    """Not the own address either."""
    assert not CallbackUrls([]).allow("https://portal.example/")


@given(
    st.text(st.sampled_from("htps:/.\\@#?%2eportalx;example[]443\t \u3002"), max_size=40),
    st.sampled_from(["", "https://portal.example", "https://apps.example/aws", "https://"]),
)
def test_what_is_allowed_is_on_the_list(text: str, start: str) -> None:
    """As Python's own reader of URLs sees it."""
    url = start + text
    if URLS.allow(url):
        parts = urlsplit(url)
        assert parts.username is None
        assert (parts.scheme, parts.hostname, parts.port or 443) in {
            ("https", "portal.example", 443),
            ("https", "apps.example", 443),
        }
        if parts.hostname == "apps.example":
            assert (parts.path + "/").startswith("/aws/")


@pytest.mark.parametrize("url", ["portal.example", "ftp://portal.example", "https://portal.example?x"])
def test_entries_that_can_t_be_compared(url: str) -> None:
    """A list of such would allow something else than it says."""
    with pytest.raises(ValueError, match="no origin"):
        CallbackUrls([url])
