"""YAML becomes texts with positions; whatever is wrong becomes a fault with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy import yaml_nodes
from imds_proxy.yaml_source import MOST_BYTES, Source, dotted, quoted, read_source
from tests.standins.privileges import without_privileges

PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=PARSERS, ids=lambda loader: loader.__name__)
def loader(request: pytest.FixtureRequest) -> yaml_nodes.Loader:
    chosen: yaml_nodes.Loader = request.param
    return chosen


def _read(folder: Path, text: str | bytes, loader: yaml_nodes.Loader = yaml_nodes.LOADER) -> Source:
    file = folder / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(file, loader)


def _faults(source: Source) -> list[str]:
    """Return the faults without the folder, which differs from run to run."""
    folder = source.path if source.path.is_dir() else source.path.parent
    return [str(fault).replace(f"{folder}/", "").replace(str(folder), "FOLDER") for fault in source.faults]


def test_scalars_are_the_text_in_the_file(tmp_path: Path, loader: yaml_nodes.Loader) -> None:
    """What YAML takes for an octal, base 60, a date, a number or a boolean stays as it was written."""
    text = (
        "a: 012345670123\nb: 190:20:30\nc: 2020-01-01\nd: 1e3\ne: yes\nf: 0x1F\ng: 'it''s'\nh: |\n  x\n  y\n"
    )
    assert _read(tmp_path, text, loader).tree == {
        "a": "012345670123",
        "b": "190:20:30",
        "c": "2020-01-01",
        "d": "1e3",
        "e": "yes",
        "f": "0x1F",
        "g": "it's",
        "h": "x\ny\n",
    }


def test_an_empty_value_is_none_and_a_quoted_one_a_text(tmp_path: Path, loader: yaml_nodes.Loader) -> None:
    """Only what is left empty or a plain null has no value."""
    source = _read(tmp_path, "a:\nb: ~\nc: null\nd: ''\ne: 'null'\nf: [~, x]\n", loader)
    assert source.tree == {"a": None, "b": None, "c": None, "d": "", "e": "null", "f": [None, "x"]}


def test_every_part_knows_its_line(tmp_path: Path, loader: yaml_nodes.Loader) -> None:
    """Keys stand on their own line, items on theirs; what is not there is where its parent is."""
    source = _read(tmp_path, "# comment\na:\n  - x\n  - b: 1\n    c: {d: 2}\n", loader)
    lines = {path: int(where.rpartition(":")[2]) for path, where in source.positions.items()}
    assert lines == {
        (): 1,
        ("a",): 2,
        ("a", 0): 3,
        ("a", 1): 4,
        ("a", 1, "b"): 4,
        ("a", 1, "c"): 5,
        ("a", 1, "c", "d"): 5,
    }
    assert source.where(("a", 1, "z", 7)) == f"{tmp_path}/a.yaml:4"
    assert source.where(("z",)) == f"{tmp_path}/a.yaml:1"


def test_value_returns_what_stands_at_a_path(tmp_path: Path) -> None:
    """A path into nothing is None, not an error."""
    source = _read(tmp_path, "a: [{b: c}]\n")
    assert source.value(("a", 0, "b")) == "c"
    assert source.value(("a", 1)) is None
    assert source.value(("a", "b")) is None
    assert source.value(("a", 0, "b", "c")) is None


def test_aliases_are_written_out_where_they_are_used(tmp_path: Path, loader: yaml_nodes.Loader) -> None:
    """An alias gives a copy with positions of its own."""
    source = _read(tmp_path, "a: &x [1, 2]\nb: *x\n", loader)
    assert source.tree == {"a": ["1", "2"], "b": ["1", "2"]}
    assert source.where(("b",)) == f"{tmp_path}/a.yaml:2"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["a.yaml:1: is empty"]),
        ("# nothing\n", ["a.yaml:1: is empty"]),
        ("---\n", ["a.yaml:1: is empty"]),
        ("\n- a\n", ["a.yaml:2: not a map of settings (KEY: VALUE)"]),
        ("word\n", ["a.yaml:1: not a map of settings (KEY: VALUE)"]),
        ("a: 1\n---\nb: 2\n", ["a.yaml:2: a second document begins here (---); one per file"]),
        ("a: 1\nb: 2\na: 3\n", ["a.yaml:3: a: is on line 1 too"]),
        ("a:\n  - b: 1\n    'b': 2\n", ["a.yaml:3: a[0].b: is on line 2 too"]),
        ("a: !!str x\n", ["a.yaml:1: a: a tag (!...) is not allowed: a value is the text that stands there"]),
        (
            "\na: [!x {}]\n",
            ["a.yaml:2: a[0]: a tag (!...) is not allowed: a value is the text that stands there"],
        ),
        ("a: ! x\n", ["a.yaml:1: a: a tag (!...) is not allowed: a value is the text that stands there"]),
        (
            "a: &x {b: 1}\nc:\n  <<: *x\n",
            ["a.yaml:3: c.<<: a merge key (<<) is not allowed: write the settings out"],
        ),
        ("a: &x [*x]\n", ["a.yaml:1: an alias (*...) to something that it is a part of"]),
        ("a: 1\nb: *x\n", ["a.yaml:2: an alias (*...) without its anchor (&...)"]),
        ("a: 1\n? [b]\n: 2\n", ["a.yaml:2: a key must be a text"]),
        ("a: 1\n? *x\n: 2\n", ["a.yaml:2: a key must be a text"]),
        ('a: 1\nb: "\\0"\n', ["a.yaml:2: a text with a NUL or half a character"]),
        ("a: 1\nb: \x07\n", ["a.yaml:2: not YAML: a control character ('\\x07')"]),
        (b"a: 1\nb: \xff\n", ["a.yaml:2: is not UTF-8"]),
        (b"\xff\xfea\x00", ["a.yaml:1: is not UTF-8"]),
    ],
)
def test_faults_of_one_file(
    tmp_path: Path, loader: yaml_nodes.Loader, text: str | bytes, faults: list[str]
) -> None:
    """Each fault has its line, and its key where there is one."""
    assert _faults(_read(tmp_path, text, loader)) == faults


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: c: d\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: @x\n", 1),
        ("a: 1\nb: 'unterminated\n", 2),
        ("a: !u!x y\n", 1),
        ("%YAML 9.0\n---\na: 1\n", 1),
    ],
)
def test_a_syntax_error_has_its_line(tmp_path: Path, loader: yaml_nodes.Loader, text: str, line: int) -> None:
    """The line is the one that has the error, though the two parsers word it differently."""
    source = _read(tmp_path, text, loader)
    assert not source.is_complete
    assert [fault.where.rpartition("/")[2] for fault in source.faults] == [f"a.yaml:{line}"]
    assert source.faults[0].text.startswith("not YAML: ")


@pytest.mark.parametrize(
    "secret", ["@wJalrXUtnFEMI", "!wJal!rXUtnFEMI", "*wJalrXUtnFEMI", "wJal: rXUtnFEMI", "'wJalrXUtnFEMI"]
)
def test_a_syntax_error_never_shows_the_value(tmp_path: Path, loader: yaml_nodes.Loader, secret: str) -> None:
    """A secret that is not in quotes may be what breaks the YAML."""
    (fault,) = _read(tmp_path, f"aws:\n  secret_key: {secret}\n", loader).faults
    assert "rXUtnFEMI" not in str(fault)


@pytest.mark.parametrize("escape", ['"\\U99999999"', '"\\ud800"', '"\\UFFFFFFFF"'])
def test_absurd_escapes_are_faults(tmp_path: Path, loader: yaml_nodes.Loader, escape: str) -> None:
    """PyYAML's own parser raises OverflowError and ValueError, or makes half a character of them."""
    source = _read(tmp_path, f"a: {escape}\n", loader)
    assert not source.is_complete
    assert len(source.faults) == 1


