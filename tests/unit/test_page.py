"""The page for people as HTML: what a browser reads out of it is what was put in, whatever the names are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.web.page import CONTENT_SECURITY_POLICY, PageToken, Row, asset, render_page, render_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = PageToken("the-token", 600)
ROW = Row("main", "admin", "group main-admin", "000123456789")

# What breaks out of HTML, out of attributes, out of lines, and what only seems to be something else.
_HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"',
        "'",
        "&lt;",
        "&",
        "\r\n",
        "\n",
        "\t",
        "\u202e",
        "\u2066",
        "\u2028",
        "-->",
    ]
)
_NAMES = st.lists(st.one_of(st.text(), _HOSTILE)).map("".join).filter(lambda name: "\0" not in name)
_ROWS = st.builds(Row, _NAMES, _NAMES, _NAMES, st.none() | st.from_regex(r"[0-9]{12}", fullmatch=True))


class _Reader(HTMLParser):
    """Reads a page as a browser does, as far as these tests ask."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        """Each text with the tag it stands in, if it stands there before anything else."""
        self._current = ""
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._current = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  HTMLParser's
        self._current = ""

    def handle_data(self, data: str) -> None:
        self.texts.append((self._current, data))

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return (attributes for name, attributes in self.tags if name == tag)


def _read(rows: list[Row], user: str = "ada") -> _Reader:
    return _Reader(render_page(user, rows, TOKEN))


@given(user=_NAMES, rows=st.lists(_ROWS, max_size=4))
def test_hostile_names(user: str, rows: list[Row]) -> None:
    """Names add no element and no attribute, and are read back as they were, to be sent back as they were."""
    page = _read(rows, user)
    plain = _read([ROW] * len(rows))
    assert [tag for tag, _ in page.tags if tag != "em"] == [tag for tag, _ in plain.tags]
    assert {frozenset(attributes) for _, attributes in page.tags} <= {
        frozenset(attributes) for _, attributes in plain.tags
    }
    found = [(row["data-account"], row["data-role"]) for row in page.all("tr") if "data-role" in row]
    expected = [(_writable(row.account), _writable(row.role)) for row in rows]
    assert sorted(map(str, found)) == sorted(map(str, expected))


@given(name=_NAMES)
def test_nothing_unseen(name: str) -> None:
    """No name holds what can't be seen or turns the text around it: it is spelled out."""
    text = "".join(
        text for tag, text in _read([Row(name, name, name)], name).texts if tag in ("bdi", "title")
    )
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", text)


def _writable(name: str) -> str:
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in name)


def test_a_direction_that_is_turned() -> None:
    """A name that would be read backwards shows what it does instead."""
    page = render_page("ada", [Row("main", "nimda\u202e", "x")], TOKEN).decode()
    assert "<bdi>nimda\\u202e</bdi>" in page


def test_rows() -> None:
    """Each role has its row with account, id, role and reason, sorted, in the HTML itself."""
    rows = [Row("b", "x", "why"), ROW, Row("A", "z", "because", "000000000001"), Row("a", "y", "so")]
    texts = [text for tag, text in _read(rows).texts if tag in ("bdi", "td", "em") and text.strip()]
    expected = ["ada", "A", "000000000001", "z", "because", "a", "none set", "y", "so"]
    expected += ["b", "none set", "x", "why", "main", "000123456789", "admin", "group main-admin"]
    assert texts == expected


def test_buttons() -> None:
    """Every button says in words what it is for; without the script none can be pressed."""
    page = render_page("ada", [ROW], TOKEN).decode()
    buttons = re.findall(r"<button[^>]*disabled>(.*?)</button>", page)
    names = [re.sub(r"<[^>]*>", "", button) for button in buttons]
    assert names == ["Open console main admin", "Show credentials main admin"]


def test_without_javascript() -> None:
    """Who has no JavaScript is told of the commands."""
    page = render_page("ada", [ROW], TOKEN).decode()
    [text] = re.findall(r"<noscript>(.*?)</noscript>", page, re.DOTALL)
    assert "imds-proxy console ACCOUNT ROLE" in text
    assert "imds-proxy credentials ACCOUNT ROLE" in text


def test_no_role() -> None:
    """Who has no role is told whom to ask, by the name that they are known by."""
    page = render_page("ada & co", [], TOKEN).decode()
    assert "<table" not in page
    assert "ask whoever looks after your AWS accounts" in page
    assert page.count("<bdi>ada &amp; co</bdi>") == 2


def test_the_token() -> None:
    """The page carries the token and how long it is good, and its repr does not."""
    [main] = _read([ROW]).all("main")
    assert (main["data-token"], main["data-token-life"]) == ("the-token", "600")
    assert "the-token" not in repr(TOKEN)


@pytest.mark.parametrize("page", [render_page("ada", [ROW], TOKEN), render_problem("No", "Not now")])
def test_nothing_inline(page: bytes) -> None:
    """The page's policy allows scripts and styles of its own files only, and the page has no others."""
    reader = _Reader(page)
    assert all("src" in attributes for attributes in reader.all("script"))
    assert not list(reader.all("style"))
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not any(name == "style" or name.startswith("on") for name in names)
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_files() -> None:
    """All files that the page names are there, under addresses relative to its own, and no others are."""
    reader = _read([ROW])
    addresses = [str(each["src"]) for each in reader.all("script")] + [
        str(each["href"]) for each in reader.all("link")
    ]
    assert sorted(addresses) == ["static/people.css", "static/people.js"]
    for address in addresses:
        found = asset(address.removeprefix("static/"))
        assert found is not None
        assert found.body
        assert re.fullmatch(r'"[0-9a-f]{32}"', found.etag)
    assert asset("page.py") is None
    assert asset("../page.py") is None


def test_a_problem() -> None:
    """The page that says why there are no rows shows its words as text."""
    page = render_problem("Service Unavailable", "<b>later</b>").decode()
    assert "<h2>Service Unavailable</h2>" in page
    assert "&lt;b&gt;later&lt;/b&gt;" in page
