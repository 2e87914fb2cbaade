"""accounts, credentials and console as a person runs them: output and exit status."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standins.authority import Authority
from tests.standins.people_api import (
    ACCESS_KEY,
    ACCOUNTS,
    CONSOLE_URL,
    CREDENTIALS,
    EXPIRATION,
    SECRET_KEY,
    TOKEN,
    PeopleApi,
    Reply,
    error,
    running_people_api,
)
from tests.standins.privileges import bound_by_file_modes
from tests.standins.processes import REPOSITORY, bare_environment
from tests.standins.terminals import at_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM = [sys.executable, "-m", "imds_proxy"]
PASSWORD = "correct horse:battery"
SECRETS = (SECRET_KEY, TOKEN, PASSWORD, "SigninToken")
ALL_COMMANDS = (("accounts",), ("credentials", "main", "admin"), ("console", "main", "admin"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.sock"


@pytest.fixture
def api(path: Path) -> Iterator[PeopleApi]:
    """A listener on a unix socket."""
    with running_people_api(socket=path) as running:
        yield running


@pytest.fixture
def remote() -> Iterator[PeopleApi]:
    """A listener on loopback that wants a password."""
    with running_people_api() as running:
        running.login = f"alice:{PASSWORD}"
        yield running


def run(
    *arguments: str | Path, home: Path | None = None, before: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command without any terminal; `before` is what to run it by."""
    return subprocess.run(
        [*before, *PROGRAM, *map(str, arguments)],
        cwd=REPOSITORY,
        env=bare_environment({"HOME": str(home or "/nonexistent"), **environment}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        timeout=60,
        check=False,
        start_new_session=True,
    )


def failed(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Return the one line on stderr of a command that ended with `status` and printed nothing else."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("imds-proxy: ")
    assert line.isprintable()
    assert not any(secret in line for secret in SECRETS)
    return line


# --- what is printed ---------------------------------------------------------------------------------


def test_accounts(api: PeopleApi, path: Path) -> None:
    """A line for each role, in order: account, role and reason with tabs between them."""
    done = run("accounts", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "main\tadmin\talice is in admins",
        "main\twriter\talice is in writers",
        "spare\treader\teverybody may",
    ]
    assert [asked.target for asked in api.asked] == ["/account?withreason"]


@pytest.mark.usefixtures("api")
def test_accounts_as_json(path: Path) -> None:
    """A list of objects, in the same order, with the accounts' ids."""
    done = run("accounts", "--json", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert listed[0] == {
        "account": "main",
        "role": "admin",
        "reason": "alice is in admins",
        "account_id": "000123456789",
    }
    assert [each["account_id"] for each in listed] == ["000123456789", "000123456789", None]


def test_no_role(api: PeopleApi, path: Path) -> None:
    """Who has no role sees no line on stdout, and why on stderr; that is no failure."""
    api.replies["/account"] = Reply(200, b"{}")
    done = run("accounts", "--socket", path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "imds-proxy: you have no role\n"
    assert json.loads(run("accounts", "--json", "--socket", path).stdout) == []


NASTY = "a\tb\nc\x1b]0;title\x07\x9b31m\u202edrow\x7f"
SHOWN = r"a\tb\nc\x1b]0;title\x07\x9b31m\u202edrow\x7f"


def test_control_characters_are_shown_as_escapes(api: PeopleApi, path: Path) -> None:
    """Whatever an account, a role or a reason holds: a line stays a line, a terminal hears no command."""
    listed = {NASTY: {"id": None, "roles": [{"role": NASTY, "reason": NASTY}]}}
    api.replies["/account"] = Reply(200, json.dumps(listed).encode())
    done = run("accounts", "--socket", path)
    assert done.stdout == f"{SHOWN}\t{SHOWN}\t{SHOWN}\n"
    as_json = run("accounts", "--json", "--socket", path).stdout
    assert json.loads(as_json)[0]["reason"] == NASTY
    assert as_json.replace("\n", "").isprintable()
    api.replies["/account"] = error(403, NASTY)
    assert SHOWN in failed(run("accounts", "--socket", path), 1)


def test_any_output_encoding(api: PeopleApi, path: Path) -> None:
    """A name that stdout can't write is shown as escapes, and the list goes on."""
    listed = {"łódź": {"id": None, "roles": [{"role": "größe", "reason": "\ud800"}]}}
    api.replies["/account"] = Reply(200, json.dumps(listed).encode())
    assert run("accounts", "--socket", path).stdout == "łódź\tgröße\t\\ud800\n"
    done = run("accounts", "--socket", path, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, "\\u0142ód\\u017a\tgröße\t\\ud800\n")


@pytest.mark.usefixtures("api")
def test_credentials(path: Path) -> None:
    """What an SDK reads from a credential_process, on one line."""
    done = run("credentials", "main", "admin", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "Version": 1,
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "SessionToken": TOKEN,
        "Expiration": EXPIRATION,
    }
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.usefixtures("api")
def test_console(path: Path) -> None:
    """The URL, on one line."""
    done = run("console", "main", "admin", "--socket", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, CONSOLE_URL + "\n", "")


def test_names_are_one_segment_each(api: PeopleApi, path: Path) -> None:
    """Slashes, spaces, dots and letters of any alphabet are escaped."""
    run("credentials", "a/../b c", "größe?x#y%41", "--socket", path)
    (asked,) = api.asked
    assert asked.target == "/account/a%2F..%2Fb%20c/gr%C3%B6%C3%9Fe%3Fx%23y%2541/credentials"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_names(api: PeopleApi, path: Path, name: str) -> None:
    """What would change the path is wrong usage."""
    assert run("credentials", name, "admin", "--socket", path).returncode == 2
    assert run("console", "main", name, "--socket", path).returncode == 2
    assert api.asked == []


def test_a_reader_that_leaves(api: PeopleApi, path: Path) -> None:
    """`imds-proxy accounts | head -1` ends without a word."""
    roles = [{"role": f"role-{number:06}", "reason": "because" * 20} for number in range(5000)]
    api.replies["/account"] = Reply(200, json.dumps({"main": {"id": None, "roles": roles}}).encode())
    command = f"{sys.executable} -m imds_proxy accounts --socket {path} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split("\t")[1], done.stderr) == ("role-000000", "")


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_a_full_disk(path: Path, command: tuple[str, ...]) -> None:
    """An answer that can't be written is none: one line, no traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *command, "--socket", path],
            cwd=REPOSITORY,
            env=bare_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "imds-proxy: the answer can't be written: No space left on device\n"


def test_help_teaches() -> None:
    """`credentials --help` has the two lines of ~/.aws/config; every command tells its exit statuses."""
    said = run("credentials", "--help").stdout
    assert "[profile " in said
    assert "credential_process = imds-proxy credentials ACCOUNT ROLE" in said
    for name in ("accounts", "credentials", "console"):
        assert "Exit status: 0; 1 refused" in run(name, "--help").stdout


# --- refused, in trouble, unreachable ----------------------------------------------------------------


@pytest.mark.parametrize("command", ALL_COMMANDS)
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (error(403, "not for you"), 1),
        (Reply(403, b"<html>no</html>", "text/html"), 1),
        (error(401, "your uid has no name"), 1),
        (error(404, "the account has no id"), 1),
        (Reply(404, b"not here"), 3),
        (error(400, "what?"), 3),
        (error(405, "GET is not for here"), 3),
        (error(500, "oops"), 3),
        (error(502, "STS fails"), 3),
        (error(503, "the provider is in trouble"), 3),
        (Reply(302, b"", headers=(("Location", "https://elsewhere.example/"),)), 3),
        (Reply(204, b""), 3),
    ],
)
def test_statuses(api: PeopleApi, path: Path, command: tuple[str, ...], reply: Reply, status: int) -> None:
    """Refused is 1, no answer is 3; the service's own words are in the one line on stderr."""
    api.replies[""] = reply
    line = failed(run(*command, "--socket", path), status)
    if reply.body.startswith(b"{"):
        assert json.loads(reply.body)["message"] in line
    assert len(api.asked) == 1


@pytest.mark.parametrize("command", ALL_COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "no socket", "nobody listens", "too long"])
def test_unreachable(tmp_path: Path, command: tuple[str, ...], kind: str) -> None:
    """Where nobody answers the socket is named."""
    path = tmp_path / ("x" * 200 if kind == "too long" else "people.sock")
    if kind == "no socket":
        path.write_text("text")
    elif kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    assert str(path) in failed(run(*command, "--socket", path), 3)


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_a_socket_of_others(api: PeopleApi, path: Path, command: tuple[str, ...]) -> None:
    """Whom its mode leaves out is told so, also where the socket was named; reading it is nobody's need."""
    before = bound_by_file_modes()
    path.chmod(0o200)
    assert run(*command, "--socket", path, before=before).returncode == 0
    path.chmod(0o400)
    line = failed(run(*command, "--socket", path, before=before), 3)
    assert f"{path} can't be reached: you may not open it" in line
    assert len(api.asked) == 1


def test_the_usual_socket() -> None:
    """Without an option it is /run/imds-proxy/people.sock."""
    if Path("/run/imds-proxy/people.sock").exists():
        pytest.skip("a daemon runs on this host")
    assert "/run/imds-proxy/people.sock" in failed(run("accounts"), 3)


@pytest.mark.parametrize("command", ALL_COMMANDS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\x1b[31m\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x1bzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b" " * 9_000_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"main": 7}',
        b'HTTP/1.1 200 OK\r\n\r\n{"main": {"id": 7, "roles": []}}',
        b'HTTP/1.1 200 OK\r\n\r\n{"main": {"id": null, "roles": [7]}}',
        b'HTTP/1.1 200 OK\r\n\r\n{"main": {"id": null, "roles": [{"role": 1, "reason": 2}]}}',
    ],
)
def test_hostile_answers(api: PeopleApi, path: Path, command: tuple[str, ...], answer: bytes) -> None:
    """Whatever comes: one line, status 3, no traceback."""
    api.raw = answer
    failed(run(*command, "--socket", path), 3)


@pytest.mark.parametrize(
    "change",
    [
        {"AccessKeyId": None},
        {"SecretAccessKey": ""},
        {"Token": "two\nlines"},
        {"Token": "\x1b[31m"},
        {"Expiration": "tomorrow"},
        {"Expiration": 7},
    ],
)
def test_no_credentials(api: PeopleApi, path: Path, change: dict[str, object]) -> None:
    """An SDK never gets to see half a key."""
    api.replies["/credentials"] = Reply(200, json.dumps(CREDENTIALS | change).encode())
    failed(run("credentials", "main", "admin", "--socket", path), 3)


@pytest.mark.parametrize(
    "url",
    [
        b"",
        b"file:///etc/passwd",
        b"javascript:alert(1)",
        b"--help",
        b"https://a b",
        b"https://a\x1b[31m",
        "https://größe".encode(),
        b"https://" + b"a" * 70_000,
    ],
)
def test_no_console_url(api: PeopleApi, path: Path, url: bytes) -> None:
    """What is no URL of the web is neither printed nor opened."""
    api.replies["/consoleurl"] = Reply(200, url, "text/plain")
    failed(run("console", "main", "admin", "--socket", path), 3)
    failed(run("console", "main", "admin", "--open", "--socket", path, BROWSER="/bin/false"), 3)


# --- by URL ------------------------------------------------------------------------------------------


def write_netrc(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def machine(user: str = "alice", password: str = f'"{PASSWORD}"', host: str = "127.0.0.1") -> str:
    return f"machine {host} login {user} password {password}\n"


@pytest.mark.parametrize("by", ["option", "environment"])
@pytest.mark.parametrize("file", [".netrc", "another"])
def test_the_password_in_netrc(remote: PeopleApi, tmp_path: Path, by: str, file: str) -> None:
    """`~/.netrc`, or what `NETRC` names, has user and password; the URL's path is where all paths begin."""
    netrc = write_netrc(tmp_path / file, machine())
    environment = {} if file == ".netrc" else {"NETRC": str(netrc)}
    arguments = ["--url", remote.url]
    if by == "environment":
        environment["IMDS_PROXY_URL"], arguments = remote.url + "/", []
    done = run("accounts", *arguments, home=tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    assert [asked.target for asked in remote.asked] == ["/afp-api/latest/account?withreason"]


def test_a_socket_goes_before_the_environment(api: PeopleApi, path: Path) -> None:
    """`--socket` counts although IMDS_PROXY_URL is set."""
    done = run("accounts", "--socket", path, IMDS_PROXY_URL="https://127.0.0.1:1/")
    assert done.returncode == 0
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("text", "user"),
    [("", None), (machine(host="127.0.0.2"), None), (machine(user="bob"), "alice"), (None, None)],
)
def test_no_password_and_no_terminal(
    remote: PeopleApi, tmp_path: Path, text: str | None, user: str | None
) -> None:
    """Without an entry for this host and user, and without a terminal: what to write, and where."""
    file = tmp_path / "netrc"
    if text is not None:
        write_netrc(file, text)
    who = ("--user", user) if user else ()
    line = failed(run("accounts", "--url", remote.url, *who, NETRC=str(file)), 1)
    assert "there is no terminal" in line
    assert str(file) in line
    assert [asked.authorization for asked in remote.asked] == [None]


def test_a_wrong_password(remote: PeopleApi, tmp_path: Path) -> None:
    """A password that is turned down is tried once; nobody is asked for another."""
    file = write_netrc(tmp_path / "netrc", machine(password="wrong"))
    line = failed(run("accounts", "--url", remote.url, NETRC=str(file)), 1)
    assert "wrong user or password" in line
    assert "alice" in line
    assert len(remote.asked) == 1


def test_a_netrc_for_all_to_see(remote: PeopleApi, tmp_path: Path) -> None:
    """Works, with a warning."""
    file = write_netrc(tmp_path / "netrc", machine(), 0o644)
    done = run("accounts", "--url", remote.url, NETRC=str(file))
    assert done.returncode == 0
    assert done.stderr == f"imds-proxy: warning: {file} has a password, and others may open it: " + (
        f"chmod 600 {file}\n"
    )


def test_a_faulty_netrc(remote: PeopleApi, tmp_path: Path) -> None:
    """The file and its line are named; what stands there is not repeated: it may be the password."""
    file = write_netrc(tmp_path / "netrc", f"machine 127.0.0.1 {PASSWORD} login alice\n")
    line = failed(run("accounts", "--url", remote.url, NETRC=str(file)), 2)
    assert f"{file}:1: " in line
    assert "horse" not in line
    assert "directory" in failed(run("accounts", "--url", remote.url, NETRC=str(tmp_path)), 2)
    file.write_bytes(b"\xff\xfe")
    assert str(file) in failed(run("accounts", "--url", remote.url, NETRC=str(file)), 2)
    assert remote.asked == []


def test_the_password_is_typed(remote: PeopleApi, tmp_path: Path) -> None:
    """At a terminal one is asked, once, when the service wants it; it is not shown, stdout stays clean."""
    command = [*PROGRAM, "credentials", "main", "admin", "--url", remote.url, "--user", "alice"]
    output = tmp_path / "output"
    with (
        output.open("wb") as stdout,
        at_terminal(command, bare_environment({"HOME": str(tmp_path)}), stdout=stdout.fileno()) as terminal,
    ):
        terminal.await_text("Password of alice at 127.0.0.1: ")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.wait() == 0
        assert "horse" not in terminal.screen
    assert json.loads(output.read_text())["AccessKeyId"] == ACCESS_KEY
    assert [asked.authorization is None for asked in remote.asked] == [True, False]


@pytest.mark.parametrize("typed", ["\n", "\x04", "wrong\n"])
def test_no_password_is_typed(remote: PeopleApi, tmp_path: Path, typed: str) -> None:
    """An empty one is never sent; a wrong one is refused."""
    command = [*PROGRAM, "accounts", "--url", remote.url]
    with at_terminal(command, bare_environment({"HOME": str(tmp_path), "USER": "alice"})) as terminal:
        terminal.await_text("Password of alice")
        terminal.type(typed)
        assert terminal.wait() == 1
        assert (
            "wrong user or password" if typed == "wrong\n" else "no password was given"
        ) in terminal.screen
        assert "Traceback" not in terminal.screen
    assert len(remote.asked) == (2 if typed == "wrong\n" else 1)


def test_nobody_is_asked_without_need(remote: PeopleApi) -> None:
    """A service that wants no password gets none."""
    remote.login = None
    with at_terminal([*PROGRAM, "accounts", "--url", remote.url], bare_environment()) as terminal:
        assert terminal.wait() == 0
        assert "Password" not in terminal.screen


@pytest.mark.parametrize(
    "url",
    [
        "http://afp.example/afp-api/latest",
        "https://alice:secret@127.0.0.1/",
        "https://127.0.0.1/?x",
        "https://127.0.0.1/#x",
        "https://127.0.0.1:x/",
        "https:///x",
        "ftp://127.0.0.1/",
        "afp.example",
        "https://127.0.0.1/a b",
    ],
)
def test_urls_that_are_none(url: str, tmp_path: Path) -> None:
    """Wrong usage: nothing that would carry secrets in the open, nothing with a password in it."""
    done = run("accounts", "--url", url, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Invalid value for --url" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--socket", "a", "--url", "https://a/"),
        ("--user", "a"),
        ("--ca-file", "/etc/hostname"),
        ("--url", "https://a/", "--user", "a:b"),
        ("--url", "https://a/", "--user", "a\nb"),
        ("--url", "https://a/", "--ca-file", "/nonexistent"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Options that don't go together, users and files that are none."""
    done = run("accounts", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_an_unreachable_url(tmp_path: Path) -> None:
    """A closed port and a name that leads nowhere are no answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f":{port}" in failed(run("accounts", "--url", f"http://127.0.0.1:{port}/x", home=tmp_path), 3)
    assert "nowhere.invalid" in failed(run("accounts", "--url", "https://nowhere.invalid/", home=tmp_path), 3)


def test_certificates(tmp_path: Path) -> None:
    """A certificate is believed with `--ca-file` or SSL_CERT_FILE; without them no password is sent."""
    authority = Authority(tmp_path)
    believed = authority.certificate
    netrc = str(write_netrc(tmp_path / "netrc", machine()))
    with running_people_api(certificate=authority.issue("server")) as api:
        api.login = f"alice:{PASSWORD}"
        done = run("accounts", "--url", api.url, "--ca-file", believed, NETRC=netrc)
        assert (done.returncode, done.stderr) == (0, "")
        assert run("accounts", "--url", api.url, NETRC=netrc, SSL_CERT_FILE=str(believed)).returncode == 0
        assert len(api.asked) == 2
        assert "certificate" in failed(run("accounts", "--url", api.url, NETRC=netrc), 3)
        by_name = api.url.replace("127.0.0.1", "localhost")
        line = failed(run("accounts", "--url", by_name, "--ca-file", believed, NETRC=netrc), 3)
        assert "certificate" in line
        not_one = tmp_path / "netrc"
        assert str(not_one) in failed(run("accounts", "--url", api.url, "--ca-file", not_one), 3)
        assert len(api.asked) == 2


def test_redirects_are_not_followed(remote: PeopleApi, tmp_path: Path) -> None:
    """A password goes where it was meant to go and nowhere else."""
    file = write_netrc(tmp_path / "netrc", machine())
    elsewhere = (("Location", remote.url + "/account"),)
    remote.replies["/account"] = Reply(307, b"", headers=elsewhere)
    failed(run("accounts", "--url", remote.url, NETRC=str(file)), 3)
    assert len(remote.asked) == 1


def test_no_proxy_is_asked(remote: PeopleApi, tmp_path: Path) -> None:
    """HTTP_PROXY is for the web, not for the way to one's own keys."""
    file = write_netrc(tmp_path / "netrc", machine())
    proxy = "http://127.0.0.1:1"
    done = run("accounts", "--url", remote.url, NETRC=str(file), http_proxy=proxy, HTTPS_PROXY=proxy)
    assert done.returncode == 0


# --- the browser -------------------------------------------------------------------------------------

BROWSER = """\
import sys, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args): return None
opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
with open(%r, "a") as file:
    for _ in range(2):
        try:
            opener.open(sys.argv[1], timeout=10)
        except urllib.error.HTTPError as answer:
            print(sys.argv[1], answer.code, answer.headers["Location"], sep="\\t", file=file)
"""


def test_a_browser_is_started(api: PeopleApi, path: Path, tmp_path: Path) -> None:
    """It is led to the console once; the URL is neither printed nor an argument of any process."""
    seen, script, browser = tmp_path / "seen", tmp_path / "browser.py", tmp_path / "browser"
    script.write_text(BROWSER % str(seen))
    browser.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    browser.chmod(0o755)
    done = run("console", "main", "admin", "--open", "--socket", path, BROWSER=str(browser))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second = [line.split("\t") for line in seen.read_text().splitlines()]
    assert first[1:] == ["303", CONSOLE_URL]
    assert second[1:] == ["404", "None"]
    assert "SigninToken" not in first[0]
    assert len(api.asked) == 1


@pytest.mark.usefixtures("api")
def test_no_browser(path: Path) -> None:
    """Where none can be started: status 3, and what to do."""
    line = failed(
        run(
            "console",
            "main",
            "admin",
            "--open",
            "--socket",
            path,
            BROWSER="/nonexistent",
            PATH="/nonexistent",
        ),
        3,
    )
    assert "without --open" in line


def test_what_the_stand_in_says_is_in_order() -> None:
    """The accounts above are out of order, so that a list in order proves something."""
    assert list(ACCOUNTS) != sorted(ACCOUNTS)