def test_too_many_values_are_a_fault(tmp_path: Path) -> None:
    """The bound holds for what is written and for what aliases make of a little."""
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (fault,) = _read(tmp_path, bomb).faults
    assert fault.text == yaml_nodes.TOO_MUCH
    (fault,) = _read(tmp_path, "a: [" + "x," * yaml_nodes.MOST_NODES + "]\n").faults
    assert fault.text == yaml_nodes.TOO_MUCH


def test_too_many_bytes_are_a_fault(tmp_path: Path) -> None:
    """A file that is not a configuration is not read to its end."""
    (fault,) = _read(tmp_path, b"#" * (MOST_BYTES + 1)).faults
    assert fault.text == f"too much: more than {MOST_BYTES} bytes"


def test_too_many_levels_are_a_fault(tmp_path: Path, loader: yaml_nodes.Loader) -> None:
    """Neither brackets nor a chain of aliases get the program to recurse without end."""
    (fault,) = _read(tmp_path, "a: " + "[" * 5000, loader).faults
    assert fault.text == yaml_nodes.TOO_MUCH
    nested = "[" * 40 + "{}" + "]" * 40
    chain = f"a0: &a0 {nested.format('x')}\n" + "".join(
        f"a{n}: &a{n} {nested.format(f'*a{n - 1}')}\n" for n in range(1, 50)
    )
    (fault,) = _read(tmp_path, chain, loader).faults
    assert fault.text == yaml_nodes.TOO_MUCH


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """Some editors write one."""
    assert _read(tmp_path, b"\xef\xbb\xbfa: 1\n").tree == {"a": "1"}


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """Maps merge; only *.yaml and *.yml count, and nothing that begins with a dot."""
    (tmp_path / "20-b.yml").write_text("aws: {region: x}\naccounts: {two: {id: 2}}\n")
    (tmp_path / "10-a.yaml").write_text("accounts:\n  one: {id: 1}\n")
    (tmp_path / ".30-c.yaml").write_text("a: [\n")
    (tmp_path / "40-d.yaml~").write_text("a: [\n")
    source = read_source(tmp_path)
    assert source.tree == {"aws": {"region": "x"}, "accounts": {"one": {"id": "1"}, "two": {"id": "2"}}}
    assert list(source.tree["accounts"] or {}) == ["one", "two"]
    assert source.where(("accounts", "two", "id")) == f"{tmp_path}/20-b.yml:2"
    assert source.where(("zzz",)) == str(tmp_path)
    assert not source.faults


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (
            "aws: {region: a}\n",
            "\naws: {region: a}\n",
            "2.yaml:2: aws.region: is at 1.yaml:1 too, and only maps merge",
        ),
        ("deny: []\n", "deny: []\n", "2.yaml:1: deny: is at 1.yaml:1 too, and only maps merge"),
        ("aws: {}\n", "aws: []\n", "2.yaml:1: aws: is at 1.yaml:1 too, and only maps merge"),
        ("aws:\n", "aws: {a: b}\n", "2.yaml:1: aws: is at 1.yaml:1 too, and only maps merge"),
    ],
)
def test_the_same_leaf_in_two_files_names_both_places(
    tmp_path: Path, first: str, second: str, fault: str
) -> None:
    """Which of two files wins is not guessed."""
    (tmp_path / "1.yaml").write_text(first)
    (tmp_path / "2.yaml").write_text(second)
    source = read_source(tmp_path)
    assert _faults(source) == [fault]
    assert source.is_complete


