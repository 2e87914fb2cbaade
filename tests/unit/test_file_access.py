"""file_access: who besides root and the daemon can get at a file, over owners, modes, folders and links."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from imds_proxy import registry
from imds_proxy.file_access import find_opening
from imds_proxy.secret_file import FileError, check_readable, read_secret
from imds_proxy.workload_secrets import WorkloadSecrets

STRANGER = 4242
"""A user and group that nobody here is."""

OWNERS = tuple(itertools.product((0, STRANGER), repeat=2))
"""User and group."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")

SECRET = "a-secret-of-the-workload-web"


@dataclass(frozen=True)
class Places:
    """A folder in a folder in a folder, and the file in there."""

    outer: Path
    inner: Path
    folder: Path
    file: Path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return places that nobody else can write."""
    folder = tmp_path / "outer" / "inner" / "folder"
    folder.mkdir(parents=True)
    made = Places(tmp_path / "outer", tmp_path / "outer" / "inner", folder, folder / "web.pods.example")
    made.file.write_text(f"{SECRET}\n")
    for path in (made.outer, made.inner, made.folder):
        path.chmod(0o755)
    made.file.chmod(0o640)
    return made


def _is_open(*, owner: int, group: int, mode: int, is_on_the_way: bool, is_secret: bool) -> bool:
    """Return what must come out, written in another way than the program's."""
    text = stat.filemode(mode)
    if owner != 0:
        return True
    if is_on_the_way and text[9] in "tT":
        return False
    if is_secret and text[7:].strip("-"):
        return True
    return text[8] == "w" or (text[5] == "w" and group != 0)


_MODES = (0o755, 0o750, 0o775, 0o757, 0o777, 0o1777, 0o1775, 0o700, 0o2775)


@needs_root
@pytest.mark.parametrize("at", ["outer", "inner", "folder"])
@pytest.mark.parametrize(("owner", "group"), OWNERS)
def test_folders(at: str, owner: int, group: int, places: Places) -> None:
    """Each folder up to the root counts; a sticky one may be open on the way, not where files are added."""
    folder = getattr(places, at)
    os.chown(folder, owner, group)
    for mode in _MODES:
        folder.chmod(mode)
        for path, is_on_the_way in ((places.folder, at != "folder"), (places.file, True)):
            wanted = _is_open(
                owner=owner, group=group, mode=mode, is_on_the_way=is_on_the_way, is_secret=False
            )
            found = find_opening(path)
            assert (found is not None) == wanted, (oct(mode), path, found)
            assert found is None or str(folder) in found.remedy


@needs_root
@pytest.mark.parametrize(("owner", "group"), OWNERS)
@pytest.mark.parametrize("is_secret", [False, True])
def test_files(owner: int, group: int, is_secret: bool, places: Places) -> None:
    """A file is its owner's, whatever its mode; a secret may be read by its group and by no other."""
    os.chown(places.file, owner, group)
    for bits in range(0o1000):
        mode = stat.S_IFREG | bits
        places.file.chmod(bits)
        wanted = _is_open(owner=owner, group=group, mode=mode, is_on_the_way=False, is_secret=is_secret)
        found = find_opening(places.file, is_secret=is_secret)
        assert (found is not None) == wanted, (oct(bits), found)


@needs_root
def test_links(places: Places, tmp_path: Path) -> None:
    """Where a link is and whose it is counts as much as where it leads."""
    beside = tmp_path / "beside"
    beside.mkdir(mode=0o755)
    link = beside / "link"
    link.symlink_to("../outer/inner/folder")
    path = link / places.file.name
    assert find_opening(path) is None

    def opening() -> str:
        return str(find_opening(path))

    beside.chmod(0o777)
    assert opening() == f"{beside}: others can write in it; chmod o-w {beside}"
    beside.chmod(0o1777)
    assert find_opening(path) is None
    os.lchown(link, STRANGER, 0)
    assert opening().endswith(f"chown -h root {link}")
    os.lchown(link, 0, 0)
    places.inner.chmod(0o777)
    assert opening() == f"{places.inner}: others can write in it; chmod o-w {places.inner}"
    places.inner.chmod(0o755)
    assert find_opening(beside / ".." / "beside" / "link" / ".." / "folder" / places.file.name) is None


def test_links_in_a_circle(tmp_path: Path) -> None:
    """It ends, as Linux does."""
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(other)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)) as error:
        find_opening(tmp_path / "a" / "file")
    assert error.value.errno == errno.ELOOP


