"""user-data: whose file it is, what is no file, and that no name leads out of the folder."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.errors import Trouble
from imds_proxy.metadata import user_data
from imds_proxy.metadata.user_data import LARGEST_USER_DATA, UserDataFolder, fits
from imds_proxy.model import IPAddress, canonical_address
from imds_proxy.names import host_name
from tests.standins.virtual_time import in_virtual_time

ADDRESS = canonical_address("10.0.0.5")
NAME = "tuvfoo42.valid.example"


def put(folder: Path, *names: str) -> UserDataFolder:
    """Make files that hold their own names."""
    for name in names:
        (folder / name).write_text(name)
    return UserDataFolder(folder)


def content(folder: UserDataFolder, name: str | None = NAME, address: str = "10.0.0.5") -> str | None:
    found = folder.read(name, canonical_address(address))
    return None if found is None else found.content.decode()


@pytest.mark.parametrize(
    ("files", "served"),
    [
        ([NAME, "10.0.0.5", "tuvfoo*.valid.example"], NAME),
        (["10.0.0.5", "tuvfoo*.valid.example"], "10.0.0.5"),
        (
            ["*.valid.example", "tuv*.valid.example", "tuvfoo*.valid.example", "*.*.*"],
            "tuvfoo*.valid.example",
        ),
        (["*.valid.example", "*.*.example"], "*.valid.example"),
        (
            ["*", "*.example", "*.*.*.*", ".*", "tuvfoo42.*", "TUV*.valid.example", "tuvfoo43.valid.example"],
            None,
        ),
        (["tuvfoo42.valid.example~", "tuvfoo42", "valid.example"], None),
        ([], None),
    ],
)
def test_whose_file_it_is(tmp_path: Path, files: list[str], served: str | None) -> None:
    """The name's own file, else the address's, else the pattern with the most characters."""
    assert content(put(tmp_path, *files)) == served


def test_a_caller_without_a_name(tmp_path: Path) -> None:
    """It has the file of its address, no pattern's."""
    folder = put(tmp_path, "fd00::5", "*", "*.*")
    assert content(folder, None, "fd00:0:0::5") == "fd00::5"
    assert content(folder, None) is None


def test_a_name_that_reads_like_an_address(tmp_path: Path) -> None:
    """Whoever owns a zone `5` can't have what is meant for an address."""
    assert content(put(tmp_path, "10.0.0.9", "*.*.*.*"), "10.0.0.9") is None


