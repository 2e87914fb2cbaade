"""The old program's own example, unchanged, for a user whose groups NSS tells, and the endpoints of AWS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.standins.aws_process import Aws, running_aws
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.sign_in import SignIn, running_sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SNIPPET = """\
from aws_federation_proxy import AWSFederationProxy
user = 'Testuser'
application_configuration = {
    'module': 'aws_federation_proxy.provider.sssd_provider',
    'regex': '(?P<account>.*)-(?P<role>.*)'
}
account_configuration = {'ap-test1': {'id': 123456789}, 'ap-test2': {'id': 3141592654}}
aws_proxy = AWSFederationProxy(user=user, config=application_configuration, account_config=account_configuration)
aws_proxy.get_account_and_role_dict()
credentials = aws_proxy.get_aws_credentials('ap-test1', 'rp-role1')
aws_proxy.get_console_url(credentials, "http://example.invalid")
"""  # noqa: E501  these are the old program's lines

STORY = """
import ast, json, sys
found, values = {}, []
names = {}
try:
    for statement in ast.parse(sys.stdin.read()).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), "snippet", "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), "snippet", "exec"), names)
except PermissionError as error:
    found["refused"] = str(error)
found["roles"] = {account: sorted(pairs) for account, pairs in values[0].items()}
found["url"] = values[1] if len(values) > 1 else None
if "credentials" in names:
    found["account"] = names["credentials"].account_id
    found["expiration"] = names["credentials"].expiration
print(json.dumps(found))
"""


@dataclass(frozen=True)
class House:
    """A place where the snippet's user has an account: files of NSS's own, for the processes in it alone."""

    inside: tuple[str, ...]
    aws: Aws
    sign_in: SignIn

    def run(self, snippet: str) -> dict[str, Any]:
        """Return what a snippet did: its roles, its URL, or why it was refused."""
        done = subprocess.run(
            [*self.inside, sys.executable, "-c", STORY],
            input=snippet,
            cwd=REPOSITORY,
            env=bare_environment(
                {
                    "AWS_ENDPOINT_URL_STS": self.aws.url,
                    "AWS_ENDPOINT_URL_SIGNIN": self.sign_in.url,
                    "AWS_ACCESS_KEY_ID": self.aws.access_key_id,
                    "AWS_SECRET_ACCESS_KEY": self.aws.secret_access_key,
                }
            ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _write_people(folder: Path, *groups: str) -> tuple[str, ...]:
    """Put the user and the groups beside the machine's own, and return how a command sees them."""
    passwd, group = folder / "passwd", folder / "group"
    passwd.write_text(
        f"{Path('/etc/passwd').read_text()}Testuser:x:61234:61234::/nonexistent:/usr/sbin/nologin\n"
    )
    # The first is the primary group: it lists nobody.
    lines = [f"{name}:x:{61234 + n}:{'Testuser' if n else ''}\n" for n, name in enumerate(groups)]
    group.write_text(Path("/etc/group").read_text() + "".join(lines) + "foreign-role:x:61299:root\n")
    mount = f'mount --bind "{passwd}" /etc/passwd && mount --bind "{group}" /etc/group && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("missing: root and unshare (Debian package util-linux), to have users of its own")
    folder = tmp_path_factory.mktemp("house")
    inside = _write_people(folder, "ap-test2-primary", "ap-test1-rp-role1", "ap-test1-role1", "nothing")
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"missing: the right to make mount namespaces ({tried.stderr.strip()})")
    with running_aws(folder) as aws, running_sign_in(aws) as sign_in:
        aws.add_roles("role1", "rp-role1", account="000123456789")
        yield House(inside, aws, sign_in)


def test_the_snippet(house: House) -> None:
    """Its user's groups are roles, the primary one too; the role it asks for is refused.

    The greedy regex splits `ap-test1-rp-role1` at its last hyphen: nobody has (`ap-test1`, `rp-role1`).
    """
    house.aws.reset()
    found = house.run(SNIPPET)
    roles = {account: [role for role, _ in pairs] for account, pairs in found["roles"].items()}
    assert roles == {"ap-test2": ["primary"], "ap-test1-rp": ["role1"], "ap-test1": ["role1"]}
    [[_, reason]] = found["roles"]["ap-test1"]
    assert "ap-test1-role1" in reason
    assert "rp-role1" in found["refused"]
    assert found["url"] is None
    assert house.aws.counts() == {}
    assert house.sign_in.requests == []


def test_the_snippet_with_a_role_that_its_user_has(house: House) -> None:
    """The whole of it runs, by the endpoints that the environment names."""
    house.aws.reset()
    house.sign_in.requests.clear()
    snippet = SNIPPET.replace("'rp-role1'", "'role1'")
    assert snippet != SNIPPET
    found = house.run(snippet)
    url = urlsplit(found["url"])
    query = parse_qs(url.query)
    assert f"{url.scheme}://{url.netloc}" == house.sign_in.url
    assert query["Issuer"] == ["http://example.invalid"]
    assert query["Destination"] == ["https://console.aws.amazon.com/"]
    [request] = house.sign_in.requests
    assert query["SigninToken"] == [request.token]
    assert request.session_arn == "arn:aws:sts::000123456789:assumed-role/role1/Testuser"
    assert found["account"] == "000123456789"
    assert [(call.outcome, call.session_name) for call in house.aws.calls()] == [("ok", "Testuser")]
    assert "refused" not in found


def test_somebody_whom_nss_does_not_know(house: House) -> None:
    """No user, no groups, no role; a name in another case is another's."""
    house.aws.reset()
    for name in ("Testuser2", "testuser", "root"):
        found = house.run(SNIPPET.replace("'Testuser'", repr(name)))
        assert "ap-test1" not in found["roles"]
        assert "rp-role1" in found["refused"]
    assert house.aws.counts() == {}
