"""What the tests do on the page again and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imds_proxy.web.page import Row

if TYPE_CHECKING:
    from tests.browser.devtools import Page

ADMIN = Row("main", "admin", "group main-admin", "000123456789")
ROWS = (
    ADMIN,
    Row("main", "read-only", "group main-read-only", "000123456789"),
    Row("data-lake-production", "analyst", "group data-lake-analysts; group berlin", "271828182845"),
)
OPEN = "Open console main admin"
SHOW = "Show credentials main admin"


def many(count: int) -> list[Row]:
    """Return rows of many accounts."""
    roles = ("admin", "developer", "read-only", "support-engineer")
    return [
        Row(f"account-{index // 4:03d}", roles[index % 4], f"group {index}", f"{index // 4:012d}")
        for index in range(count)
    ]


async def show_credentials(page: Page) -> None:
    """Press the button for the first role's credentials and wait until they are there."""
    await page.click("button", SHOW)
    await page.wait_for("document.querySelector('.keys pre')?.textContent")


async def problem_on(page: Page) -> str:
    """Return what went wrong as the page tells it, once it does."""
    await page.wait_for("document.querySelector('.panel [role=alert]')")
    text = str(await page.evaluate("document.querySelector('.panel [role=alert]').innerText"))
    return " ".join(text.split())


async def overhang(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def wait_for_text(page: Page, text: str) -> None:
    """Return once a text is to be read."""
    await page.wait_for(f"document.body.innerText.includes({json.dumps(text)})")
