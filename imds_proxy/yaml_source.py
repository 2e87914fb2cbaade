"""YAML files to one plain tree of texts, and where each part stands. Finds all that is wrong, never raises.

Scalars stay the text in the file: YAML itself would read the account id `012345670123` as an octal
number and `190:20:30` as one to base 60. What a text means is for the settings to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from imds_proxy.errors import Fault
from imds_proxy.regular_file import open_regular
from imds_proxy.text import visible
from imds_proxy.yaml_nodes import (
    DEEPEST,
    LOADER,
    MOST_NODES,
    TOO_MUCH,
    KeyPath,
    Loader,
    Node,
    UnreadableError,
    compose,
)
from imds_proxy.yaml_scalars import read_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree] | None"

MOST_BYTES = 8 << 20

_LONGEST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Source:
    """What a file, or all files of a folder, say together."""

    path: Path
    tree: dict[str, Tree] = field(repr=False)
    """Maps, lists, texts, and None for what is left empty (`~`, `null` or nothing)."""
    positions: Mapping[KeyPath, str] = field(repr=False)
    """Per key path, `FILE:LINE` of the key (of the item in a list)."""
    plain: Set[KeyPath] = frozenset()
    """Where texts stand without quotes: only these may mean a number to YAML."""
    faults: tuple[Fault, ...] = ()
    is_complete: bool = True
    """Whether the tree has all that the files say: if not, what it lacks means nothing."""
    is_of_files: bool = True
    """Whether all this stands in files; a program may have it at hand."""

    def where(self, path: KeyPath) -> str:
        """Return `FILE:LINE` of `path`, or of the nearest thing around it that is in a file."""
        for length in range(len(path), 0, -1):
            position = self.positions.get(path[:length])
            if position is not None:
                return position
        return self.positions.get((), str(self.path))

    def value(self, path: KeyPath) -> Tree:
        """Return what stands at `path`, None for nothing."""
        value: Tree = self.tree
        for part in path:
            if isinstance(value, dict) and isinstance(part, str):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def typed_value(self, path: KeyPath) -> object:
        """Return what stands at `path` with the types that YAML knows; None for nothing."""
        return self._typed(self.value(path), path)

    def _typed(self, value: Tree, path: KeyPath) -> object:
        if isinstance(value, dict):
            return {key: self._typed(child, (*path, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [self._typed(child, (*path, index)) for index, child in enumerate(value)]
        return read_scalar(value) if isinstance(value, str) and path in self.plain else value

    def fault(self, path: KeyPath, text: str, *, is_warning: bool = False) -> Fault:
        """Return a fault of the setting at `path`; its text becomes one line, whoever wrote it."""
        return Fault(self.where(path), dotted(path), one_line(text), is_warning)


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: `listen[0].callers[1]`. Always one printable line."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part and part.isprintable() else repr(part))
    return text


def one_line(text: str) -> str:
    """Return `text` as one printable line: a fault is one."""
    return visible(" ".join(text.split()))


def quoted(text: str) -> str:
    """Return a value for a message: in quotes, on one line, not too long."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")


def read_source(path: Path, loader: Loader = LOADER) -> Source:
    """Return what the file `path` says, or the folder's `*.yaml` and `*.yml` in the order of their names."""
    merger = _Merger()
    try:
        files = files_of(path)
    except OSError as error:
        return _unreadable(path, f"can't be read: {error.strerror}")
    if not files:
        return _unreadable(path, "the folder has no *.yaml or *.yml file")
    merger.positions[()] = f"{path}:1" if files == [path] else str(path)
    for file in files:
        merger.add(file, loader)
    return Source(path, merger.tree, merger.positions, merger.plain, tuple(merger.faults), merger.is_complete)


def source_of(name: str, settings: Mapping[str, Any]) -> Source:
    """Return settings that a program has at hand as if `name` were their file. Values keep their types."""
    return Source(Path(name), dict(settings), dict.fromkeys(_paths(settings, ()), name), is_of_files=False)


def _paths(value: object, path: KeyPath) -> Iterator[KeyPath]:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _paths(child, (*path, index))


def files_of(path: Path) -> list[Path]:
    """Return the files that `path` stands for: itself, or those of a folder. Raises OSError."""
    if not path.is_dir():
        return [path]
    return sorted(
        file for file in path.iterdir() if file.suffix in {".yaml", ".yml"} and not file.name.startswith(".")
    )


def _unreadable(path: Path, text: str) -> Source:
    return Source(path, {}, {}, faults=(Fault(str(path), "", text),), is_complete=False)


def _read_text(file: Path) -> str:
    try:
        with open_regular(file) as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableError(None, f"can't be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UnreadableError(None, f"too much: more than {MOST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(content.count(b"\n", 0, error.start) + 1, "is not UTF-8") from None


class _Merger:
    """Puts files together, one after the other."""

    def __init__(self) -> None:
        self.tree: dict[str, Tree] = {}
        self.positions: dict[KeyPath, str] = {}
        self.plain: set[KeyPath] = set()
        self.faults: list[Fault] = []
        self.is_complete = True

    def add(self, file: Path, loader: Loader) -> None:
        def report(line: int, path: KeyPath, text: str) -> None:
            self.faults.append(Fault(f"{file}:{line}", dotted(path), text))

        try:
            entries = compose(_read_text(file), loader, report)
            self._merge(self.tree, entries, (), str(file))
        except UnreadableError as error:
            where = str(file) if error.line is None else f"{file}:{error.line}"
            self.faults.append(Fault(where, "", error.text))
            self.is_complete = False

    def _merge(
        self, into: dict[str, Tree], entries: dict[str, tuple[int, Node]], path: KeyPath, file: str
    ) -> None:
        for key, (line, node) in entries.items():
            here, where = (*path, key), f"{file}:{line}"
            if key not in into:
                into[key] = self._place(node, here, line, file)
                continue
            existing = into[key]
            if isinstance(existing, dict) and isinstance(node.content, dict):
                self._merge(existing, node.content, here, file)
            else:
                text = f"is at {self.positions[here]} too, and only maps merge"
                self.faults.append(Fault(where, dotted(here), text))

    def _place(self, node: Node, path: KeyPath, line: int, file: str) -> Tree:
        """Return the value of `node`. Here aliases are written out, so here everything is counted again."""
        if len(self.positions) >= MOST_NODES or len(path) > DEEPEST:
            raise UnreadableError(line, TOO_MUCH)
        self.positions[path] = f"{file}:{line}"
        if node.is_plain:
            self.plain.add(path)
        if isinstance(node.content, dict):
            return {
                key: self._place(child, (*path, key), key_line, file)
                for key, (key_line, child) in node.content.items()
            }
        if isinstance(node.content, list):
            return [
                self._place(child, (*path, index), child.line, file)
                for index, child in enumerate(node.content)
            ]
        return node.content
