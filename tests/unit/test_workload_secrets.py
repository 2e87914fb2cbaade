"""workload_secrets: whose a secret is, what is wrong with a folder, and when a change of it counts."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import Trouble
from imds_proxy.workload_secrets import LONGEST_SECRET, LOOK_SECONDS, WorkloadSecrets

if TYPE_CHECKING:
    from pathlib import Path

WEB, DB = "web.pods.example", "db.pods.example"
SECRET, SECOND, OTHER = "0123456789abcdef", "second-secret-of-web", "one-more-secret/of+db="


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    made = tmp_path / "workloads"
    made.mkdir(mode=0o700)
    return made


def write(folder: Path, name: str, *lines: str, mode: int = 0o600) -> Path:
    """Write a workload's file all at once, as an operator should."""
    new = folder / f".{name}.new"
    new.touch(mode=mode)
    new.chmod(mode)
    new.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return new.rename(folder / name)


def move(source: Path, target: Path) -> None:
    source.rename(target)


async def test_whose_it_is(folder: Path) -> None:
    """Each line of a file is a secret of the workload that the file is named after; nothing else is."""
    write(folder, WEB, SECRET, "", SECOND)
    write(folder, DB, OTHER)
    secrets = WorkloadSecrets(folder)
    assert secrets.problems == ()
    found = [await secrets.workload_of(secret, 0) for secret in (SECRET, SECOND, OTHER)]
    assert found == [WEB, WEB, DB]
    for wrong in (
        "",
        SECRET[:-1],
        SECRET + "x",
        SECRET.upper(),
        f" {SECRET}",
        f"{SECRET}\n",
        WEB,
        "é",
        "\udcff",
    ):
        assert await secrets.workload_of(wrong, 0) is None


def test_it_shows_no_secret(folder: Path) -> None:
    """No secret is in what an object says of itself, nor in what is wrong with its file."""
    write(folder, WEB, SECRET, "short")
    write(folder, DB, OTHER)
    secrets = WorkloadSecrets(folder)
    shown = f"{secrets!r} {secrets.problems} {vars(secrets)}"
    assert not any(secret in shown for secret in (SECRET, OTHER, "short"))


@pytest.mark.parametrize(
    "line",
    [
        "x" * 15,
        "x" * (LONGEST_SECRET + 1),
        "with a space in it",
        "tab\tin the secret",
        "ünicode-secret-x",
        "\x7f" * 16,
    ],
)
async def test_lines_that_are_no_secrets(line: str, folder: Path) -> None:
    """A line that is no secret is a problem with its number, and its file counts for nothing."""
    write(folder, WEB, SECRET, line)
    secrets = WorkloadSecrets(folder)
    (problem,) = secrets.problems
    assert problem.startswith(f"{folder / WEB}: line 2 is no secret: 16 to 4096 printable ASCII characters")
    assert await secrets.workload_of(SECRET, 0) is None
    assert await secrets.workload_of(line, 0) is None


@pytest.mark.parametrize("secret", ["x" * 16, "!" * LONGEST_SECRET, "~" * 20])
async def test_the_shortest_and_the_longest(secret: str, folder: Path) -> None:
    """16 to 4096 characters from ! to ~."""
    write(folder, WEB, secret)
    assert await WorkloadSecrets(folder).workload_of(secret, 0) == WEB


@pytest.mark.parametrize("name", ["Web.pods.example", "web pods", "10.0.0.5", "web.", "web.bak~", "a" * 64])
def test_names_that_are_none(name: str, folder: Path) -> None:
    """A file that is not named after a workload is a problem, not a workload."""
    write(folder, name, SECRET)
    (problem,) = WorkloadSecrets(folder).problems
    assert problem.startswith(f"{folder / name}: its name is no workload's")


async def test_dot_files(folder: Path) -> None:
    """What begins with a dot is an editor's, or an orchestrator's."""
    write(folder, ".web.pods.example.swp", "x")
    (folder / "..data").mkdir()
    assert WorkloadSecrets(folder).problems == ()


