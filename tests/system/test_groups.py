"""grp and sssd: a user with real groups, seen through NSS; a directory that does not answer is trouble."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

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


@dataclass(frozen=True)
class FailingDirectory:
    """Where a second directory for users, after the files, does not answer."""

    inside: tuple[str, ...]
    """How a command that is to run there begins."""
    library_path: str

    def ask(self, *users: str) -> dict[str, list[list[str] | str]]:
        """Return what grp and sssd say of each user: groups, or the error."""
        asked = subprocess.run(
            [*self.inside, sys.executable, "-c", QUESTION, *users],
            cwd=REPOSITORY,
            env=bare_environment({"LD_LIBRARY_PATH": self.library_path}),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found: dict[str, list[list[str] | str]] = json.loads(asked.stdout)
        return found


@pytest.fixture(scope="module")
def failing_directory(tmp_path_factory: pytest.TempPathFactory) -> FailingDirectory:
    missing = [name for name in ("cc", "unshare") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)} (Debian packages gcc, util-linux)")
    folder = tmp_path_factory.mktemp("nss")
    (folder / "failing.c").write_text(FAILING_DIRECTORY)
    library = folder / "libnss_failing.so.2"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, folder / "failing.c"], check=True, capture_output=True
    )
    switch = folder / "nsswitch.conf"
    switch.write_text("passwd: files failing\ngroup: files\n")
    mount = f'mount --bind "{switch}" /etc/nsswitch.conf && exec "$@"'
    inside = ("unshare", "--mount", "sh", "-c", mount, "sh")
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"missing: the right to make mount namespaces ({tried.stderr.strip()})")
    return FailingDirectory(inside, str(folder))


def test_a_directory_that_fails_is_trouble(person: Made, failing_directory: FailingDirectory) -> None:
    """Whoever is not in the files might be in the directory: nobody knows. Others are not affected."""
    groups = sorted([person.primary, *person.member_of])
    assert failing_directory.ask(person.user, "no-such-user-here") == {
        person.user: [groups, groups],
        "no-such-user-here": ["[Errno 111] NSS fails: Connection refused"] * 2,
    }
