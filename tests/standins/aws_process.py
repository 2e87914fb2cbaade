"""The AWS stand-in as tests see it: started as a process, steered and read over HTTP."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, Request, build_opener

from tests.standins.processes import Child, bare_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_DIRECT = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class AssumeRoleCall:
    """One AssumeRole that the stand-in saw; `outcome` is `ok`, an error code or the kind of a fault."""

    at: float
    signer: str
    role_arn: str
    session_name: str
    duration: int
    tags: dict[str, str]
    policy: str | None
    external_id: str | None
    source_identity: str | None
    outcome: str
    access_key_id: str | None


@dataclass(frozen=True)
class IssuedSession:
    """A role session as STS issued it: what another service needs to know to check its requests."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: float
    """Seconds since the epoch, UTC."""
    role_arn: str
    session_name: str


@dataclass(frozen=True)
class Aws:
    """A running stand-in: its endpoint and the gateway's key."""

    url: str
    access_key_id: str
    secret_access_key: str

    def calls(self) -> list[AssumeRoleCall]:
        """Return the AssumeRole calls since the last reset, in the order of arrival."""
        return [AssumeRoleCall(**call) for call in self._ask("GET", "/calls")]

    def counts(self) -> dict[str, int]:
        """Return how many requests of each kind came: STS by action, the rest by service."""
        return dict(self._ask("GET", "/counts"))

    def issued(self) -> list[IssuedSession]:
        """Return every session that was ever issued; a reset forgets none."""
        return [IssuedSession(**session) for session in self._ask("GET", "/issued")]

    def reset(self) -> None:
        """Forget calls and counts and switch all faults off."""
        self.set_faults()
        self._ask("DELETE", "/calls")

    def set_faults(self, *faults: Mapping[str, object]) -> None:
        """Have exactly these faults from now on; none: all well. See `sts_faults` for the kinds."""
        self._ask("POST", "/faults", list(faults))

    def add_roles(self, *names: str, **shared: object) -> list[str]:
        """Create roles that share all but the name (account, external_id ...); return their ARNs."""
        return list(self._ask("POST", "/roles", [{"name": name, **shared} for name in names]))

    def add_user(self, name: str, account: str, *policies: object) -> Aws:
        """Create a user with these policies and no other; return the stand-in as that user sees it."""
        wanted = {"name": name, "account": account, "policies": policies}
        access_key_id, secret = self._ask("POST", "/users", wanted)
        return replace(self, access_key_id=access_key_id, secret_access_key=secret)

    def remove_role(self, name: str, account: str) -> None:
        """Take a role away."""
        self._ask("DELETE", "/roles", [{"name": name, "account": account}])

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = Request(
            self.url + path, data=body, method=method, headers={"Content-Type": "application/json"}
        )
        with _DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def running_aws(folder: Path, host: str = "127.0.0.1") -> Iterator[Aws]:
    """Start the stand-in as a process of its own; its output goes into `folder`. It ends with the block."""
    command = [sys.executable, "-m", "tests.standins.aws", "--host", host]
    child = Child("aws", command, folder=folder, environment=bare_environment())
    try:
        (line,) = child.await_lines(r'(\{"url".*\})', on="stdout", timeout=60)
        yield Aws(**json.loads(line))
        assert child.stop() == 0, child.stderr
    finally:
        child.kill()
