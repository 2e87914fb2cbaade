"""sts, assume_role: where our own key comes from and where not, the way to STS, the threads."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from imds_proxy.errors import AWSError, OverloadError
from imds_proxy.sts import StsThreads
from imds_proxy.sts_settings import StsSettings
from tests.standins.asking_sts import ROLE, Asking, clear_environment, session_for, settings_for
from tests.standins.aws_process import Aws, running_aws
from tests.standins.little_sts import running_little_sts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("aws")) as aws:
        aws.add_roles(ROLE)
        yield aws


@pytest.fixture
def aws(running: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    clear_environment(monkeypatch, tmp_path)
    running.reset()
    return running


@pytest.fixture
def threads() -> Iterator[StsThreads]:
    made = StsThreads(threads=4)
    yield made
    made.close()


@asynccontextmanager
async def listening_server() -> AsyncIterator[tuple[str, list[str]]]:
    """Run a server that answers 404 to all; yields its URL and the request lines it has seen."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            line = await reader.readline()
            if line:
                seen.append(line.decode().strip())
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


# --- our own key -------------------------------------------------------------------------------------


async def test_the_key_of_the_settings(
    aws: Aws, threads: StsThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings' key signs, whatever the environment has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "wrong")
    asking = Asking(settings_for(aws), threads)
    await asking.sts.assume(session_for())
    assert [call.signer for call in aws.calls()] == [aws.access_key_id] == [asking.sts.signer]


async def test_the_key_of_the_environment(
    aws: Aws, threads: StsThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key in the settings that of the environment signs, at the environment's endpoint."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.secret_access_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    asking = Asking(StsSettings(region="eu-central-1"), threads)
    await asking.sts.assume(session_for())
    assert (asking.sts.signer, asking.sts.endpoint) == (aws.access_key_id, aws.url)


async def test_the_key_of_a_profile(aws: Aws, threads: StsThreads, tmp_path: Path) -> None:
    """A profile of AWS's own files signs."""
    (tmp_path / "credentials").write_text(
        f"[gateway]\naws_access_key_id = {aws.access_key_id}\n"
        f"aws_secret_access_key = {aws.secret_access_key}\n"
    )
    asking = Asking(settings_for(aws, access_key=None, secret_key=None, profile="gateway"), threads)
    await asking.sts.assume(session_for())
    assert asking.sts.signer == "profile gateway"


def profile_by_process(folder: Path, command: str) -> None:
    (folder / "config").write_text(f"[profile made]\ncredential_process = {command}\n")


async def test_the_key_of_a_process(aws: Aws, threads: StsThreads, tmp_path: Path) -> None:
    """A program named as `credential_process` may give the key."""
    program = tmp_path / "give_key.py"
    program.write_text(
        "import json\n"
        f"key = {{'Version': 1, 'AccessKeyId': {aws.access_key_id!r}, 'SecretAccessKey': "
        f"{aws.secret_access_key!r}}}\nprint(json.dumps(key))\n"
    )
    profile_by_process(tmp_path, f"{sys.executable} {program}")
    asking = Asking(settings_for(aws, access_key=None, secret_key=None, profile="made"), threads)
    assert (await asking.sts.assume(session_for())).access_key


@pytest.mark.parametrize(
    "command", ["/nonexistent/program", "/bin/false", "/bin/echo garbage", "/bin/echo {}"]
)
async def test_a_process_that_fails(aws: Aws, threads: StsThreads, tmp_path: Path, command: str) -> None:
    """However a `credential_process` fails, that is trouble: loading ahead and asking end in an AWSError."""
    profile_by_process(tmp_path, command)
    asking = Asking(settings_for(aws, access_key=None, secret_key=None, profile="made"), threads)
    for question in (asking.sts.load(), asking.sts.assume(session_for()), asking.sts.assume(session_for())):
        with pytest.raises(AWSError):
            await question
    assert aws.calls() == []


async def test_an_unknown_profile(aws: Aws, threads: StsThreads) -> None:
    """A profile that nobody wrote is trouble with our own key."""
    asking = Asking(settings_for(aws, access_key=None, secret_key=None, profile="nobody"), threads)
    with pytest.raises(AWSError, match="nobody") as trouble:
        await asking.sts.assume(session_for())
    assert trouble.value.is_own_key
    assert asking.sts.own_key_trouble


@pytest.mark.parametrize("uses_it", [False, True])
async def test_an_instance_metadata_service(
    aws: Aws, threads: StsThreads, monkeypatch: pytest.MonkeyPatch, uses_it: bool
) -> None:
    """Without any key an instance metadata service is asked only if the settings say so: it would be us."""
    async with listening_server() as (url, seen):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        settings = settings_for(aws, access_key=None, secret_key=None, use_instance_metadata=uses_it)
        asking = Asking(settings, threads)
        with pytest.raises(AWSError) as trouble:
            await asking.sts.assume(session_for())
    assert trouble.value.is_own_key
    assert bool(seen) is uses_it
    assert aws.calls() == []


@pytest.mark.parametrize(
    ("settings", "environ", "signer"),
    [
        ({"access_key": "AKIA1"}, {"AWS_ACCESS_KEY_ID": "AKIA2"}, "AKIA1"),
        ({"profile": "gateway"}, {"AWS_ACCESS_KEY_ID": "AKIA2"}, "profile gateway"),
        ({}, {"AWS_ACCESS_KEY_ID": "AKIA2", "AWS_PROFILE": "other"}, "AKIA2"),
        ({}, {"AWS_PROFILE": "other"}, "profile other"),
        ({}, {}, "profile default"),
    ],
)
def test_signers(settings: dict[str, str], environ: dict[str, str], signer: str) -> None:
    """What is part of every cache key says which key signs, in the order in which boto3 looks for one."""
    assert StsSettings(region="eu-central-1", **settings).signer(environ) == signer  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("settings", "environ", "endpoint"),
    [
        ({"sts_endpoint": "https://a"}, {"AWS_ENDPOINT_URL_STS": "https://b"}, "https://a"),
        ({}, {"AWS_ENDPOINT_URL_STS": "https://b", "AWS_ENDPOINT_URL": "https://c"}, "https://b"),
        ({}, {"AWS_ENDPOINT_URL": "https://c"}, "https://c"),
        ({}, {}, "eu-central-1"),
    ],
)
def test_endpoints(settings: dict[str, str], environ: dict[str, str], endpoint: str) -> None:
    """So does where STS is: the settings' endpoint, the environment's, or the region."""
    assert StsSettings(region="eu-central-1", **settings).endpoint(environ) == endpoint  # type: ignore[arg-type]  # fields by name


# --- the way to STS ----------------------------------------------------------------------------------


async def test_a_proxy(aws: Aws, threads: StsThreads) -> None:
    """With a proxy set STS is asked through it."""
    async with listening_server() as (url, seen):
        asking = Asking(settings_for(aws, https_proxy=url, sts_endpoint="http://sts.valid.example"), threads)
        with pytest.raises(AWSError):
            await asking.sts.assume(session_for())
    assert seen == ["POST http://sts.valid.example/ HTTP/1.1"]


async def test_a_proxy_for_https(aws: Aws, threads: StsThreads) -> None:
    """TLS goes through the proxy as a tunnel."""
    async with listening_server() as (url, seen):
        asking = Asking(settings_for(aws, https_proxy=url, sts_endpoint="https://sts.valid.example"), threads)
        with pytest.raises(AWSError):
            await asking.sts.assume(session_for())
    assert [line.rpartition(" HTTP/")[0] for line in seen] == ["CONNECT sts.valid.example:443"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a PEM file with a key and a certificate for 127.0.0.1 that vouches for itself."""
    file = tmp_path / "sts.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=sts", "-addext", "subjectAltName=IP:127.0.0.1"]
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate and is not installed")
    subprocess.run([*command, "-keyout", file, "-out", tmp_path / "cert"], check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "cert").read_text())
    return file


async def test_a_bundle_of_authorities(aws: Aws, threads: StsThreads, certificate: Path) -> None:
    """STS behind a certificate of the site's own is believed with the bundle, and only with it."""
    with running_little_sts(certificate) as sts:
        believing = settings_for(aws, ca_bundle=certificate.with_name("cert"), sts_endpoint=sts.url)
        credentials = await Asking(believing, threads).sts.assume(session_for())
        assert credentials.access_key.startswith("ASIA")
        with pytest.raises(AWSError) as trouble:
            await Asking(settings_for(aws, sts_endpoint=sts.url), threads).sts.assume(session_for())
        assert trouble.value.code == "SSLError"
        assert len(sts.calls) == 1


async def test_a_bundle_that_can_t_be_read(aws: Aws, threads: StsThreads, tmp_path: Path) -> None:
    """A bundle of authorities that went away after the start is trouble."""
    asking = Asking(
        settings_for(aws, ca_bundle=tmp_path / "missing.pem", sts_endpoint="https://127.0.0.1:9"), threads
    )
    with pytest.raises(AWSError):
        await asking.sts.assume(session_for())


# --- threads -----------------------------------------------------------------------------------------


async def test_calls_wait_for_a_thread() -> None:
    """As many calls as there are threads run at once, the others wait their turn."""
    threads = StsThreads(threads=2)
    running, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(10)
        with lock:
            running -= 1

    calls = [asyncio.create_task(threads.run(call)) for _ in range(6)]
    await asyncio.sleep(0)
    assert threads.line == 6
    go.set()
    await asyncio.gather(*calls)
    assert (most, threads.line) == (2, 0)
    threads.close()


async def test_a_full_line() -> None:
    """When thousands wait already the next call is refused at once; when they are gone it is taken."""
    threads = StsThreads(threads=1)
    go = threading.Event()
    calls = [asyncio.create_task(threads.run(lambda: go.wait(10))) for _ in range(256)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadError, match="too many calls of STS"):
        await threads.run(lambda: None)
    go.set()
    await asyncio.gather(*calls)
    assert await threads.run(lambda: "taken") == "taken"
    threads.close()


async def test_a_call_that_raises() -> None:
    """What a call raises on its thread is raised to who asked, and its place is free again."""
    threads = StsThreads(threads=1)

    def fail() -> None:
        raise AWSError("no", code="No")

    with pytest.raises(AWSError):
        await threads.run(fail)
    assert threads.line == 0
    threads.close()


async def test_closing() -> None:
    """Closing waits for nobody: what has not begun is dropped, what is under way ends by itself."""
    threads = StsThreads(threads=1)
    go = threading.Event()
    first = asyncio.create_task(threads.run(lambda: go.wait(10)))
    second = asyncio.create_task(threads.run(lambda: "never"))
    await asyncio.sleep(0)
    threads.close()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    assert await first is True