async def test_what_is_no_secrets_file(folder: Path) -> None:
    """A file that others can read, an empty one, a folder, a FIFO, a link to nowhere: problems at once."""
    write(folder, "open", SECRET, mode=0o604)
    write(folder, "empty")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo", 0o600)
    (folder / "link").symlink_to("nowhere")
    problems = {
        text.split(str(folder) + "/")[1].split()[0]: text for text in WorkloadSecrets(folder).problems
    }
    assert set(problems) == {"open", "empty", "folder", "fifo", "link"}
    assert "others can read it; chmod o=" in problems["open"]
    assert "has no secret; make one with: openssl rand -base64 32" in problems["empty"]
    for name in ("folder", "fifo"):
        assert "is not a regular file" in problems[name]
    assert "No such file" in problems["link"]


async def test_one_secret_of_two(folder: Path) -> None:
    """A secret in two files proves neither: it counts for none, the files' others do."""
    write(folder, WEB, SECRET, SECOND)
    write(folder, DB, OTHER, SECRET)
    secrets = WorkloadSecrets(folder)
    assert secrets.problems == (f"{folder / WEB}: line 1 is line 2 of {DB} too: it counts for neither",)
    assert await secrets.workload_of(SECRET, 0) is None
    assert [await secrets.workload_of(secret, 0) for secret in (SECOND, OTHER)] == [WEB, DB]


@pytest.mark.parametrize("mode", [0o702, 0o707])
def test_a_folder_that_others_can_write_in(mode: int, folder: Path) -> None:
    """Whoever writes there says who is who."""
    folder.chmod(mode)
    assert WorkloadSecrets(folder).problems == (f"{folder}: others can write in it; chmod o-w {folder}",)


async def test_changes_count_without_a_reload(folder: Path) -> None:
    """After a second, and not sooner: a new file, a new line, one taken out, a file that is gone."""
    write(folder, WEB, SECRET)
    secrets = WorkloadSecrets(folder)
    assert await secrets.workload_of(SECRET, 0) == WEB
    write(folder, DB, OTHER)
    write(folder, WEB, SECOND)
    assert await secrets.workload_of(SECRET, LOOK_SECONDS / 2) == WEB
    now = LOOK_SECONDS
    assert [await secrets.workload_of(secret, now) for secret in (SECRET, SECOND, OTHER)] == [None, WEB, DB]
    (folder / DB).unlink()
    assert await secrets.workload_of(OTHER, now + LOOK_SECONDS) is None


async def test_a_fault_that_comes_later(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What becomes faulty counts no more, is logged once and without a secret, and the rest goes on."""
    write(folder, WEB, SECRET)
    write(folder, DB, OTHER)
    secrets = WorkloadSecrets(folder)
    (folder / WEB).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        for now in (1, 3, 5):
            assert await secrets.workload_of(SECRET, now) is None
            assert await secrets.workload_of(OTHER, now) == DB
    (line,) = caplog.messages
    assert "others can read it" in line
    assert SECRET not in line
    (folder / WEB).chmod(0o600)
    assert await secrets.workload_of(SECRET, 7) == WEB


async def test_a_folder_that_is_gone(folder: Path) -> None:
    """Without its folder nobody can tell whose a secret is: trouble, which ends when the folder is back."""
    write(folder, WEB, SECRET)
    secrets = WorkloadSecrets(folder)
    away = folder.parent / "away"
    move(folder, away)
    with pytest.raises(Trouble, match="can't be read: No such file"):
        await secrets.workload_of(SECRET, 1)
    move(away, folder)
    assert await secrets.workload_of(SECRET, 3) == WEB


async def test_many_at_once(folder: Path) -> None:
    """A crowd causes one look, for which all wait."""
    write(folder, WEB, SECRET)
    secrets = WorkloadSecrets(folder)
    write(folder, DB, OTHER)
    found = await asyncio.gather(*(secrets.workload_of(OTHER, 1) for _ in range(50)))
    assert found == [DB] * 50
