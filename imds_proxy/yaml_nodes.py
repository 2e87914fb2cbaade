"""One YAML text to nodes that know their lines: scalars as text, nothing clever, nothing without a bound.

`yaml.compose` hides which tags were written and has no limits, so this works on the parser's events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Key: TypeAlias = str | int
KeyPath: TypeAlias = tuple[Key, ...]
Loader: TypeAlias = "type[yaml.SafeLoader | yaml.CSafeLoader]"

LOADER: Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

MOST_NODES = 100_000
DEEPEST = 64
TOO_MUCH = f"too much: more than {MOST_NODES} values, or deeper than {DEEPEST} levels"

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_NOT_IN_YAML = yaml.reader.Reader.NON_PRINTABLE


class UnreadableError(Exception):
    """The text, or the rest of it, can't be read. Lines count from 1; None: no line is to blame."""

    def __init__(self, line: int | None, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line on which it begins."""

    line: int
    content: str | list[Node] | dict[str, tuple[int, Node]] | None
    """A map has per key the key's own line and the value."""
    is_plain: bool = False
    """Whether it is a text without quotes, which YAML may take for a number."""


def compose(
    text: str, loader: Loader, report: Callable[[int, KeyPath, str], None]
) -> dict[str, tuple[int, Node]]:
    """Return the map that `text` is. Raises UnreadableError where reading on makes no sense.

    Calls `report` with line, key path and text for what is wrong but can be stepped over: a key that
    is there twice, a tag, a merge key.
    """
    try:
        return _Composer(_events(text, loader), report).compose_root()
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(_line_of(error, text), _describe(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's own parser lets chr() and int() of an absurd escape through.
        raise UnreadableError(None, "not YAML: a character or escape that can't be") from error


def _events(text: str, loader: Loader) -> Iterator[yaml.Event]:
    unprintable = _NOT_IN_YAML.search(text)
    if unprintable is not None:
        line = text.count("\n", 0, unprintable.start()) + 1
        raise UnreadableError(line, f"not YAML: a control character ({unprintable.group()!r})")
    return iter(yaml.parse(text, Loader=loader))


def _line_of(error: yaml.MarkedYAMLError, text: str) -> int | None:
    """Return the line of an error; of what was begun and never ended, the line where it begins."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return None
    if error.context_mark is not None and mark.line > text.rstrip().count("\n"):
        mark = error.context_mark
    return int(mark.line) + 1


def _describe(error: yaml.MarkedYAMLError) -> str:
    """Return what the parser says without what it found, which may be a part of a secret."""
    problem = (error.problem or "").partition(", but ")[0]
    if "nesting depth" in problem:  # libyaml since 0.2.6 stops at 1,000 levels by itself
        return TOO_MUCH
    if "tag handle" in problem:
        problem = "unknown tag handle"
    elif problem.startswith("found character"):
        problem = "a character that can't begin a value; put the value into quotes"
    return f"not YAML: {error.context + ': ' if error.context else ''}{problem}"


class _Composer:
    def __init__(self, events: Iterator[yaml.Event], report: Callable[[int, KeyPath, str], None]) -> None:
        self._events = events
        self._report = report
        self._count = 0
        self._anchors: dict[str, Node | None] = {}
        """None: the anchor's own value is not complete yet."""

    def compose_root(self) -> dict[str, tuple[int, Node]]:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise UnreadableError(1, "is empty")
        root = self._compose(next(self._events), ())
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise UnreadableError(_line(after), "a second document begins here (---); one per file")
        if root.content is None:
            raise UnreadableError(1, "is empty")
        if not isinstance(root.content, dict):
            raise UnreadableError(root.line, "not a map of settings (KEY: VALUE)")
        return root.content

    def _compose(self, event: yaml.Event, path: KeyPath) -> Node:
        line = _line(event)
        self._count += 1
        if self._count > MOST_NODES or len(path) > DEEPEST:
            raise UnreadableError(line, TOO_MUCH)
        if isinstance(event, yaml.AliasEvent):
            return self._follow(event, line)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            self._report(line, path, "a tag (!...) is not allowed: a value is the text that stands there")
        node = self._compose_content(event, line, path)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _compose_content(self, event: yaml.Event, line: int, path: KeyPath) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Node(line, _scalar(event, line), is_plain=event.implicit[0])
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(line, self._compose_items(path))
        return Node(line, self._compose_entries(path))

    def _follow(self, alias: yaml.AliasEvent, line: int) -> Node:
        if alias.anchor not in self._anchors:
            raise UnreadableError(line, "an alias (*...) without its anchor (&...)")
        node = self._anchors[alias.anchor]
        if node is None:
            raise UnreadableError(line, "an alias (*...) to something that it is a part of")
        return node

    def _compose_items(self, path: KeyPath) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._compose(event, (*path, len(items))))
        return items

    def _compose_entries(self, path: KeyPath) -> dict[str, tuple[int, Node]]:
        entries: dict[str, tuple[int, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableError(line, "a key must be a text")
            self._compose(event, path)
            key = _text(event, line)
            value = self._compose(next(self._events), (*path, key))
            if key == "<<" and event.implicit[0]:
                self._report(line, (*path, key), "a merge key (<<) is not allowed: write the settings out")
            elif key in entries:
                self._report(line, (*path, key), f"is on line {entries[key][0]} too")
            else:
                entries[key] = (line, value)
        return entries


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # both parsers mark every event
    return int(event.start_mark.line) + 1


def _text(event: yaml.ScalarEvent, line: int) -> str:
    text = str(event.value)
    if _NO_TEXT.search(text):
        raise UnreadableError(line, "a text with a NUL or half a character")
    return text


def _scalar(event: yaml.ScalarEvent, line: int) -> str | None:
    text = _text(event, line)
    is_plain = event.implicit[0]
    return None if is_plain and text in _NULLS else text