def test_a_relative_path(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders above the working folder count as well."""
    monkeypatch.chdir(places.folder)
    assert find_opening(Path(places.file.name)) is None
    places.outer.chmod(0o777)
    found = find_opening(Path(places.file.name))
    assert found is not None
    assert found.remedy == f"chmod o-w {places.outer}"


def test_an_access_list(places: Places) -> None:
    """With an ACL the group's bits are those of anybody whom it names: they count as another's."""
    users = (
        (1, 6, 2**32 - 1),
        (2, 6, STRANGER),
        (4, 4, 2**32 - 1),
        (0x10, 6, 2**32 - 1),
        (0x20, 0, 2**32 - 1),
    )
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *user) for user in users)
    try:
        os.setxattr(places.file, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"no ACL on this file system: {error}")
    found = find_opening(places.file, is_secret=True)
    assert found is not None
    assert found.remedy == f"chmod g-w {places.file}"


def test_as_orchestrators_mount_secrets(tmp_path: Path) -> None:
    """Kubernetes has a sticky folder that all can write, and links to the version of the day in it."""
    volume = tmp_path / "keys"
    (volume / "..2026_12_01").mkdir(parents=True)
    volume.chmod(0o1777)
    (volume / "..data").symlink_to("..2026_12_01")
    (volume / "token.key").symlink_to("..data/token.key")
    (volume / "..2026_12_01" / "token.key").touch(mode=0o440)
    assert read_secret(volume / "token.key") == b""
    assert WorkloadSecrets(volume).problems == (f"{volume}: others can write in it; chmod o-w {volume}",)


# --- what comes of it ------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("at", ["outer", "folder", "file"])
def test_whose_secret_counts(at: str, places: Places) -> None:
    """A secret that another user can change is neither read nor anybody's; a certificate is not taken."""
    assert WorkloadSecrets(places.folder).size == 1
    os.chown(getattr(places, at), STRANGER, 0)
    secrets = WorkloadSecrets(places.folder)
    assert secrets.size == 0
    (problem,) = secrets.problems
    assert problem.endswith(f"; chown -h root {getattr(places, at)}")
    for use in (read_secret, check_readable):
        with pytest.raises(FileError, match=f"belongs to the user {STRANGER}"):
            use(places.file)


_SETTINGS = """
listen: [{address: "127.0.0.1:0"}]
provider: {type: simple, grants: [{account: main, role: demo-role}]}
accounts: {main: {id: "123456789012"}}
aws: {region: eu-central-1}
"""


@pytest.mark.parametrize(("mode", "is_open"), [(0o757, True), (0o1777, True), (0o755, False)])
def test_the_configuration_s_folder(mode: int, is_open: bool, tmp_path: Path) -> None:
    """Who can add a file to it has every role: no start where all users can, sticky or not."""
    folder = tmp_path / "imds-proxy"
    folder.mkdir()
    (folder / "a.yml").write_text(_SETTINGS)
    folder.chmod(mode)
    loaded = registry.load(folder, {})
    found = [fault.text for fault in loaded.faults if str(folder) in fault.text]
    assert found == ([f"{folder}: others can write in it; chmod o-w {folder}"] if is_open else [])
    assert (loaded.configuration is None) == is_open


@needs_root
@pytest.mark.parametrize("name", ["a.yaml", "."])
def test_a_configuration_of_another_user(name: str, tmp_path: Path) -> None:
    """It may be meant so: a warning, also for a group that can write."""
    folder = tmp_path / "imds-proxy"
    folder.mkdir()
    (folder / "a.yaml").write_text(_SETTINGS)
    os.chown(folder / name, STRANGER, 0)
    loaded = registry.load(folder, {})
    assert loaded.configuration is not None
    assert {fault.is_warning for fault in loaded.faults} == {True}
    assert any(f"belongs to the user {STRANGER}" in fault.text for fault in loaded.faults)
    os.chown(folder / name, 0, STRANGER)
    (folder / name).chmod(0o775)
    assert any(f"the group {STRANGER} can write" in fault.text for fault in registry.load(folder, {}).faults)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_provider_s_module(is_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that all users can change is not even imported: it would run beside the key."""
    name = f"site_rule_{is_open}".lower()
    trace = tmp_path / "imported"
    module = tmp_path / f"{name}.py"
    module.write_text(f"open({str(trace)!r}, 'w').close()\n")
    module.chmod(0o646 if is_open else 0o644)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "a.yaml"
    file.write_text(
        _SETTINGS.replace("{type: simple, grants: [{account: main, role: demo-role}]}", f"{{module: {name}}}")
    )
    texts = [fault.text for fault in registry.load(file, {}).faults]
    assert trace.exists() != is_open
    assert (f"{module}: others can write it; chmod o-w {module}" in texts) == is_open


def test_user_data(tmp_path: Path) -> None:
    """What is in there runs on machines: no start where all users can write it."""
    folder = tmp_path / "user-data"
    folder.mkdir()
    folder.chmod(0o777)
    file = tmp_path / "a.yaml"
    file.write_text(f"{_SETTINGS}metadata: {{user_data: {folder}}}\n")
    loaded = registry.load(file, {})
    assert loaded.configuration is None
    assert f"{folder}: others can write in it; chmod o-w {folder}" in [fault.text for fault in loaded.faults]
