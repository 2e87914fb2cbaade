"""`config` shows every setting with its origin and no secret; the schema describes what a user may write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from imds_proxy import registry, report, report_schema
from tests.standins.site_distributions import installed

SITE = "tests.standins.site_providers"
EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[2] / "examples").glob("*.yaml")
    if path.name != "alerts.yaml"  # is Prometheus'
)


def _describe(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the lines for a configuration in a.yaml, without the folder."""
    file = folder / "a.yaml"
    file.write_text(text)
    file.chmod(0o600)
    loaded = registry.load(file, environ or {})
    assert loaded.configuration is not None, loaded.faults
    return [
        line.replace(f"{folder}/", "") for line in report.describe(loaded.configuration, loaded.providers)
    ]


CONFIGURATION = f"""
listen:
  - address: 127.0.0.1:0
    callers:
      - ::ffff:10.77.0.0/112
provider: {{module: {SITE}, class: Machines, account: main, password: swordfish, levels: [07]}}
accounts:
  main: {{id: 123456789, external_id: swordfish, policy: {{a: b}}}}
aws:
  access_key: AKIA
  secret_key: swordfish
  session_duration: 7200
  https_proxy: http://user:swordfish@proxy:3128
hosts:
  ::ffff:10.0.0.5: A.valid.example
metadata:
  hosts:
    ::ffff:10.0.0.6:
      mac: 0E-49-61-0F-C3-11
      tags:
        Name: x
log: {{level: debug}}
"""


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    """A line each: as it counts, and where it comes from."""
    environ = {"AWS_REGION": "cn-north-1", "RUNTIME_DIRECTORY": "/run/x"}
    assert _describe(tmp_path, CONFIGURATION, environ) == [
        "listen[0].address: 127.0.0.1:0    # a.yaml:3",
        "listen[0].tls: null    # default",
        "listen[0].callers[0]: 10.77.0.0/16    # a.yaml:5",
        "listen[0].callers_except: []    # default",
        "listen[0].provider: provider    # default",
        "listen[0].imds_v1: false    # default",
        "listen[0].credentials: true    # default",
        "listen[0].list_without_token: false    # default",
        "listen[0].base_path: null    # default",
        "listen[0].hop_limit: 1    # default",
        "listen[0].hosts: []    # default",
        "listen[0].container: null    # default",
        "people: null    # default",
        "accounts.main.id: 000123456789    # a.yaml:8",
        "accounts.main.path: /    # default",
        "accounts.main.external_id: ********    # a.yaml:8",
        "accounts.main.session_tags: {}    # default",
        "accounts.main.source_identity: false    # default",
        'accounts.main.policy: {"a":"b"}    # a.yaml:8',
        "aws.region: cn-north-1    # $AWS_REGION",
        "aws.session_duration: 2h    # a.yaml:12",
        "aws.session: per-caller    # default",
        "aws.access_key: AKIA    # a.yaml:10",
        "aws.secret_key: ********    # a.yaml:11",
        "aws.secret_key_file: null    # default",
        "aws.profile: null    # default",
        "aws.partition: aws-cn    # default",
        "aws.sts_endpoint: null    # default",
        "aws.https_proxy: http://********@proxy:3128    # a.yaml:13",
        "aws.ca_bundle: null    # default",
        "aws.signin_endpoint: null    # default",
        "aws.console_endpoint: null    # default",
        "aws.console_duration: null    # default",
        "aws.use_instance_metadata: false    # default",
        "dns.nameservers: null    # default",
        "dns.attempt_timeout: 300ms    # default",
        "dns.deadline: 2s    # default",
        "dns.recheck: 5s    # default",
        "dns.stale: 15m    # default",
        "hosts.10.0.0.5: a.valid.example    # a.yaml:14",
        "deny: []    # default",
        "metadata.defaults.ami_id: ami-00000000000000000    # default",
        "metadata.defaults.ami_launch_index: 0    # default",
        "metadata.defaults.availability_zone: {region}a    # default",
        "metadata.defaults.availability_zone_id: null    # default",
        "metadata.defaults.group_name: null    # default",
        "metadata.defaults.hostname: {name}    # default",
        "metadata.defaults.instance_id: null    # default",
        "metadata.defaults.instance_life_cycle: on-demand    # default",
        "metadata.defaults.instance_type: bare.metal    # default",
        "metadata.defaults.profile: default-hvm    # default",
        "metadata.defaults.public_keys: {}    # default",
        "metadata.defaults.region: null    # default",
        "metadata.defaults.reservation_id: null    # default",
        "metadata.defaults.security_groups[0]: default    # default",
        "metadata.defaults.tags: {}    # default",
        "metadata.domains: {}    # default",
        "metadata.hosts.10.0.0.6.tags.Name: x    # a.yaml:17",
        "metadata.hosts.10.0.0.6.mac: 0e:49:61:0f:c3:11    # a.yaml:17",
        "metadata.user_data: null    # default",
        "tokens.key_file: null    # default",
        "tokens.workload_key_file: null    # default",
        "tokens.any_network: false    # default",
        "tokens.revoked: []    # default",
        "tokens.old_workload_tokens_until: 2027-06-01    # default",
        "audit.file: -    # default",
        "audit.journal: false    # default",
        "admin.address: null    # default",
        "admin.socket: /run/x/admin.sock    # $RUNTIME_DIRECTORY",
        "admin.callers: []    # default",
        "admin.hosts: []    # default",
        "limits.connections: 256    # default",
        "limits.requests_per_second: 2000    # default",
        "limits.new_connections_per_second: 250    # default",
        "limits.tls_handshakes_per_second: 50    # default",
        "limits.all_connections: 20000    # default",
        "network.interfaces: []    # default",
        "network.device: lo    # default",
        "network.take_over: {}    # default",
        "network.syn_rate: null    # default",
        "log.level: debug    # a.yaml:22",
        f"provider.module: {SITE}    # a.yaml:6",
        "provider.class: Machines    # a.yaml:6",
        "provider.account: main    # a.yaml:6",
        "provider.role: site-role    # default",
        "provider.class-name: x    # default",
        "provider.levels[0]: 07    # a.yaml:6",
        "provider.password: ********    # a.yaml:6",
        "provider.limits: {}    # default",
    ]


