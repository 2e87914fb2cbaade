"""docs/behaviour.md: every figure is the code's, and every limit of the code is there.

A figure is marked by a comment that nobody sees: `0.4 s<!--broker.TOKEN_HOLD-->` is a constant of a module,
`5 s<!--dns.recheck-->` the default of a setting, `16<!--web.status.ADMIN_RATES.connections-->` a field of a
constant.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING

import pytest

import imds_proxy.web
from imds_proxy.config import Settings
from tests.standins import manual

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "docs/behaviour.md"

UNITS = {"": 1, "ms": 0.001, "s": 1, "min": 60, "h": 3600, "%": 0.01, "MiB": 1 << 20}
_FIGURE = re.compile(r"(\d[\d,]*(?:\.\d+)?) ?(ms|s|min|h|%|MiB)?<!--([\w.]+)-->")
FIGURES = sorted(set(_FIGURE.findall(manual.without_blocks(PAGE))))

_SUM = re.compile(r"^## What the bounds add up to$.*?(?=^## )", re.MULTILINE | re.DOTALL)
"""Its figures are checked by test_bounds_sum."""

STATUSES = {"0", "200", "400", "401", "403", "404", "503"}
"""Of HTTP, and of a process."""

OTHER_NUMBERS = {
    "certificate_ends",  # how DER is written
    "cli",  # numbers of file descriptors
    "config",  # what settings take: docs/configuration.md
    "demo",
    "doctor",  # what a command waits for and warns of: docs/doctor.md
    "exit_statuses",  # README
    "journal",  # what systemd's protocol asks for
    "imds_tokens",  # how a token is made
    "naming",  # what AWS takes
    "names",  # what DNS takes
    "nss",  # how much room the C library's answers get
    "private_memory",  # what prctl(2) takes
    "resolver",  # how long a text for the log may be
    "role_sessions",  # what AWS takes
    "secret_settings",  # how short a secret is looked for in texts
    "token_keys",  # how a key is made
    "web.edge.heads",  # what is said of a head, and how its end is found
    "web.page_tokens",  # how a token is made; its life is there all the same
    "web.people",  # how long a text for the log may be
    "web.tree",  # how paths are remembered
    "workload_tokens",  # how a token is made; its life is there all the same
    "yaml_nodes",  # what a file may hold: docs/configuration.md
    "yaml_scalars",  # what Python reads as a number
    "yaml_source",
}
"""The modules, and packages, whose numbers are neither limits nor time-outs of the running daemon."""

NO_LIMITS = {
    "DIGEST_BYTES",  # of a hash
    "MAX_COMMON_BYTES",  # which header lines are remembered
    "EVERYTHING",  # stands for all bytes that still come
    "ROUNDING",  # sums of fractions are not exact
    "STEP",  # how finely sizes are compared
    "IPV4_SHIFT",  # the networks /28 and /64
    "IPV6_SHIFT",
    "IPV6_MARK",
    "FILE_MODE",  # of the audit file
    "NEVER",  # a time before all others, or after all
    "MOST_DECODINGS",  # of an odd URL, until it is refused
    "OK",  # a status
    "OVERFLOW_UID",  # stands for all users without a number here
    "SHORTEST_SLEEP",  # keeps a timer from turning into a loop
}
"""Numbers of the other modules that are none either."""


def value_of(name: str) -> float:
    """Return what a mark stands for: a module's constant, a field of one, or the default of a setting."""
    place, _, last = name.rpartition(".")
    above, _, constant = place.rpartition(".")
    if last.strip("_").isupper():
        value = getattr(importlib.import_module(f"imds_proxy.{place}"), last)
    elif constant.isupper():
        value = getattr(getattr(importlib.import_module(f"imds_proxy.{above}"), constant), last)
    else:
        section = Settings.model_fields[place].annotation
        assert section is not None
        value = getattr(section(), last)
    assert isinstance(value, int | float)
    return float(value)


def limits() -> Iterator[str]:
    """Yield the names of the numbers that modules define at their top: `broker.TOKEN_HOLD`."""
    for info in pkgutil.iter_modules(imds_proxy.__path__):
        yield from own_numbers(info.name)
    for info in pkgutil.walk_packages(imds_proxy.web.__path__, "imds_proxy.web."):
        yield from own_numbers(info.name.removeprefix("imds_proxy."))


def own_numbers(place: str) -> Iterator[str]:
    """Yield the numbers of one module; those that it imports are another's."""
    if place in OTHER_NUMBERS:
        return
    module = importlib.import_module(f"imds_proxy.{place}")
    statements = ast.parse(inspect.getsource(module)).body
    assignments = [each for each in statements if isinstance(each, ast.Assign | ast.AnnAssign)]
    nodes = (node for each in assignments for node in ast.walk(each))
    names = (node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    yield from (f"{place}.{name}" for name in names if isinstance(getattr(module, name, None), int | float))


@pytest.mark.parametrize(("number", "unit", "name"), FIGURES)
def test_a_figure_is_the_codes(number: str, unit: str, name: str) -> None:
    """The number, in its unit, is the constant or the default that its mark names."""
    assert float(number.replace(",", "")) * UNITS[unit] == pytest.approx(value_of(name))


def test_there_is_no_figure_without_a_mark() -> None:
    """Statuses, the numbers of list items, sizes of networks (/64) and the sum of the bounds aside."""
    text = _FIGURE.sub("", _SUM.sub("", manual.without_code(PAGE)))
    text = re.sub(r"^\d+\. ", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"(?<![\w/])\d[\d,.]*\d|(?<![\w/])\d", text)) <= STATUSES
    assert "<!--" not in text


def test_every_limit_is_there() -> None:
    """Each number at the top of a module that limits something has its place on the page."""
    documented = {name for _, _, name in FIGURES}
    missing = {name: name.rpartition(".")[2].lstrip("_") for name in limits() if name not in documented}
    assert [name for name, last in missing.items() if last not in NO_LIMITS] == []
    assert set(missing.values()) == NO_LIMITS
