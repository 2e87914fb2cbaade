"""Real programs that read all metadata, and crawls as they do them: what is listed is there, keys are not."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from imds_proxy.naming import instance_id
from imds_proxy.web.tree import VERSIONS
from tests.standins.daemon import REGION
from tests.system.lab.crawl import WAYS, Crawl
from tests.system.lab.gateway import make_listener, make_settings
from tests.system.lab.own_root import BARE_METAL, LIKE_EC2
from tests.system.metadata_clients import (
    run_boto2,
    run_ec2_metadata,
    run_ec2metadata,
    run_facter,
    run_ohai,
)
from tests.system.verdicts import TUVFOO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.system.lab.gateway import Gateway
    from tests.system.lab.laboratory import Laboratory
    from tests.system.lab.machine import Machine

pytestmark = pytest.mark.system

V1_PORT = 8775
DOMAIN = "valid.example"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops@valid.example"
USER_DATA = "#cloud-config\nruncmd: [[touch, /root/here]]\n"
MACHINES = {
    "ec2metadata": ("tuvfoo30", "10.77.80.1"),
    "ec2-metadata": ("tuvfoo31", "10.77.80.2"),
    "facter": ("tuvfoo32", "10.77.80.3"),
    "ohai": ("tuvfoo33", "10.77.80.4"),
    "boto 2": ("tuvfoo34", "10.77.80.5"),
}
ODD_TAG = "a+b-c=d.e,f_g:h@0=1"
CRAWLERS = {way: f"tuvfoo{number}.{DOMAIN}" for number, way in enumerate(WAYS, start=35)}


def _mac_of(address: str) -> str:
    # As the laboratory gives them out.
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


METADATA = {
    "defaults": {
        "ami_id": "ami-0123456789abcdef0",
        "availability_zone_id": "euc1-az2",
        "group_name": "rack-7",
        "public_keys": {"ops": KEY, "more.ops@valid.example": KEY},
        "security_groups": ["default", "{host}"],
        "tags": {"Name": "{host}", "site:rack": "ham+7", "role": "{role}", "empty": ""},
    },
    "domains": {DOMAIN: {"reservation_id": "r-0123456789abcdef0"}},
    "hosts": {
        **{f"{host}.{DOMAIN}": {"mac": _mac_of(address)} for host, address in MACHINES.values()},
        # All that a key may have in it; to boto 2 and ohai an equals sign is a public key, on EC2 too.
        **{CRAWLERS[way]: {"tags": {ODD_TAG: "odd"}} for way in ("cloud-init", "facter")},
    },
}


@pytest.fixture(scope="module")
def full_gateway(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A tree with all that the settings can put into it; without a token on port 8775 only."""
    folder = tmp_path_factory.mktemp("user-data")
    (folder / f"*.{DOMAIN}").write_text(USER_DATA)
    listen = [
        make_listener("169.254.169.254:80"),
        make_listener(f"169.254.169.254:{V1_PORT}", imds_v1=True),
    ]
    metadata = {**METADATA, "user_data": str(folder)}
    with lab.running_gateway(make_settings(lab.aws, listen=listen, metadata=metadata)) as gateway:
        yield gateway