PEOPLE = """
people:
  listen:
    - {unix: /run/people.sock, mode: 660}
  identity: {header: X-User, trusted: ["::ffff:10.0.0.2", "0"]}
  public_url: https://afp.example/
aws: {region: eu-central-1, console_duration: 3600}
provider: {module: imds_proxy_providers.samples, class: NoAccountNoRoleProvider}
"""


def test_the_callers_of_the_admin_address_are_shown(tmp_path: Path) -> None:
    """Loopback where they are left out."""
    text = CONFIGURATION + 'admin: {address: "[::1]:9338", hosts: [gw1.valid.example]}\n'
    assert [line for line in _describe(tmp_path, text) if line.startswith("admin.")] == [
        "admin.address: [::1]:9338    # a.yaml:23",
        "admin.socket: null    # default",
        "admin.callers[0]: 127.0.0.0/8    # default",
        "admin.callers[1]: ::1/128    # default",
        "admin.hosts[0]: gw1.valid.example    # a.yaml:23",
    ]


def test_the_listener_for_people_is_shown_as_it_is_written(tmp_path: Path) -> None:
    """A mode in octal digits, addresses and uids as they count."""
    described = [
        line for line in _describe(tmp_path, PEOPLE) if line.startswith(("people.", "aws.console_d"))
    ]
    assert {line for line in described if not line.startswith("people.identity.ldap")} == {
        "people.listen[0].address: null    # default",
        "people.listen[0].unix: /run/people.sock    # a.yaml:4",
        "people.listen[0].tls: null    # default",
        "people.listen[0].callers: []    # default",
        "people.listen[0].callers_except: []    # default",
        "people.listen[0].hosts: []    # default",
        "people.listen[0].mode: 0660    # a.yaml:4",
        "people.listen[0].group: null    # default",
        "people.base_path: null    # default",
        "people.public_url: https://afp.example    # a.yaml:6",
        "people.provider: provider    # default",
        "people.callback_urls: []    # default",
        "people.deny: []    # default",
        "people.identity.header: X-User    # a.yaml:5",
        "people.identity.trusted[0]: 10.0.0.2/32    # a.yaml:5",
        "people.identity.trusted[1]: 0    # a.yaml:5",
        "people.identity.secret_file: null    # default",
        "people.identity.secret_header: X-Imds-Proxy-Secret    # default",
        "people.identity.peer: false    # default",
        "aws.console_duration: 1h    # a.yaml:7",
    }


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        (
            "class: UnshowableSettings, account: main, role: swordfish, password: swordfish",
            ["account: ********", "role: ********", "password: ********"],
        ),
        ("class: Opaque, thing: {a: [1, {}]}", ["thing.a[0]: 1", "thing.a[1]: {}"]),
    ],
)
def test_odd_providers_are_shown_without_a_traceback(tmp_path: Path, section: str, lines: list[str]) -> None:
    """What a site's model can't show is hidden; what it changed is shown as written."""
    text = f"""
    listen: [{{address: 127.0.0.1:0}}]
    accounts: {{main: {{id: "123456789012"}}}}
    provider: {{module: {SITE}, {section}}}
    """
    described = _describe(tmp_path, text)
    assert [line.partition("    #")[0] for line in described][-len(lines) :] == [
        f"provider.{line}" for line in lines
    ]
    assert "swordfish" not in "\n".join(described)


