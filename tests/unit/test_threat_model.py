"""THREAT_MODEL.md: each attack names the test that holds it, and all that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.standins import manual

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "THREAT_MODEL.md").read_text()

_PLACE = re.compile(r"(?P<path>[\w./-]+)(?:::(?P<name>\w+))?")


def _attacks() -> list[tuple[str, list[str]]]:
    """Return each attack with what stands in its last column: paths, perhaps with a test's name."""
    rows = [row for row in manual.rows(PAGE) if len(row) == 4]
    return [(row[0], re.findall(r"`([^`]+)`", row[3])) for row in rows]


ATTACKS = _attacks()


def find_faults(places: list[str]) -> list[str]:
    """Return what is wrong with the places that hold an attack: none of them a test, or one not there."""
    faults = [] if any(place.startswith("tests/") for place in places) else ["names no test"]
    for place in places:
        found = _PLACE.fullmatch(place)
        if found is None or not (ROOT / found["path"]).is_file():
            faults.append(f"{place} is not a file")
        elif found["path"].startswith("tests/"):
            faults += _faults_of_test(found["path"], found["name"])
    return faults


def _faults_of_test(path: str, name: str | None) -> list[str]:
    wanted = name or r"test_\w+"
    if not re.search(rf"^(?:async )?def {wanted}\(", (ROOT / path).read_text(), re.MULTILINE):
        return [f"{path} has no test {name or ''}".rstrip()]
    return []


def test_all_tables_are_read() -> None:
    """No row gets lost on the way: as many as there are lines of tables with four columns."""
    lines = [line for line in PAGE.splitlines() if re.fullmatch(r"\|.*\|", line) and line.count(" | ") == 3]
    assert len(ATTACKS) == len(lines) - sum(line.startswith("| attack |") for line in lines)
    assert len(ATTACKS) > 60


@pytest.mark.parametrize(("attack", "places"), ATTACKS, ids=[attack[:40] for attack, _ in ATTACKS])
def test_an_attack_is_held(attack: str, places: list[str]) -> None:
    """The row names a test, and every file and function that it names exists."""
    assert find_faults(places) == [], attack


@pytest.mark.parametrize(
    ("places", "fault"),
    [
        (["imds_proxy/cache.py"], "names no test"),
        (["tests/unit/test_nowhere.py"], "tests/unit/test_nowhere.py is not a file"),
        (["tests/unit/test_cache.py", "imds_proxy/nowhere.py"], "imds_proxy/nowhere.py is not a file"),
        (["tests/unit/test_cache.py::test_nothing"], "tests/unit/test_cache.py has no test test_nothing"),
        (["tests/standins/clocks.py"], "tests/standins/clocks.py has no test"),
        (["tests/unit"], "tests/unit is not a file"),
    ],
)
def test_what_is_not_held(places: list[str], fault: str) -> None:
    """A row without a test, and one whose file or function is gone, is found."""
    assert fault in find_faults(places)
    assert find_faults(["tests/unit/test_threat_model.py::test_what_is_not_held"]) == []
