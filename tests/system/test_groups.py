"""grp and sssd: a user with real groups, seen through NSS; a directory that does not answer is trouble."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imds_proxy_providers.by_groups import read_group

from imds_proxy import registry
from tests.standins.processes import REPOSITORY, bare_environment
from tests.system.people_of_the_system import Made, find_missing, made_person, removed_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_proxy.model import Grant

pytestmark = pytest.mark.system

REGEX = "(?P<account>.*)-(?P<role>.*)"


class Asking:
    """Fulfils `provider.Caller`: a person, from nowhere."""

    address = None
    workload = None

    def __init__(self, user: str) -> None:
        self.user = user

    async def confirmed_names(self, domains: object) -> tuple[str, ...]:
        """Fail: nobody should ask."""
        raise AssertionError(domains)


@pytest.fixture(scope="module")
def person() -> Iterator[Made]:
    missing = find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    with made_person("primary", "one", "two") as made:
        yield made


def grants(kind: str, user: str) -> frozenset[Grant]:
    _, provider = registry.build_provider({"type": kind, "regex": REGEX}, [], user=user)
    return asyncio.run(provider.grants_for(Asking(user)))


@pytest.mark.parametrize("kind", ["grp", "sssd"])
def test_roles_of_real_groups(kind: str, person: Made) -> None:
    """Those that list the user and the primary group, which lists nobody; no others."""
    found = {(grant.account, grant.role, grant.reason) for grant in grants(kind, person.user)}
    assert found == {
        (person.user, group.rpartition("-")[2], f"group {group} matches {REGEX}")
        for group in (person.primary, *person.member_of)
    }


@pytest.mark.parametrize("kind", ["grp", "sssd"])
def test_names_are_compared_as_nss_compares_them(kind: str, person: Made) -> None:
    """To the system's own files another case is another user."""
    assert grants(kind, person.user.upper()) == frozenset()
    assert grants(kind, f"{person.user}x") == frozenset()
    assert grants(kind, person.user[:-1]) == frozenset()


@pytest.mark.parametrize("kind", ["grp", "sssd"])
def test_a_group_without_a_name_is_no_grant(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others count; the log says which one it was."""
    missing = find_missing()
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    with made_person("primary", "one") as made, removed_group(made.primary):
        assert {grant.role for grant in grants(kind, made.user)} == {"one"}
    assert f"{made.user}: groups without a name: " in caplog.text


FAILING_DIRECTORY = """
#include <errno.h>
#include <nss.h>
#include <pwd.h>
enum nss_status _nss_failing_getpwnam_r(const char *n, struct passwd *p, char *b, size_t l, int *e)
{ *e = ECONNREFUSED; return NSS_STATUS_UNAVAIL; }
"""

WAITING_DIRECTORY = """
#include <grp.h>
#include <nss.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void wait_for_an_answer(void)
{
    fclose(fopen(getenv("ASKED"), "w"));
    for (int tries = 0; tries < 1000; tries++) {
        if (access(getenv("ANSWERED"), F_OK) == 0) return;
        usleep(10000);
    }
    abort();
}
enum nss_status _nss_waiting_initgroups_dyn(
    const char *u, gid_t g, long *start, long *size, gid_t **groups, long limit, int *e)
{ wait_for_an_answer(); return NSS_STATUS_NOTFOUND; }
enum nss_status _nss_waiting_setgrent(int stay) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_waiting_endgrent(void) { return NSS_STATUS_SUCCESS; }
enum nss_status _nss_waiting_getgrent_r(struct group *g, char *b, size_t l, int *e)
{ wait_for_an_answer(); return NSS_STATUS_NOTFOUND; }
"""
"""Answers when another thread of whoever asks has made a file, and ends the process if that can't."""

QUESTION_BESIDE_WORK = """
import json, os, sys, threading, time
from pathlib import Path
from imds_proxy_providers import grp, sssd
asked, answered = Path(os.environ["ASKED"]), Path(os.environ["ANSWERED"])
def work():
    while not asked.exists():
        time.sleep(0.01)
    asked.unlink()
    answered.touch()
found = {}
for module in (grp, sssd):
    thread = threading.Thread(target=work)
    thread.start()
    for user in sys.argv[1:]:
        provider = module.Provider(user, {"regex": "(?P<account>.*)-(?P<role>.*)"})
        found.setdefault(user, []).append(sorted(provider.get_group_list()))
    thread.join()
    answered.unlink()
print(json.dumps(found))
"""

QUESTION = """
import json, sys
from imds_proxy_providers import grp, sssd
found = {}
for user in sys.argv[1:]:
    for module in (grp, sssd):
        provider = module.Provider(user, {"regex": "(?P<account>.*)-(?P<role>.*)"})
        try:
            found.setdefault(user, []).append(sorted(provider.get_group_list()))
        except OSError as error:
            found.setdefault(user, []).append(str(error))
print(json.dumps(found))
"""


def ask_elsewhere(
    files: dict[str, Path], *users: str, library_path: Path | None = None, question: str = QUESTION
) -> dict[str, list[list[str] | str]]:
    """Return what grp and sssd say of each user, groups or the error, with `files` in place of /etc's."""
    mounts = " && ".join(f'mount --bind "{file}" "/etc/{name}"' for name, file in files.items())
    inside = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")
    folder = str(library_path)
    own = {"LD_LIBRARY_PATH": folder, "ASKED": f"{folder}/asked", "ANSWERED": f"{folder}/answered"}
    environment = bare_environment(own if library_path else None)
    asked = subprocess.run(
        [*inside, sys.executable, "-c", question, *users],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, list[list[str] | str]] = json.loads(asked.stdout)
    return found


def build_directory(folder: Path, name: str, text: str) -> None:
    """Make a module of NSS in `folder`, or skip."""
    if shutil.which("cc") is None:
        pytest.skip("missing: cc (Debian package gcc)")
    source, library = folder / f"{name}.c", folder / f"libnss_{name}.so.2"
    source.write_text(text)
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)