@pytest.mark.parametrize("files", [["tuv*.valid.example", "*foo.valid.example", "*42.valid.example"]])
def test_two_patterns_that_fit_equally_well(
    tmp_path: Path, files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is served: which was meant is not guessed. The log has their names, once."""
    folder = put(tmp_path, *files, "*o42.valid.example")
    assert content(folder) is None
    assert content(folder) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"user-data in {tmp_path}: {NAME}: *o42.valid.example and tuv*.valid.example fit equally well,"
        " none is served"
    ]


def test_files_that_change(tmp_path: Path) -> None:
    """Written anew, replaced, gone, back: each answer is what is there now, whatever times and sizes say."""
    folder = put(tmp_path, NAME)
    file = tmp_path / NAME
    before = file.stat()
    for text in ("a", "b"):
        file.write_text(text * len(NAME))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert content(folder) == text * len(NAME)
    (tmp_path / "new").write_text("replaced")
    (tmp_path / "new").rename(file)
    assert content(folder) == "replaced"
    file.unlink()
    assert content(folder) is None
    file.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("by a link")
    assert content(folder) == "by a link"


def test_an_empty_file_is_no_user_data(tmp_path: Path) -> None:
    """So one host can be left out of a pattern."""
    folder = put(tmp_path, "*.valid.example")
    (tmp_path / NAME).touch()
    assert content(folder) is None


@pytest.mark.parametrize("kind", ["FIFO", "folder", "socket", "large", "device"])
def test_what_is_no_file(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not served, nor is a pattern in its place, nobody waits for it, and the log says it."""
    folder = put(tmp_path, "*.valid.example")
    path = tmp_path / NAME
    with socket.socket(socket.AF_UNIX) as endpoint:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            endpoint.bind(str(path))
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.write_bytes(b"x" * (LARGEST_USER_DATA + 1))
        assert content(folder) is None
    assert NAME in caplog.text
    assert "not served" in caplog.text


def test_the_largest_file(tmp_path: Path) -> None:
    """1 MiB is served."""
    (tmp_path / NAME).write_bytes(b"x" * LARGEST_USER_DATA)
    assert len(content(UserDataFolder(tmp_path)) or "") == LARGEST_USER_DATA


@pytest.mark.parametrize("kind", ["no folder", "dangling link", "loop"])
async def test_what_can_not_be_read_is_trouble(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that is told that there is nothing boots without it, for good."""
    folder = UserDataFolder(tmp_path if kind != "no folder" else tmp_path / "gone")
    if kind != "no folder":
        (tmp_path / NAME).symlink_to(NAME if kind == "loop" else "nowhere")
    for _ in range(2):
        with pytest.raises(Trouble, match="user-data"):
            await folder.find(NAME, ADDRESS)
    assert len(caplog.records) == 1


class Slow(UserDataFolder):
    """A folder on a file system that answers when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads = 0
        self.gate = threading.Event()

    def read(self, name: str | None, address: IPAddress) -> user_data.UserData | None:
        """Wait for the gate."""
        self.reads += 1
        assert self.gate.wait(30)
        return super().read(name, address)


async def test_many_who_ask_for_one_caller_are_one_read(tmp_path: Path) -> None:
    """And it belongs to none of them: the one who hangs up takes nothing away from the others."""
    put(tmp_path, NAME)
    folder = Slow(tmp_path)
    asking = [asyncio.create_task(folder.find(NAME, ADDRESS)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    folder.gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(each, user_data.UserData) for each in found[1:])
    assert folder.reads == 1
    assert await folder.find(NAME, ADDRESS) == found[1]
    assert folder.reads == 2


@in_virtual_time
async def test_a_file_system_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is trouble after two seconds; the event loop goes on meanwhile."""
    folder = Slow(tmp_path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = asyncio.create_task(folder.find(NAME, ADDRESS))
    await asyncio.sleep(1.9)
    assert not asking.done()
    with pytest.raises(Trouble, match="no answer in 2 s"):
        await asking
    assert loop.time() - began == pytest.approx(user_data.PATIENCE)
    assert "no answer" in caplog.text
    folder.gate.set()


LABELS = st.lists(
    st.binary(max_size=12) | st.sampled_from([b"..", b".", b"/", b"etc", b"a\0", b"\\", b"*"]), max_size=6
)


@given(LABELS)
def test_no_name_leads_out_of_the_folder(labels: list[bytes]) -> None:
    """Whatever labels DNS answers with: the file that is opened lies in the folder itself."""
    text = b".".join(labels).decode("utf-8", "surrogateescape")
    for name in (host_name(labels), text):
        file_name = user_data._file_name(name)
        if file_name is not None:
            folder = Path("/etc/imds-proxy/user-data")
            assert (folder / file_name).parent == folder
            assert os.path.normpath(folder / file_name) == str(folder / file_name)
            assert not {"/", "\0", "*", "\\"} & set(file_name)
            assert not file_name.startswith(".")


@given(LABELS)
def test_no_name_reads_another_file(labels: list[bytes]) -> None:
    """Nothing beside the folder is ever served, whatever the name is."""
    with TemporaryDirectory() as outside:
        inside = Path(outside, "folder")
        inside.mkdir()
        for name in ("etc", "a", "passwd"):
            Path(outside, name).write_text("outside")
        try:
            found = UserDataFolder(inside).read(b".".join(labels).decode("latin-1"), ADDRESS)
        except OSError:
            found = None
        assert found is None


PIECE = st.text(st.sampled_from("ab*"), max_size=6)


@given(st.lists(PIECE, max_size=3), st.lists(st.text(st.sampled_from("ab"), max_size=5), max_size=3))
def test_patterns(pattern: list[str], name: list[str]) -> None:
    """As a regular expression would have it: an asterisk is any number of characters but no dot."""
    import re

    expression = ".".join(pattern).replace(".", r"\.").replace("*", "[^.]*")
    assert fits(".".join(pattern), ".".join(name)) == bool(re.fullmatch(expression, ".".join(name)))
