"""The page of the people's listener: values in, HTML out. Its script and style are files in `static`.

The page holds no secret but its own token. Everything in it is relative to its address, which must end with a
slash: so it works behind a proxy that serves it under another path.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT_TYPE = "text/html; charset=utf-8"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What the page needs and no more: it has no inline script or style."""

_ASSETS = {"people.css": "text/css; charset=utf-8", "people.js": "text/javascript; charset=utf-8"}

# What no one can see or what makes the text around it look different: controls, overrides of the writing
# direction, lone surrogates, separators of lines.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Row:
    """One role that the person may have."""

    account: str
    role: str
    reason: str
    account_id: str | None = None
    """12 digits; None: the settings have no such account."""


@dataclass(frozen=True, slots=True)
class PageToken:
    """What the page shows when it asks for credentials, so that no other site's page can."""

    text: str = field(repr=False)
    life: int
    """Seconds from now for which it is good."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that the page needs."""

    content_type: str
    body: bytes = field(repr=False)
    etag: str
    """As a header has it, quotes included."""


@cache
def asset(name: str) -> Asset | None:
    """Return the file that the page knows as `static/NAME`, None where there is none."""
    content_type = _ASSETS.get(name)
    if content_type is None:
        return None
    body = (files("imds_proxy.web") / "static" / name).read_bytes()
    return Asset(content_type, body, f'"{blake2b(body, digest_size=16).hexdigest()}"')


def render_page(user: str, rows: Iterable[Row], token: PageToken) -> bytes:
    """Return the page of a person: a row for each role, sorted by account and role."""
    ordered = sorted(rows, key=_order)
    content = _table(ordered) if ordered else _no_roles(user)
    name = _isolated(user)
    return _document(
        f"AWS roles of {_text(user)}",
        f'<header>\n<h1>AWS roles</h1>\n<p class="who">Signed in as {name}</p>\n</header>\n'
        f'<main data-token="{_exact(token.text)}" data-token-life="{token.life:d}">\n{content}</main>\n',
    )


def render_problem(title: str, message: str) -> bytes:
    """Return a page that says why there are no rows to see, such as a provider that does not answer."""
    return _document(
        _text(title),
        f"<header>\n<h1>AWS roles</h1>\n</header>\n<main>\n"
        f'<div class="problem"><h2>{_text(title)}</h2>\n<p>{_text(message)}</p>\n'
        f'<p><a href="">Reload the page</a></p></div>\n</main>\n',
    )


def _document(title: str, body: str) -> bytes:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="stylesheet" href="static/people.css">\n'
        '<script type="module" src="static/people.js"></script>\n'
        f"</head>\n<body>\n{body}</body>\n</html>\n"
    ).encode()


def _no_roles(user: str) -> str:
    return (
        f'<div class="note"><h2>No role yet</h2>\n<p>{_isolated(user)} has no AWS role here. Roles come with '
        "the groups you are in: ask whoever looks after your AWS accounts to give you one, and tell them the "
        "name you are signed in with. Then reload this page.</p></div>\n"
    )


def _table(rows: list[Row]) -> str:
    return f"{_BEFORE_ROWS}{''.join(map(_row, rows))}{_AFTER_ROWS}"


def _order(row: Row) -> tuple[str, ...]:
    # Names that differ in case only stay apart, always in the same order.
    return (row.account.casefold(), row.account, row.role.casefold(), row.role)


def _row(row: Row) -> str:
    names = f'<span class="unseen"> {_text(row.account)} {_text(row.role)}</span>'
    account_id = _text(row.account_id) if row.account_id is not None else "<em>none set</em>"
    return (
        f'<tr data-account="{_exact(row.account)}" data-role="{_exact(row.role)}">\n'
        f'<th scope="row" data-label="Account">{_isolated(row.account)}</th>\n'
        f'<td data-label="Account id" class="id">{account_id}</td>\n'
        f'<td data-label="Role" class="role">{_isolated(row.role)}</td>\n'
        f'<td data-label="Reason" class="reason">{_isolated(row.reason)}</td>\n'
        '<td class="actions">'
        f'<button type="button" class="open" disabled>Open console{names}</button>\n'
        f'<button type="button" class="show" aria-expanded="false" disabled>Show credentials{names}</button>'
        "</td>\n</tr>\n"
    )


def _text(value: str) -> str:
    """Return a value as HTML to be read: what can't be seen is spelled out, `\\u202e` for one."""
    seen = (
        f"\\u{ord(character):04x}" if unicodedata.category(character) in _INVISIBLE else character
        for character in value
    )
    return escape("".join(seen))


def _isolated(value: str) -> str:
    return f"<bdi>{_text(value)}</bdi>"


def _exact(value: str) -> str:
    """Return a value as the HTML of an attribute that a browser reads back as it was.

    What HTML can't hold at all (NUL, lone surrogates) becomes U+FFFD: no name in the settings has these.
    """
    writable = value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return escape(writable).replace("\r", "&#13;")


_BEFORE_ROWS = """\
<noscript><p class="note">The buttons need JavaScript. Without it, ask on the command line:
<code>imds-proxy console ACCOUNT ROLE</code> prints a link to the console,
<code>imds-proxy credentials ACCOUNT ROLE</code> prints credentials.</p></noscript>
<div class="filter" role="search" hidden>
<label for="filter">Filter</label>
<input type="search" id="filter" autocomplete="off" autocapitalize="none" spellcheck="false">
<span id="count" role="status"></span>
</div>
<p id="announcement" class="unseen" role="status"></p>
<table>
<caption class="unseen">Your roles</caption>
<thead>
<tr>
<th scope="col">Account</th>
<th scope="col">Account id</th>
<th scope="col">Role</th>
<th scope="col">Reason</th>
<th scope="col"><span class="unseen">Actions</span></th>
</tr>
</thead>
<tbody>
"""

_AFTER_ROWS = """\
</tbody>
</table>
<template id="panel">
<tr class="panel"><td colspan="5"></td></tr>
</template>
<template id="problem">
<div class="problem" role="alert"><p></p></div>
</template>
<template id="keys">
<section class="keys" aria-labelledby="keys-title">
<div class="keys-head">
<h2 id="keys-title"></h2>
<p>Valid for <span class="left" role="timer"></span></p>
<button type="button" class="hide">Hide<span class="unseen"> credentials</span></button>
</div>
<div class="form">
<h3 id="bash-title">Shell <small>bash, zsh</small></h3>
<button type="button" class="copy">Copy<span class="unseen"> shell lines</span></button>
<pre data-form="bash" tabindex="0" role="region" aria-labelledby="bash-title"></pre>
</div>
<div class="form">
<h3 id="profile-title">Profile <small>~/.aws/credentials</small></h3>
<button type="button" class="copy">Copy<span class="unseen"> profile</span></button>
<pre data-form="profile" tabindex="0" role="region" aria-labelledby="profile-title"></pre>
</div>
<div class="form">
<h3 id="powershell-title">PowerShell</h3>
<button type="button" class="copy">Copy<span class="unseen"> PowerShell lines</span></button>
<pre data-form="powershell" tabindex="0" role="region" aria-labelledby="powershell-title"></pre>
</div>
</section>
</template>
"""