@pytest.fixture(scope="module")
def _mounts() -> None:
    """Skip where a mount namespace can't be made."""
    if shutil.which("unshare") is None:
        pytest.skip("missing: unshare (Debian package util-linux)")
    mount = ["unshare", "--mount", "mount", "--bind", "/etc/group", "/etc/group"]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"missing: the right to make mount namespaces ({tried.stderr.strip()})")


@pytest.mark.usefixtures("_mounts")
def test_a_directory_that_fails_is_trouble(person: Made, tmp_path: Path) -> None:
    """Whoever is not in the files might be in the directory: nobody knows. Others are not affected."""
    build_directory(tmp_path, "failing", FAILING_DIRECTORY)
    switch = tmp_path / "nsswitch.conf"
    switch.write_text("passwd: files failing\ngroup: files\n")
    groups = sorted([person.primary, *person.member_of])
    asked = (person.user, "no-such-user-here")
    assert ask_elsewhere({"nsswitch.conf": switch}, *asked, library_path=tmp_path) == {
        person.user: [groups, groups],
        "no-such-user-here": ["[Errno 111] NSS fails: Connection refused"] * 2,
    }


@pytest.mark.usefixtures("_mounts")
def test_a_directory_that_is_waited_for_holds_up_nothing_else(person: Made, tmp_path: Path) -> None:
    """Other threads of the process work on: the directory answers only after one of them has."""
    build_directory(tmp_path, "waiting", WAITING_DIRECTORY)
    switch = tmp_path / "nsswitch.conf"
    switch.write_text("passwd: files\ngroup: files waiting\n")
    groups = sorted([person.primary, *person.member_of])
    asked = ask_elsewhere(
        {"nsswitch.conf": switch}, person.user, library_path=tmp_path, question=QUESTION_BESIDE_WORK
    )
    assert asked == {person.user: [groups, groups]}


@pytest.mark.usefixtures("_mounts")
def test_large_groups_and_many(tmp_path: Path) -> None:
    """Thousands of members in one group, and hundreds of groups: all of them count."""
    members = ",".join(f"somebody{number}" for number in range(5000))
    many = [f"many{number}-x:x:{80_000 + number}:root\n" for number in range(700)]
    file = tmp_path / "group"
    file.write_text(f"root-x:x:0:\nlarge-x:x:70000:{members},root\n{''.join(many)}")
    groups = sorted(["root-x", "large-x", *(line.partition(":")[0] for line in many)])
    assert ask_elsewhere({"group": file}, "root") == {"root": [groups, groups]}


@pytest.mark.usefixtures("_mounts")
def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    """It is no grant, and keeps nobody from theirs."""
    file = tmp_path / "group"
    file.write_bytes(b"root-x:x:0:\nm\xfc-x:x:70000:root\nmain-dev:x:70001:root\n")
    groups = sorted(["root-x", "m\udcfc-x", "main-dev"])
    assert ask_elsewhere({"group": file}, "root") == {"root": [groups, groups]}
    found = {group: read_group(re.compile(REGEX), group) for group in groups}
    assert found == {"root-x": ("root", "x"), "main-dev": ("main", "dev"), "m\udcfc-x": None}