def test_texts_that_would_break_a_line_are_quoted(tmp_path: Path) -> None:
    """One line per setting, and the comment is where it begins to be one."""
    text = f"""
    listen: [{{address: 127.0.0.1:0}}]
    provider: {{module: {SITE}, class: Opaque, thing: ["a\\nb", "c    # d", "", " e"]}}
    """
    described = [line for line in _describe(tmp_path, text) if ".thing" in line]
    assert [line.partition(": ")[2].rpartition("    # ")[0] for line in described] == [
        "'a\\nb'",
        "'c    # d'",
        "''",
        "' e'",
    ]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return report_schema.json_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema (by moto's server) is not installed")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_json_of_draft_2020_12(schema: dict[str, Any]) -> None:
    """Editors need to be told the dialect."""
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema


def test_the_schema_knows_no_null(schema: dict[str, Any]) -> None:
    """A key without a value is a fault, so an editor must not offer one."""
    assert "null" not in json.dumps(schema)


def test_the_schema_knows_the_rates_and_the_admin_callers(schema: dict[str, Any]) -> None:
    """The default of `callers` depends on the address, so the schema has none."""
    rates = schema["$defs"]["LimitSettings"]["properties"]
    for key, default in (("new_connections_per_second", 250), ("tls_handshakes_per_second", 50)):
        assert {"default": default, "minimum": 1, "maximum": 1_000_000}.items() <= rates[key].items()
    admin = schema["$defs"]["AdminSettings"]["properties"]
    assert "default" not in admin["callers"]
    assert admin["hosts"]["default"] == []


def test_the_schema_shows_durations_as_they_are_written(schema: dict[str, Any]) -> None:
    """`1h`, not 3600."""
    assert schema["$defs"]["AWSSettings"]["properties"]["session_duration"]["default"] == "1h"
    assert schema["$defs"]["DNSSettings"]["properties"]["attempt_timeout"]["default"] == "300ms"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_follow_the_schema(validator: Any, example: Path) -> None:
    """An editor shows nothing red in them."""
    assert [error.message for error in validator.iter_errors(yaml.safe_load(example.read_text()))] == []


def test_the_schema_has_what_can_not_be_described(tmp_path: Path) -> None:
    """Of a provider that can't be imported or described an editor takes everything but the name."""
    with installed(
        tmp_path, "broken = nowhere:Provider", f"odd = {SITE}:UndescribableSettings", f"one = {SITE}:Machines"
    ):
        variants = report_schema.json_schema()["properties"]["provider"]["anyOf"]
    bare = [each["properties"] for each in variants if each.get("required") == ["type"]]
    assert bare == [{"type": {"const": "broken"}}, {"type": {"const": "odd"}}]
    assert {"$ref": "#/$defs/Good"} in variants


GOOD = {
    "listen": [{"address": "127.0.0.1"}],
    "provider": {"type": "simple", "grants": [{"account": "main", "role": "x"}]},
}
GOOD_PEOPLE = {"listen": [{"unix": "/run/people.sock", "mode": "0660"}], "identity": {"peer": True}}


@pytest.mark.parametrize(
    "change",
    [
        {"provider": {"module": "site.machines", "anything": [1]}},
        {"dns": {"recheck": 5, "stale": "15m"}},
        {"accounts": {"main": {"id": "000123456789", "policy": {"Version": "2012-10-17"}}}},
        {"people": GOOD_PEOPLE},
        {"people": GOOD_PEOPLE | {"identity": {"header": "X-User", "trusted": ["10.0.0.2", 33]}}},
        {"aws": {"console_duration": "8h"}},
        {"admin": {"address": "10.77.0.1", "callers": ["10.77.0.9"], "hosts": ["gw1.valid.example"]}},
    ],
)
def test_the_schema_takes_what_the_program_takes(validator: Any, change: dict[str, Any]) -> None:
    """Bare seconds, policies as maps, a site's own providers."""
    assert validator.is_valid(GOOD | change)


@pytest.mark.parametrize(
    "change",
    [
        {"listen": []},
        {"listen": [{"address": "127.0.0.1", "hop_limit": 65}]},
        {"zzz": 1},
        {"providers": {"a": {"type": "simple", "grants": []}}},
        {"provider": {"type": "nothing"}},
        {"provider": {"type": "by_ip", "zzz": 1}},
        {"dns": {"recheck": "5 fortnights"}},
        {"admin": {"address": "10.77.0.1", "callers": "10.77.0.9"}},
        {"limits": {"tls_handshakes_per_second": 0}},
        {"accounts": {"main": {"id": 123456789012}}},
        {"log": None},
        {"people": GOOD_PEOPLE | {"listen": []}},
        {"people": GOOD_PEOPLE | {"zzz": 1}},
        {"people": {"listen": GOOD_PEOPLE["listen"]}},
        {"people": GOOD_PEOPLE | {"identity": {"header": "X-User", "trusted": []}}},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(validator: Any, change: dict[str, Any]) -> None:
    """As far as a schema can tell."""
    assert validator.is_valid(GOOD)
    assert not validator.is_valid(GOOD | change)