def test_faults_of_all_files_come_together(tmp_path: Path) -> None:
    """One broken file does not hide what is wrong in the next."""
    (tmp_path / "1.yaml").write_text("a: [\n")
    (tmp_path / "2.yaml").write_text("")
    (tmp_path / "3.yaml").write_text("b: 1\nb: 2\n")
    source = read_source(tmp_path)
    assert [fault.where.rpartition("/")[2].partition(":")[0] for fault in source.faults] == [
        "1.yaml",
        "2.yaml",
        "3.yaml",
    ]
    assert not source.is_complete


def test_what_can_not_be_read_is_a_fault(tmp_path: Path) -> None:
    """Missing, a folder where a file should be, an empty folder."""
    missing = tmp_path / "missing.yaml"
    assert [str(fault) for fault in read_source(missing).faults] == [
        f"{missing}: can't be read: No such file or directory"
    ]
    assert _faults(read_source(tmp_path)) == ["FOLDER: the folder has no *.yaml or *.yml file"]
    (tmp_path / "a.yaml").mkdir()
    assert _faults(read_source(tmp_path)) == ["a.yaml: can't be read: is not a regular file"]


def test_what_may_not_be_read_is_a_fault(tmp_path: Path) -> None:
    """The reason is the system's; a folder whose files nobody may list is one too."""
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    file.chmod(0)
    with without_privileges():
        of_file = read_source(file)
    tmp_path.chmod(0)
    with without_privileges():
        of_folder = read_source(tmp_path)
    tmp_path.chmod(0o700)
    assert _faults(of_file) == ["a.yaml: can't be read: Permission denied"]
    assert _faults(of_folder) == ["FOLDER: can't be read: Permission denied"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("listen", 0, "callers", 1), "listen[0].callers[1]"),
        (("hosts", "10.0.0.5"), "hosts.10.0.0.5"),
        (("a", ""), "a.''"),
        (("a\nb",), "'a\\nb'"),
    ],
)
def test_dotted_is_one_line(path: tuple[str | int, ...], text: str) -> None:
    """A key can't break the rule that a fault is one line."""
    assert dotted(path) == text