def _make_machine(lab: Laboratory, gateway: Gateway, client: str) -> Machine:
    host, address = MACHINES[client]
    return lab.make_machine(gateway, f"{host}.{DOMAIN}", address=address)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_all_that_is_listed_is_served(
    lab: Laboratory, full_gateway: Gateway, way: str, *, is_known: bool
) -> None:
    """At every version, the way each program follows listings, to a caller with a role and one without."""
    machine = lab.make_machine(full_gateway, *([CRAWLERS[way]] if is_known else []))
    crawl = Crawl(machine, {"X-aws-ec2-metadata-token": machine.fetch_token()})
    with closing(crawl):
        assert crawl.get("/") == (200, "\n".join(VERSIONS))
        for version in VERSIONS:
            status, listing = crawl.get(f"/{version}/")
            assert status == 200
            assert {crawl.get(f"/{version}/{entry}")[0] for entry in listing.splitlines()} == {200}
            crawl.follow(WAYS[way], f"/{version}/meta-data/")
            crawl.follow(WAYS[way], f"/{version}/dynamic/")
        leaves = dict(crawl.leaves)
        assert {path: crawl.get(f"{path}/") for path in leaves} == {
            path: (200, leaves[path]) for path in leaves
        }
    assert crawl.missing == {}
    per_version = {path.partition("/")[2].partition("/")[2] for path in leaves}
    assert len(leaves) == len(VERSIONS) * len(per_version)
    assert ("meta-data/iam/info" in per_version) is is_known
    has_odd_tag = is_known and way in {"cloud-init", "facter"}
    assert bool([path for path in per_version if unquote(path).endswith(f"/{ODD_TAG}")]) is has_odd_tag


@pytest.mark.parametrize("way", ["cloud-init", "facter"])
def test_no_keys_for_who_leaves_security_credentials_out(
    lab: Laboratory, full_gateway: Gateway, way: str
) -> None:
    """They leave `security-credentials/` out by name. cloud-init lets everybody read the rest."""
    machine = lab.make_machine(full_gateway, lab.new_name())
    crawl = Crawl(machine, {"X-aws-ec2-metadata-token": machine.fetch_token()})
    with closing(crawl):
        crawl.follow(WAYS[way], "/latest/meta-data/")
        assert crawl.get("/latest/meta-data/iam/") == (200, "info\nsecurity-credentials/")
    assert "/latest/meta-data/iam/info" in crawl.leaves
    assert [path for path, text in crawl.leaves.items() if "SecretAccessKey" in text] == []


def test_ec2metadata(lab: Laboratory, full_gateway: Gateway) -> None:
    """Debian's program, with a token."""
    found = run_ec2metadata(_make_machine(lab, full_gateway, "ec2metadata"))
    host, address = MACHINES["ec2metadata"]
    name = f"{host}.{DOMAIN}"
    assert found == {
        "ami-id": "ami-0123456789abcdef0",
        "ami-launch-index": "0",
        "ami-manifest-path": "unavailable",
        "ancestor-ami-ids": "unavailable",
        "availability-zone": f"{REGION}a",
        "block-device-mapping": "unavailable",
        "instance-action": "none",
        "instance-id": instance_id(name),
        "instance-type": "bare.metal",
        "local-hostname": name,
        "local-ipv4": address,
        "kernel-id": "unavailable",
        "mac": _mac_of(address),
        "profile": "default-hvm",
        "product-codes": "unavailable",
        "public-hostname": "unavailable",
        "public-ipv4": "unavailable",
        "public-keys": f"['{KEY}', '{KEY}']",
        "ramdisk-id": "unavailable",
        "reservation-id": "r-0123456789abcdef0",
        "security-groups": "default",  # the second group is on the next line
        "user-data": str(USER_DATA.encode()),
        "availability-zone-id": "euc1-az2",
        "region": REGION,
        "host-id": "unavailable",
        "group-name": "rack-7",
        "partition-number": "unavailable",
    }


