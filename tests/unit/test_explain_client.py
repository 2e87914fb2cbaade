"""explain_client: how the command gets its answer, and what it says when it can't."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.errors import Trouble
from imds_proxy.explain import Explanation, NameFound
from imds_proxy.explain_client import ask_daemon, explain_offline, parse_explanation
from imds_proxy.model import canonical_address
from imds_proxy.registry import Loaded, load
from tests.standins.asking_sts import ROLE, clear_environment
from tests.standins.aws_process import Aws, running_aws
from tests.standins.dns_server import NameServer, running_name_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADDRESS = canonical_address("10.0.0.5")
NAME = "tuvfoo42.valid.example"
EXPLANATION = Explanation(
    address="10.0.0.5",
    outcome="granted",
    reason="because",
    steps=("one", "two"),
    names=(NameFound(NAME, confirmed=True, allowed=True),),
    account="main",
    account_id="000123456789",
    role=ROLE,
)


# --- asking the daemon -------------------------------------------------------------------------------


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[str]]:
    """Answer one request on a unix socket with these bytes; yields the request line, once it came."""
    seen: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(4096).partition(b"\r\n")[0].decode())
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield seen
        thread.join(10)


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("assumes", "flag"), [(True, "1"), (False, "0")])
def test_the_daemon_answers(tmp_path: Path, assumes: bool, flag: str) -> None:
    """The daemon's explanation comes back as it was given; `--assume` is passed on."""
    path = tmp_path / "admin.sock"
    with answering(path, http("200 OK", json.dumps(asdict(EXPLANATION)).encode())) as seen:
        assert ask_daemon(canonical_address("fd00::5"), path, assumes=assumes) == EXPLANATION
    assert seen == [f"GET /explain?address=fd00%3A%3A5&assume={flag} HTTP/1.1"]


def test_the_daemon_fails(tmp_path: Path) -> None:
    """An answer other than 200 is trouble that has the daemon's words."""
    path = tmp_path / "admin.sock"
    with (
        answering(path, http("500 Internal Server Error", b"it broke\n")),
        pytest.raises(Trouble, match=r"answered 500: it broke$"),
    ):
        ask_daemon(ADDRESS, path, assumes=False)


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_the_daemon_ends_midway(tmp_path: Path, answer: bytes) -> None:
    """A connection that ends too early, or speaks no HTTP, is trouble."""
    path = tmp_path / "admin.sock"
    with answering(path, answer), pytest.raises(Trouble, match="--offline decides without it"):
        ask_daemon(ADDRESS, path, assumes=False)


@pytest.mark.parametrize("kind", ["missing", "no socket", "nobody listens", "too long"])
def test_no_daemon(tmp_path: Path, kind: str) -> None:
    """Where no daemon answers, the socket and `--offline` are named."""
    path = tmp_path / ("x" * 200 if kind == "too long" else "admin.sock")
    if kind == "no socket":
        path.write_text("text")
    elif kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(Trouble, match="--offline decides without it") as trouble:
        ask_daemon(ADDRESS, path, assumes=False)
    assert str(path) in str(trouble.value)


def test_no_socket_is_configured() -> None:
    """Without an admin socket the way out is named, too."""
    with pytest.raises(Trouble, match=r"admin\.socket is not set.*--offline"):
        ask_daemon(ADDRESS, None, assumes=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer(body: bytes) -> None:
    """What is no explanation is trouble that says so, whatever it is."""
    with pytest.raises(Trouble, match="is no explanation"):
        parse_explanation(body)


@pytest.mark.parametrize("change", [{"names": [7]}, {"names": None}, {"steps": None}, {"new": 1}])
def test_almost_an_explanation(change: dict[str, object]) -> None:
    """An explanation of another version is none."""
    with pytest.raises(Trouble, match="another version"):
        parse_explanation(json.dumps(asdict(EXPLANATION) | change).encode())


# --- deciding by oneself -----------------------------------------------------------------------------


@pytest.fixture
def names() -> Iterator[NameServer]:
    with running_name_server() as server:
        yield server


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("aws")) as running:
        running.add_roles(ROLE)
        yield running


@pytest.fixture
def loaded(names: NameServer, aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", aws.url)
    file = tmp_path / "imds-proxy.yaml"
    file.write_text(
        f"""
listen: [{{address: "127.0.0.1:0", callers: [10.0.0.0/8]}}]
provider: {{type: by_ip, allowed_domains: [valid.example], account_name: main, role_prefix: roleprefix-}}
accounts: {{main: {{id: "000123456789"}}}}
aws:
  region: eu-central-1
  access_key: {aws.access_key_id}
  secret_key: "{aws.secret_access_key}"
  sts_endpoint: "{aws.url}"
dns: {{nameservers: ["{names.endpoint}"]}}
"""
    )
    file.chmod(0o600)
    found = load(file, {})
    assert found.faults == ()
    return found


def test_offline(loaded: Loaded, names: NameServer, aws: Aws) -> None:
    """`--offline` decides by the configuration, asks the name servers, and not STS."""
    names.add_host("10.0.0.5", NAME)
    aws.reset()
    said = explain_offline(ADDRESS, loaded, assumes=False)
    assert (said.outcome, said.role, said.access_key_id) == ("granted", ROLE, None)
    assert names.queries() == 2
    assert aws.counts() == {}
    assert explain_offline(canonical_address("192.0.2.1"), loaded, assumes=False).outcome == "refused"


def test_offline_with_assume(loaded: Loaded, names: NameServer, aws: Aws) -> None:
    """`--assume` asks STS, and IAM about a role that is refused: no such role is not a trust policy."""
    names.add_host("10.0.0.5", NAME)
    names.add_host("10.0.0.6", "tuvbar42.valid.example")
    said = explain_offline(ADDRESS, loaded, assumes=True)
    assert said.outcome == "granted"
    assert said.access_key_id == aws.calls()[-1].access_key_id
    missing = explain_offline(canonical_address("10.0.0.6"), loaded, assumes=True)
    assert missing.outcome == "refused"
    assert "there is no role roleprefix-tuvbar" in missing.reason


def test_offline_in_trouble(loaded: Loaded, names: NameServer) -> None:
    """DNS in trouble is trouble."""
    names.fault_all("SERVFAIL")
    assert explain_offline(ADDRESS, loaded, assumes=False).outcome == "trouble"
