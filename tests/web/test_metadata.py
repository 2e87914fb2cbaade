"""The tree as the settings have it: overrides, tags, public keys, user-data, and what each waits for."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.standins.wire import ROLES_PATH, WireCaller
from tests.web.machines import ACCOUNT, BAR, DENIED, DUAL, FOO, FOO_NAME, FOREIGN, NAMELESS, REGION, SIX, V1

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standins.little_sts import LittleSts
    from tests.web.conftest import StartSite

MAC = "0e:49:61:0f:c3:11"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops"
METADATA: dict[str, Any] = {
    "defaults": {
        "tags": {"site": "hh", "Name": "{host}", "who": "{role} of {account}"},
        "public_keys": {"ops": KEY},
    },
    "domains": {"valid.example": {"group_name": "rack-{domain}", "tags": {"site": "ber"}}},
    "hosts": {FOO_NAME: {"mac": MAC, "instance_type": "big.metal", "security_groups": ["web", "db"]}},
}


def value(caller: WireCaller, path: str) -> str:
    answer = caller.settle(f"/latest/{path}", None)
    assert answer.status == 200, (path, answer)
    return answer.text


def crawl(caller: WireCaller, path: str) -> dict[str, str]:
    """Return all leaves, read as cloud-init reads listings: `0=NAME` is the key at `0/openssh-key`."""
    found: dict[str, str] = {}
    for line in value(caller, path).split("\n"):
        number, equals, _ = line.partition("=")
        if line.endswith("/"):
            found |= crawl(caller, path + line)
        elif equals and number.isdigit():
            found[f"{path}{number}/openssh-key"] = value(caller, f"{path}{number}/openssh-key")
        elif path != "meta-data/iam/security-credentials/":
            found[path + line] = value(caller, path + line)
    return found


@pytest.mark.parametrize("source", [FOO, BAR, FOREIGN, DENIED, SIX])
def test_all_that_is_listed_is_served(source: str, start_site: StartSite) -> None:
    """Nothing that cloud-init finds in a listing is missing, for callers with and without a role."""
    caller = start_site(metadata=METADATA).caller(source, listener=DUAL)
    caller.settle(ROLES_PATH, None)
    leaves = crawl(caller, "meta-data/")
    assert leaves["meta-data/public-keys/0/openssh-key"] == KEY
    assert ("meta-data/mac" in leaves) == (source == FOO)
    assert ("meta-data/tags/instance/who" in leaves) == (source in (FOO, BAR, SIX))
    assert ("meta-data/iam/info" in leaves) == (source in (FOO, BAR, SIX))


def test_overrides(start_site: StartSite) -> None:
    """A domain's and a host's keys for who has that name, and for nobody else."""
    site = start_site(metadata=METADATA)
    foo = crawl(site.caller(FOO, listener=V1), "meta-data/")
    assert {path: text for path, text in foo.items() if "/tags/" in path} == {
        "meta-data/tags/instance/Name": "tuvfoo42",
        "meta-data/tags/instance/site": "ber",
        "meta-data/tags/instance/who": "roleprefix-tuvfoo of main",
    }
    assert foo["meta-data/placement/group-name"] == "rack-valid.example"
    assert foo["meta-data/security-groups"] == "web\ndb"
    card = f"meta-data/network/interfaces/macs/{MAC}"
    assert foo[f"{card}/owner-id"] == ACCOUNT
    assert foo[f"{card}/local-ipv4s"] == FOO
    document = json.loads(value(site.caller(FOO, listener=V1), "dynamic/instance-identity/document"))
    assert document["instanceType"] == foo["meta-data/instance-type"] == "big.metal"
    bar = crawl(site.caller(BAR, listener=V1), "meta-data/")
    assert bar["meta-data/instance-type"] == "bare.metal"
    foreign = crawl(site.caller(FOREIGN, listener=V1), "meta-data/")
    assert "meta-data/placement/group-name" not in foreign


def test_slashes(start_site: StartSite) -> None:
    """Tags with and without a slash; a public key's directory by number and as it is listed."""
    caller = start_site(metadata=METADATA).caller(FOO, listener=V1)
    for path in ("meta-data/tags/instance", "meta-data/tags/instance/", "meta-data/tags//instance//"):
        assert value(caller, path) == "Name\nsite\nwho"
    for path in ("0/openssh-key", "0=ops/openssh-key", "0%3Dops/openssh-key/"):
        assert value(caller, f"meta-data/public-keys/{path}") == KEY
    assert value(caller, "meta-data/public-keys/0=ops/") == "openssh-key"
    assert caller.get("/latest/meta-data/public-keys/ops/openssh-key").status == 404


def test_tags_of_a_grant(start_site: StartSite) -> None:
    """The provider's tags are there, over the defaults' and under the host's."""
    grant = {"account": "main", "role": "r", "tags": {"site": "granted", "rack": "{name}", "x": "y"}}
    caller = start_site(
        providers={"machines": {"type": "simple", "grants": [grant]}},
        metadata={"defaults": {"tags": {"site": "hh"}}, "hosts": {FOO: {"tags": {"x": "z"}}}},
    ).caller(FOO, listener=V1)
    found = crawl(caller, "meta-data/tags/")
    assert {path.rpartition("/")[2]: text for path, text in found.items()} == {
        "rack": "{name}",
        "site": "granted",
        "x": "z",
    }


