"""PromQL as far as it takes to know what an expression asks for: metrics, labels, what it groups by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_FUNCTIONS = {
    "changes",
    "histogram_quantile",
    "increase",
    "label_values",  # Grafana's
    "rate",
    "sort_desc",
}
_AGGREGATIONS = {"avg", "count", "max", "min", "sum"}
_WORDS = {"and", "or", "unless"}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<range>\[[^\]]*\])
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<name>[a-zA-Z_:][\w:]*)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<matcher>=~|!~|!=(?=\s*"))
    |(?P<sign>==|!=|<=|>=|[-+*/<>=(){},])
    )""",
    re.VERBOSE,
)


@dataclass
class Selector:
    """A metric that an expression asks for, the labels it is asked by, and their values."""

    metric: str
    labels: dict[str, set[str]] = field(default_factory=dict)


def offered(scrape: str) -> dict[str, dict[str, set[str]]]:
    """Return the names of all samples, and the values of their labels."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def read_expression(text: str) -> list[Selector]:
    """Return the selectors in an expression. Raises ValueError for what this reader takes for none."""
    tokens = _split(text)
    reader = _Reader(tokens)
    reader.read_operation()
    if reader.at < len(tokens):
        raise ValueError(f"no expression from {tokens[reader.at]} on: {text}")
    return reader.found


def _split(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"no expression: {text[at:]!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self.at = 0
        self.found: list[Selector] = []

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self.at] if self.at < len(self._tokens) else ("end", "")

    def _take(self, kind: str, *values: str) -> str:
        found, value = self._peek()
        if found != kind or (values and value not in values):
            raise ValueError(f"no expression: {value or 'its end'} in place of {values or kind}")
        self.at += 1
        return value

    def read_operation(self) -> None:
        """Read operands with signs or words between them."""
        self._read_operand()
        while True:
            kind, value = self._peek()
            is_sign = kind == "sign" and value in {"==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/"}
            if not is_sign and value not in _WORDS:
                return
            self.at += 1
            self._read_operand()

    def _read_operand(self) -> None:
        kind, value = self._peek()
        if kind == "number":
            self.at += 1
        elif value == "(":
            self._read_arguments()
        elif value in _AGGREGATIONS:
            self._read_aggregation()
        elif kind == "name" and self._tokens[self.at + 1 : self.at + 2] == [("sign", "(")]:
            if value not in _FUNCTIONS:
                raise ValueError(f"no function that this reader knows in the expression: {value}")
            self.at += 1
            self._read_arguments(is_of_grafana=value == "label_values")
        else:
            self._read_selector()

    def _read_arguments(self, *, is_of_grafana: bool = False) -> None:
        self._take("sign", "(")
        self.read_operation()
        while self._peek() == ("sign", ","):
            self.at += 1
            if is_of_grafana:
                self.found[-1].labels.setdefault(self._take("name"), set())
            else:
                self.read_operation()
        self._take("sign", ")")

    def _read_aggregation(self) -> None:
        self.at += 1
        labels: list[str] = []
        if self._peek() == ("name", "by"):
            self.at += 1
            self._take("sign", "(")
            labels.append(self._take("name"))
            while self._peek() == ("sign", ","):
                self.at += 1
                labels.append(self._take("name"))
            self._take("sign", ")")
        first = len(self.found)
        self._read_arguments()
        for selector in self.found[first:]:
            for label in labels:
                selector.labels.setdefault(label, set())

    def _read_selector(self) -> None:
        selector = Selector(self._take("name"))
        if self._peek() == ("sign", "{"):
            self.at += 1
            self._read_matcher(selector)
            while self._peek() == ("sign", ","):
                self.at += 1
                self._read_matcher(selector)
            self._take("sign", "}")
        if self._peek()[0] == "range":
            self.at += 1
        self.found.append(selector)

    def _read_matcher(self, selector: Selector) -> None:
        label = self._take("name")
        kind, sign = self._peek()
        if kind != "matcher" and sign != "=":
            raise ValueError(f"no expression: {sign} behind the label {label}")
        self.at += 1
        value = self._take("text")[1:-1]
        values = value.split("|") if sign in {"=~", "!~"} else [value]
        # What Grafana fills in is known to nobody here.
        selector.labels.setdefault(label, set()).update(one for one in values if not one.startswith("$"))