def test_ec2_metadata(lab: Laboratory, full_gateway: Gateway) -> None:
    """PyPI's library: every property that stands for something we know, an error only for others."""
    found = run_ec2_metadata(_make_machine(lab, full_gateway, "ec2-metadata"))
    host, address = MACHINES["ec2-metadata"]
    name = f"{host}.{DOMAIN}"
    failed = {key: value for key, value in found.items() if str(value).startswith("HTTPError")}
    assert list(failed) == ["ami_manifest_path"]
    expected = {
        "account_id": "000123456789",
        "ami_id": "ami-0123456789abcdef0",
        "ami_launch_index": 0,
        "availability_zone": f"{REGION}a",
        "availability_zone_id": "euc1-az2",
        "domain": "amazonaws.com",
        "instance_action": "none",
        "instance_id": instance_id(name),
        "instance_life_cycle": "on-demand",
        "instance_profile_name": TUVFOO,
        "instance_type": "bare.metal",
        "mac": _mac_of(address),
        "partition": "aws",
        "private_hostname": name,
        "private_ipv4": address,
        "public_keys": {"ops": KEY, "more.ops@valid.example": KEY},
        "region": REGION,
        "reservation_id": "r-0123456789abcdef0",
        "security_groups": ["default", host],
        "tags": {"Name": host, "site:rack": "ham+7", "role": TUVFOO, "empty": ""},
        "user_data": USER_DATA,
    }
    assert {key: found[key] for key in expected} == expected
    (card,) = found["network_interfaces"].items()
    assert card[0] == _mac_of(address)
    assert card[1]["private_ipv4s"] == [address]
    keys = found["iam_security_credentials"]
    (call,) = [call for call in lab.calls() if call.access_key_id == keys["AccessKeyId"]]
    assert call.session_name == name


def test_facter(lab: Laboratory, full_gateway: Gateway, tmp_path: Path) -> None:
    """On hardware that it takes for virtual, its facts are the tree; on bare metal it does not ask."""
    machine = _make_machine(lab, full_gateway, "facter")
    assert run_facter(machine, tmp_path / "metal", BARE_METAL) == {"virtual": "physical"}
    found = run_facter(machine, tmp_path / "virtual", LIKE_EC2)
    assert found["virtual"] == "kvm"
    assert found["ec2_userdata"] == USER_DATA.strip()
    crawl = Crawl(machine, {"X-aws-ec2-metadata-token": machine.fetch_token()})
    with closing(crawl):
        crawl.follow(WAYS["facter"], "/latest/meta-data/")
    assert _flatten(found["ec2_metadata"], "/latest/meta-data") == crawl.leaves
    assert found["ec2_metadata"]["public-keys"]["0"] == {"openssh-key": KEY}
    assert "SecretAccessKey" not in json.dumps(found)


def test_ohai(lab: Laboratory, full_gateway: Gateway, tmp_path: Path) -> None:
    """With the hint `ec2` it asks on any hardware, and reports the role without its keys."""
    found = run_ohai(_make_machine(lab, full_gateway, "ohai"), tmp_path / "root", BARE_METAL)
    host, address = MACHINES["ohai"]
    expected = {
        "account_id": "000123456789",
        "ami_id": "ami-0123456789abcdef0",
        "availability_zone": f"{REGION}a",
        "instance_id": instance_id(f"{host}.{DOMAIN}"),
        "local_hostname": f"{host}.{DOMAIN}",
        "local_ipv4": address,
        "public_keys_0_openssh_key": KEY,
        "region": REGION,
        "security_groups": ["default", host],
        "tags_instance_Name": host,
        "userdata": USER_DATA,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["iam"]["role_name"] == TUVFOO.replace("-", "_")  # as it does with all names
    assert found["network_interfaces_macs"][_mac_of(address)]["local_ipv4s"] == address
    assert "SecretAccessKey" not in json.dumps(found)


def test_boto2(lab: Laboratory, full_gateway: Gateway) -> None:
    """Without a token, on the port that allows it; it reads the role's keys with the rest, as on EC2."""
    url = f"http://169.254.169.254:{V1_PORT}"
    found = run_boto2(_make_machine(lab, full_gateway, "boto 2"), url)
    host, address = MACHINES["boto 2"]
    assert found["instance-id"] == instance_id(f"{host}.{DOMAIN}")
    assert found["local-ipv4"] == address
    assert found["placement"]["region"] == REGION
    assert found["public-keys"]["ops"] == KEY
    assert found["tags"]["instance"]["Name"] == host
    assert found["iam"]["security-credentials"][TUVFOO]["Code"] == "Success"


def _flatten(tree: Mapping[str, Any], above: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, node in tree.items():
        path = f"{above}/{name}"
        found |= _flatten(node, path) if isinstance(node, dict) else {path: node}
    return found
