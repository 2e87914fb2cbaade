"""axe-core, rules for what WCAG asks of a page: fetched when tests want it, never kept here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.standins.client_venvs import client_bin

if TYPE_CHECKING:
    from tests.browser.devtools import Page

# The package that brings axe-core (4.12.1) to PyPI; that one file is wanted, not what drives browsers.
_REQUIREMENTS = ["--no-deps", "axe-playwright-python==0.1.8"]
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def axe_source() -> str:
    """Return the script. Raises ClientUnavailableError when it can't be had."""
    folder = client_bin("axe", _REQUIREMENTS).parent
    [file] = folder.glob("lib/python*/site-packages/axe_playwright_python/axe.min.js")
    return file.read_text("utf-8")


async def find_barriers(page: Page, source: str) -> list[str]:
    """Return what the rules find wrong with a page as it is now, and what they can't tell, with the HTML."""
    # Evaluated by the debugger, so the page's own policy, which lets no foreign script in, stays as it is.
    await page.evaluate(f"{source};0")
    options = json.dumps({"runOnly": {"type": "tag", "values": _RULES}})
    found = await page.evaluate(f"axe.run(document, {options})")
    assert found["passes"], "no rule has looked at anything"
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:300]} {node['failureSummary']}"
        for rule in found["violations"] + found["incomplete"]
        for node in rule["nodes"]
    ]