def test_quoted_is_short_and_one_line() -> None:
    """A value can't fill the screen."""
    assert quoted("a\nb") == "'a\\nb'"
    assert len(quoted("x" * 10_000)) < 200


_TEXT = st.text(max_size=30)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)
_YAMLISH = st.lists(
    st.sampled_from(
        [
            "a",
            "b: ",
            "- ",
            "\n",
            "  ",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "&x ",
            "*x",
            "<<: ",
            "!t ",
            "'",
            '"',
            "|",
            ">",
            "?",
            "#",
            "%",
            "---",
            "...",
            "\t",
            "~",
            "\\",
            "\u2028",
            "\x85",
            "é",
        ]
    ),
    max_size=30,
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    content=st.binary(max_size=200)
    | _YAMLISH.map(str.encode)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_content_raises(tmp_path: Path, loader: yaml_nodes.Loader, content: bytes) -> None:
    """Whatever the bytes are: a tree or faults, and every fault is one printable line."""
    source = _read(tmp_path, content, loader)
    assert source.is_complete or source.faults
    assert all(str(fault).isprintable() for fault in source.faults)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tree=st.dictionaries(_TEXT, _TREES, min_size=1, max_size=4))
def test_what_yaml_writes_is_read_back_as_text(
    tmp_path: Path, loader: yaml_nodes.Loader, tree: dict[str, object]
) -> None:
    """The keys and the shape are those of the writer, and every part has a position."""
    text = yaml.safe_dump(tree, allow_unicode=False)
    if "!!" in text or "\\0" in text:  # a tag or a NUL, which are faults
        return
    source = _read(tmp_path, text, loader)
    if source.is_complete:
        assert source.tree.keys() == tree.keys()
        assert _paths(source.tree) == set(source.positions) - {()}


def _paths(value: object, path: tuple[object, ...] = ()) -> set[tuple[object, ...]]:
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    own = {path} if path else set()
    return own.union(*(_paths(child, (*path, key)) for key, child in items))