def test_what_the_settings_make_the_same_for_all_waits_for_nobody(
    start_site: StartSite, sts: LittleSts
) -> None:
    """It is answered while nothing is known of the caller; STS is not asked."""
    caller = start_site(metadata=METADATA).caller(NAMELESS, listener=V1)
    for path in ("placement/region", "instance-type", "group-name", "tags/instance/site"):
        expected = 200 if path == "placement/region" else 503 if path != "group-name" else 404
        assert caller.get(f"/latest/meta-data/{path}").status == expected, path
    for path in ("ami-id", "public-keys/0/openssh-key", "services/partition", "instance-action", "profile"):
        assert caller.get(f"/latest/meta-data/{path}").status == 200, path
    assert sts.calls == []


def test_a_region_of_a_host(start_site: StartSite) -> None:
    """It is told to that host; a stranger has to wait until it is known that it is another one."""
    elsewhere = {"hosts": {FOO_NAME: {"region": "us-east-1"}}}
    site = start_site(metadata=elsewhere)
    foo, bar = (site.caller(source, listener=V1) for source in (FOO, BAR))
    assert value(foo, "meta-data/placement/region") == "us-east-1"
    assert value(foo, "meta-data/placement/availability-zone") == "us-east-1a"
    assert json.loads(value(foo, "dynamic/instance-identity/document"))["region"] == "us-east-1"
    assert value(bar, "meta-data/placement/region") == REGION
    assert site.caller(NAMELESS, listener=V1).get("/latest/meta-data/placement/region").status == 503


# --- user-data -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for user-data."""
    (tmp_path / "user-data").mkdir()
    return tmp_path / "user-data"


def test_user_data(start_site: StartSite, folder: Path) -> None:
    """Its file as it is, byte by byte, below every version; listed where it is served."""
    (folder / FOO_NAME).write_bytes(b"\x00#cloud-config\r\n\xff")
    caller = start_site(metadata={"user_data": str(folder)}).caller(FOO, listener=V1)
    assert value(caller, "") == "dynamic\nmeta-data\nuser-data"
    for path in ("/latest/user-data", "/2009-04-04/user-data", "/latest/user-data/", "//latest//user-data?x"):
        answer = caller.get(path)
        assert (answer.status, answer.body) == (200, b"\x00#cloud-config\r\n\xff")
        assert answer.header("Content-Type") == "application/octet-stream"
    head = caller.ask("HEAD", "/latest/user-data")
    assert (head.status, head.header("Content-Length"), head.body) == (200, "17", b"")
    (folder / FOO_NAME).write_text("changed")
    assert value(caller, "user-data") == "changed"
    (folder / FOO_NAME).unlink()
    assert caller.get("/latest/user-data").status == 404
    assert value(caller, "") == "dynamic\nmeta-data"


def test_user_data_is_for_who_has_a_grant(start_site: StartSite, folder: Path) -> None:
    """A refused caller is told 404, whatever files there are; one whose name is unknown 503."""
    for name in ("*.*.*", FOREIGN, DENIED, NAMELESS, BAR):
        (folder / name).write_text(name)
    site = start_site(metadata={"user_data": str(folder)})
    for source in (FOREIGN, DENIED):
        caller = site.caller(source, listener=V1)
        assert caller.settle("/latest/user-data", None).status == 404
        assert value(caller, "") == "dynamic\nmeta-data"
    nameless = site.caller(NAMELESS, listener=V1)
    for path in ("/latest/user-data", "/latest/"):
        assert nameless.get(path).status == 503
    assert value(site.caller(FOO, listener=V1), "user-data") == "*.*.*"
    assert value(site.caller(BAR, listener=V1), "user-data") == BAR


def test_user_data_needs_a_token(start_site: StartSite, folder: Path) -> None:
    """As everything else on a listener without IMDSv1."""
    (folder / FOO_NAME).write_text("secret")
    caller = start_site(metadata={"user_data": str(folder)}).caller(FOO)
    assert caller.get("/latest/user-data").status == 401
    assert caller.settle("/latest/user-data", caller.fetch_token()).text == "secret"


def test_user_data_that_can_not_be_read(start_site: StartSite, folder: Path) -> None:
    """503, not 404: a machine that is told that there is nothing boots without it for good."""
    (folder / FOO_NAME).symlink_to("nowhere")
    caller = start_site(metadata={"user_data": str(folder)}).caller(FOO, listener=V1)
    caller.settle(ROLES_PATH, None)
    answer = caller.get("/latest/user-data")
    assert (answer.status, answer.body) == (503, b"")


def test_a_file_that_would_stop_everything(start_site: StartSite, folder: Path) -> None:
    """A FIFO is not waited for; the caller next to it gets its own."""
    os.mkfifo(folder / FOO_NAME)
    (folder / "*.valid.example").write_text("pattern")
    site = start_site(metadata={"user_data": str(folder)})
    assert site.caller(FOO, listener=V1).settle("/latest/user-data", None).status == 404
    assert value(site.caller(BAR, listener=V1), "user-data") == "pattern"


def test_head_starts_nothing(start_site: StartSite, sts: LittleSts, folder: Path) -> None:
    """Nobody is asked because of a HEAD; it says 503 while nothing is known."""
    (folder / FOO_NAME).write_text("x")
    caller = start_site(metadata={"user_data": str(folder), **METADATA}).caller(FOO, listener=V1)
    for path in (
        "user-data",
        "",
        "meta-data/",
        "meta-data/tags/",
        "meta-data/iam/security-credentials-extended/",
    ):
        assert caller.ask("HEAD", f"/latest/{path}").status == 503
    assert caller.ask("HEAD", "/latest/meta-data/placement/region").status == 200
    assert sts.calls == []
