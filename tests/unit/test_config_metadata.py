"""The `metadata` section: what it takes, and what is a fault at which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from imds_proxy.config import Configuration, read_configuration

BASE = """
listen: [{address: 127.0.0.1:0}]
provider: {type: simple, grants: [{account: main, role: r}]}
accounts: {main: {id: "123456789012"}}
aws: {region: eu-central-1}
metadata:
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def _read(folder: Path, text: str) -> tuple[Configuration | None, list[tuple[str, str]]]:
    file = folder / "a.yaml"
    file.write_text(BASE + "".join(f"  {line}\n" for line in text.splitlines()))
    reading = read_configuration(file, {})
    return reading.configuration, [(fault.key, fault.text) for fault in reading.faults]


def test_levels_say_what_they_want_to(tmp_path: Path) -> None:
    """All keys at each level; a host's card besides. Domains and names are kept as they are compared."""
    level = (
        "ami_id: x, ami_launch_index: 3, availability_zone: '{region}b', availability_zone_id: z,"
        " group_name: g,"
        " hostname: '{host}.x', instance_life_cycle: spot, instance_type: t, profile: p, region: us-east-1,"
        f" reservation_id: r, security_groups: [a, '{{role}}'], tags: {{a: ''}}, public_keys: {{me: {KEY} x}}"
    )
    configuration, faults = _read(
        tmp_path,
        f"defaults: {{{level}, instance_id: 'i-{{address}}'}}\n"
        f"domains: {{Valid.example: {{{level}, instance_id: 'i-{{host}}'}}, '*.Rz.example': {{{level}}}}}\n"
        f"hosts: {{A.valid.example: {{{level}, mac: 0E-49-61-0F-C3-11, instance_id: i-1}},"
        " '::ffff:10.0.0.5': {}}\n"
        f"user_data: {tmp_path}",
    )
    assert faults == []
    assert configuration is not None
    metadata = configuration.settings.metadata
    assert set(metadata.domains) == {"valid.example", "*.rz.example"}
    assert [str(host) for host in metadata.hosts] == ["a.valid.example", "10.0.0.5"]
    assert str(metadata.hosts["a.valid.example"].mac) == "0e:49:61:0f:c3:11"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("defaults: {ami_id: ''}", "defaults.ami_id", "not fit"),
        ("defaults: {ami_id: ' x'}", "defaults.ami_id", "not fit"),
        ('defaults: {ami_id: "a\\nb"}', "defaults.ami_id", "one line"),
        ("defaults: {ami_id: '{nam}'}", "defaults.ami_id", "unknown placeholder '{nam}'"),
        ("defaults: {ami_id: '{{name}'}", "defaults.ami_id", "a { that belongs"),
        ("defaults: {hostname: 'A.x'}", "defaults.hostname", "a host name in lower case"),
        ("defaults: {hostname: 'a b'}", "defaults.hostname", "a host name"),
        ("defaults: {instance_id: i-1}", "defaults.instance_id", "needs {address} or {name}"),
        ("defaults: {instance_id: 'i-{host}'}", "defaults.instance_id", "needs {address} or {name}"),
        ("defaults: {instance_id: '../{name}'}", "defaults.instance_id", "not fit"),
        ("defaults: {instance_id: '{instance_id}'}", "defaults.instance_id", "stands for what this"),
        ("domains: {x.example: {instance_id: i-1}}", "domains.x.example.instance_id", "or {host} or {name}"),
        ("domains: {'*.x.example': {instance_id: 'i-{host}'}}", "domains.*.x.example.instance_id", "needs"),
        ("domains: {'x..example': {}}", "domains.x..example", "not a domain"),
        ("domains: {x.example: {}, X.Example: {}}", "domains.X.Example", "is the domain of"),
        ("domains: {x.example: {mac: '0e:49:61:0f:c3:11'}}", "domains.x.example.mac", "unknown key"),
        ("hosts: {10.0.0.5: {}, '::ffff:10.0.0.5': {}}", "hosts.::ffff:10.0.0.5", "is the host of"),
        ("hosts: {10.0.0.5: {mac: '0e:49:61:0f:c3'}}", "hosts.10.0.0.5.mac", "not a MAC address"),
        ("hosts: {10.0.0.5: {mac: '0e:49:61-0f:c3:11'}}", "hosts.10.0.0.5.mac", "not a MAC address"),
        ("defaults: {region: '{name}'}", "defaults.region", "not a region"),
        ("defaults: {ami_launch_index: -1}", "defaults.ami_launch_index", "not a number"),
        ("defaults: {instance_life_cycle: x}", "defaults.instance_life_cycle", "not one of"),
        ("defaults: {security_groups: []}", "defaults.security_groups", "must not be empty"),
        ("defaults: {tags: {a/b: c}}", "defaults.tags.a/b", "not a tag's key"),
        ("defaults: {tags: {..: c}}", "defaults.tags...", "not a tag's key"),
        ("defaults: {tags: {_index: c}}", "defaults.tags._index", "not a tag's key"),
        ("defaults: {tags: {0=a: c}}", "defaults.tags.0=a", "takes for a public key"),
        ('defaults: {tags: {a: "b\\nc"}}', "defaults.tags.a", "one line"),
        (f"defaults: {{public_keys: {{a=b: {KEY}}}}}", "defaults.public_keys.a=b", "not a key's name"),
        ("defaults: {public_keys: {a: ssh-ed25519 AAAA}}", "defaults.public_keys.a", "not a public key"),
        (f"defaults: {{public_keys: {{a: 'x {KEY}'}}}}", "defaults.public_keys.a", "is not a public"),
        (f'defaults: {{public_keys: {{a: "{KEY}\\n{KEY}"}}}}', "defaults.public_keys.a", "on one line"),
        ("user_data: /nonexistent/folder", "user_data", "can't be read as a folder"),
        ("user_data: /dev/null", "user_data", "Not a directory"),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what(tmp_path: Path, text: str, key: str, said: str) -> None:
    """At the key that is wrong, and nowhere else."""
    configuration, faults = _read(tmp_path, text)
    assert configuration is None
    assert [found for found, _ in faults] == [f"metadata.{key}"]
    assert said in faults[0][1]
