"""Whether another site is behind a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from imds_proxy.web.cross_site import Fetch, own_origins
from imds_proxy.web.origins import Origin, parse_origin

OWN = Origin("https", "afp.example", 443)
OURS = frozenset({OWN})


def test_programs_are_no_sites() -> None:
    """Nothing said: not foreign. But a POST of the page has to be said to be ours."""
    assert not Fetch().is_foreign(OURS)
    assert not Fetch().is_ours(OURS)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    """Return the headers of a request."""
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    "header",
    [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"),
        ("User-Agent", "mozilla/4.0 (compatible; MSIE 8.0)"),
        ("User-Agent", "Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16"),
        ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        ("Referer", "http://attacker.example/"),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-CH-UA", '"Chromium";v="140"'),
    ],
)
def test_a_browser_that_does_not_say_which_site(header: tuple[str, str]) -> None:
    """It asks by http, or is an old one: any site's page may be behind it."""
    assert Fetch.of(headers(header)).is_untold
    assert Fetch.of(headers(header, ("Origin", "https://afp.example"))).is_untold
    assert not Fetch.of(headers(header, ("Sec-Fetch-Site", "same-origin"))).is_untold


@pytest.mark.parametrize(
    "agent",
    [
        "curl/8.5.0", "python-requests/2.32.3", "Boto3/1.40 md/Botocore#1.40", "aws-cli/2.15", "afp-cli/370",
        "imds-proxy/0.1", "node", "Go-http-client/1.1", "Wget/1.21",
    ],
)  # fmt: skip
def test_programs_that_are_not_browsers(agent: str) -> None:
    """No page can make them ask."""
    asked = headers(("User-Agent", agent), ("Accept", "*/*"), ("Accept-Encoding", "gzip"))
    assert not Fetch.of(asked).is_untold
    assert not Fetch.of(headers()).is_untold


@given(
    st.lists(st.sampled_from(["same-origin", "none", "cross-site", "same-site", "", "x"]), max_size=3),
    st.lists(st.sampled_from(["https://afp.example", "https://evil.example", "null", ""]), max_size=3),
)
def test_all_that_is_said_has_to_say_ours(sites: list[str], origins: list[str]) -> None:
    """One odd value among them, or one too many, is foreign."""
    fetch = Fetch(sites=tuple(sites), origins=tuple(origins))
    is_good = sites in ([], ["same-origin"], ["none"]) and origins in ([], ["https://afp.example"])
    assert fetch.is_foreign(OURS) is not is_good
    assert fetch.is_ours(OURS) is (is_good and (sites == ["same-origin"] or bool(origins)))


@pytest.mark.parametrize(
    ("host", "is_encrypted", "public", "origins"),
    [
        ("afp.example", True, None, {OWN}),
        ("afp.example:8443", True, None, {Origin("https", "afp.example", 8443)}),
        ("127.0.0.1:8080", False, None, {Origin("http", "127.0.0.1", 8080)}),
        ("[::1]", False, None, {Origin("http", "::1", 80)}),
        ("[0:0::1]:80", False, None, {Origin("http", "::1", 80)}),
        ("127.0.0.1", False, OWN, {Origin("http", "127.0.0.1", 80), OWN}),
        ("afp.example", False, OWN, {OWN}),
        ("AFP.example:80", False, OWN, {OWN}),
        ("not a host", False, OWN, {OWN}),
        ("not a host", False, None, set()),
    ],
)
def test_own_origins(host: str, is_encrypted: bool, public: Origin | None, origins: set[Origin]) -> None:
    """As connected, and public_url's; under public_url's host nothing but public_url."""
    assert own_origins(host, is_encrypted=is_encrypted, public=public) == origins


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "",
        "afp.example",
        "https://afp.example/",
        "https://afp.example?",
        "https://afp.example, https://afp.example",
        "https://user@afp.example",
        "https://afp.example:0",
        "https://afp.example:65536",
        "https://[::g]",
        "https://[::1",
        "ws://afp.example",
    ],
)
def test_what_is_no_origin(text: str) -> None:
    """Nothing after the port, no user, nothing but http and https."""
    assert parse_origin(text) is None


def test_a_visit() -> None:
    """A link that somebody follows to see a document."""
    assert Fetch(("cross-site",), ("navigate",), ("document",)).is_visit
    assert not Fetch(("cross-site",), ("navigate",), ("iframe",)).is_visit
    assert not Fetch(("cross-site",), ("navigate",), ("document", "document")).is_visit
    assert not Fetch(("cross-site",), ("cors",), ("document",)).is_visit
    assert not Fetch(("cross-site",)).is_visit
