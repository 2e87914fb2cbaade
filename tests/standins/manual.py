"""The project's pages as tests read them: headings, links, code, tables, figures."""

from __future__ import annotations

import grp
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.standins.certificates import make_certificate

ROOT = Path(__file__).parents[2]
OWN_GROUP = grp.getgrgid(os.getgid()).gr_name
PAGES = tuple(
    str(path.relative_to(ROOT)) for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
)

_FOLDERS = {"user-data", "workloads"}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: ```yaml and what follows."""

    page: str
    number: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def read(page: str) -> str:
    """Return the text of a page, named by its path in the repository."""
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    found = _FENCE.findall(read(page))
    return [Block(page, number, kind, dedent(text)) for number, (_, kind, text) in enumerate(found)]


def installed(text: str, folder: Path) -> str:
    """Return a sample configuration as on a host that has the files, the group and the user it names.

    What it says of /etc/imds-proxy lies in `folder`: certificates, secrets in files of one line, folders.
    """
    text = text.replace("/etc/imds-proxy/", f"{folder}/").replace("group: afp", f"group: {OWN_GROUP}")
    text = text.replace("www-data", "root")
    paths = sorted({Path(name) for name in re.findall(rf"{folder}/[\w.-]+", text)})
    made = make_certificate(folder) if {path.suffix for path in paths} & {".pem", ".key"} else None
    for path in paths:
        if made is not None and path.suffix in {".pem", ".key"}:
            path.write_bytes((made.pem if path.suffix == ".key" else made.authority).read_bytes())
        elif path.name in _FOLDERS:
            path.mkdir(exist_ok=True)
            continue
        else:
            path.write_text("swordfish-swordfish-swordfish-32\n")
        path.chmod(0o600)
    return text


def without_blocks(page: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def without_code(page: str) -> str:
    """Return a page's prose: no fenced blocks, no `code`."""
    return _CODE.sub("", without_blocks(page))


def code(page: str) -> list[str]:
    """Return every `code` in a page's prose and every line of its fenced blocks."""
    spans = [span[1:-1] for span in _CODE.findall(without_blocks(page))]
    return spans + [line for block in blocks(page) for line in block.text.splitlines()]


def links(page: str) -> list[str]:
    """Return where the links of a page lead."""
    return _LINK.findall(without_code(page))


def anchors(page: str) -> set[str]:
    """Return the fragments that a page's headings have on GitHub; equal ones get -1, -2 ..."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(without_blocks(page)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    _, _, rest = without_blocks(page).partition(f"# {heading}\n")
    assert rest, f"{page} has no heading {heading!r}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without heads."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if all(set(cell) <= {"-", ":"} and cell for cell in cells):
            found.pop()  # the line before was a head
        else:
            found.append(cells)
    return found
