"""A configuration without a fault: defaults, typed values, the environment, files, the examples."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from datetime import date
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_proxy import config, registry
from imds_proxy.config import Configuration, SocketAddress, read_configuration
from imds_proxy.model import Account
from tests.standins.privileges import without_privileges

EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[2] / "examples").glob("*.yaml")
    if path.name != "alerts.yaml"  # is Prometheus'
)

LEAST = """
listen: [{address: 127.0.0.1:0}]
provider: {type: simple}
aws: {region: eu-central-1}
"""


def _write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def _read(folder: Path, text: str, environ: dict[str, str] | None = None) -> Configuration:
    """Return what `text` configures; it must be without a fault."""
    reading = read_configuration(_write(folder / "a.yaml", text), environ or {})
    assert [str(fault) for fault in reading.faults] == []
    assert reading.configuration is not None
    return reading.configuration


def test_defaults(tmp_path: Path) -> None:
    """What the manual promises for everything that is left out."""
    configuration = _read(tmp_path, LEAST)
    assert configuration.settings.model_dump(exclude={"metadata"}) == {
        "listen": (
            {
                "address": SocketAddress(IPv4Address("127.0.0.1"), 0),
                "tls": None,
                "callers": (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
                "callers_except": (),
                "provider": "provider",
                "imds_v1": False,
                "credentials": True,
                "list_without_token": False,
                "base_path": None,
                "hop_limit": 1,
                "hosts": (),
                "container": None,
            },
        ),
        "people": None,
        "accounts": {},
        "aws": {
            "region": "eu-central-1",
            "session_duration": 3600,
            "session": "per-caller",
            "access_key": None,
            "secret_key": None,
            "secret_key_file": None,
            "profile": None,
            "partition": "aws",
            "sts_endpoint": None,
            "https_proxy": None,
            "ca_bundle": None,
            "signin_endpoint": None,
            "console_endpoint": None,
            "console_duration": None,
            "use_instance_metadata": False,
        },
        "dns": {
            "nameservers": None,
            "attempt_timeout": 0.3,
            "deadline": 2.0,
            "recheck": 5.0,
            "stale": 900.0,
        },
        "hosts": {},
        "deny": (),
        "network": {"interfaces": (), "device": "lo", "take_over": {}, "syn_rate": None},
        "tokens": {
            "key_file": None,
            "workload_key_file": None,
            "any_network": False,
            "revoked": (),
            "old_workload_tokens_until": date(2027, 6, 1),
        },
        "audit": {"file": "-", "journal": False},
        "admin": {"address": None, "socket": None, "callers": (), "hosts": ()},
        "limits": {
            "connections": 256,
            "requests_per_second": 2000,
            "new_connections_per_second": 250,
            "tls_handshakes_per_second": 50,
            "all_connections": 20_000,
        },
        "log": {"level": "info"},
    }
    assert configuration.settings.metadata.model_dump(mode="json") == {
        "defaults": {
            "ami_id": "ami-00000000000000000",
            "ami_launch_index": "0",
            "availability_zone": "{region}a",
            "availability_zone_id": None,
            "group_name": None,
            "hostname": "{name}",
            "instance_id": None,
            "instance_life_cycle": "on-demand",
            "instance_type": "bare.metal",
            "profile": "default-hvm",
            "public_keys": {},
            "region": None,
            "reservation_id": None,
            "security_groups": ["default"],
            "tags": {},
        },
        "domains": {},
        "hosts": {},
        "user_data": None,
    }
    assert configuration.accounts == {}
    assert configuration.secret_key is None
    assert configuration.token_keys == configuration.workload_token_keys == ()
    assert configuration.people_secret is None


def test_values_have_types(tmp_path: Path) -> None:
    """Nobody behind the configuration parses a text."""
    configuration = _read(
        tmp_path,
        """
        listen:
          - {address: "[fd00:ec2::254]", callers: ["fd00:77::/32", 10.77.0.9], callers_except: ["fd00:77::9"],
             imds_v1: yes, hop_limit: 64, hosts: [IMDS.rz.example., 10.77.0.1], provider: b}
          - {address: 10.77.0.1:8080, callers: [], provider: a}
        providers: {a: {type: simple, x: 1}, b: {module: site.machines, class: Machines}}
        accounts:
          main: {id: 000123456789, path: /machines/, external_id: abc, policy: {a: [b]},
                 session_tags: {host: "{name}", gateway: one}, source_identity: true}
        aws: {region: cn-north-1, session_duration: 12h, session: per-caller, console_duration: 15m}
        dns: {nameservers: [10.77.0.3, "[fd00::3]:5353"], recheck: 0, stale: 0s}
        hosts: {"::ffff:10.0.0.5": Tuvfoo42.valid.example.}
        deny: ["::ffff:10.77.3.9", TUVFOO43.valid.example]
        admin: {address: "[::1]", socket: /run/x.sock, hosts: [GW1.rz.example., "::ffff:10.77.0.1"]}
        limits: {new_connections_per_second: 1, tls_handshakes_per_second: 1000000}
        """,
    )
    made = configuration.settings
    first, second = made.listen
    assert first.address == SocketAddress(IPv6Address("fd00:ec2::254"), 80)
    assert first.callers == (IPv6Network("fd00:77::/32"), IPv4Network("10.77.0.9/32"))
    assert first.callers_except == (IPv6Network("fd00:77::9/128"),)
    assert (first.imds_v1, first.hop_limit, first.provider) == (True, 64, "b")
    assert first.hosts == ("imds.rz.example", IPv4Address("10.77.0.1"))
    assert second.callers == ()
    assert configuration.providers["a"].settings == {"x": "1"}
    assert configuration.providers["b"].module == "site.machines"
    assert configuration.providers["b"].class_name == "Machines"
    assert configuration.accounts["main"] == Account(
        name="main",
        id="000123456789",
        path="/machines/",
        external_id="abc",
        session_tags=(("host", "{name}"), ("gateway", "one")),
        policy='{"a":["b"]}',
        has_source_identity=True,
    )
    assert (made.aws.session_duration, made.aws.partition) == (43200, "aws-cn")
    assert made.aws.console_duration == 900
    assert made.dns.nameservers == (
        SocketAddress(IPv4Address("10.77.0.3"), 53),
        SocketAddress(IPv6Address("fd00::3"), 5353),
    )
    assert (made.dns.recheck, made.dns.stale) == (0, 0)
    assert made.hosts == {IPv4Address("10.0.0.5"): "tuvfoo42.valid.example"}
    assert made.deny == (IPv4Address("10.77.3.9"), "tuvfoo43.valid.example")
    assert made.admin.address == SocketAddress(IPv6Address("::1"), 9338)
    assert made.admin.socket == Path("/run/x.sock")
    assert made.admin.hosts == ("gw1.rz.example", IPv4Address("10.77.0.1"))
    assert made.limits.new_connections_per_second == 1
    assert made.limits.tls_handshakes_per_second == 1_000_000


def test_an_empty_list_of_callers_allows_nobody(tmp_path: Path) -> None:
    """Even on loopback `[]` is not the same as nothing said."""
    text = LEAST.replace("{address: 127.0.0.1:0}", "{address: 127.0.0.1:0, callers: []}")
    assert _read(tmp_path, text).settings.listen[0].callers == ()


@pytest.mark.parametrize(
    ("admin", "callers"),
    [
        ("{address: 127.0.0.1}", (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))),
        ('{address: "[::1]:80"}', (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))),
        ('{address: "[::ffff:127.0.0.1]"}', (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))),
        ("{address: 127.0.0.1, callers: []}", ()),
        ("{address: 0.0.0.0, callers: []}", ()),
        (
            '{address: 10.77.0.1, callers: [10.77.0.9, "fd00::/64"]}',
            (IPv4Network("10.77.0.9/32"), IPv6Network("fd00::/64")),
        ),
        ("{socket: /run/x.sock}", ()),
    ],
)
def test_callers_of_the_admin_address(
    tmp_path: Path, admin: str, callers: tuple[IPv4Network | IPv6Network, ...]
) -> None:
    """Loopback is the default on loopback; elsewhere the file decides, and `[]` allows nobody."""
    assert _read(tmp_path, f"{LEAST}\nadmin: {admin}").settings.admin.callers == callers


@pytest.mark.parametrize(
    ("environ", "region", "where"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1", "$AWS_REGION"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2", "$AWS_DEFAULT_REGION"),
    ],
)
def test_the_region_may_come_from_the_environment(
    tmp_path: Path, environ: dict[str, str], region: str, where: str
) -> None:
    """As AWS's own tools take it; the file wins."""
    text = LEAST.replace("aws: {region: eu-central-1}", "aws: {session: shared}")
    configuration = _read(tmp_path, text, environ)
    assert configuration.settings.aws.region == region
    assert configuration.source.where(("aws", "region")) == where
    assert _read(tmp_path, LEAST, environ).settings.aws.region == "eu-central-1"


def test_the_admin_socket_is_where_systemd_says(tmp_path: Path) -> None:
    """RUNTIME_DIRECTORY may have several folders; the file wins."""
    environ = {"RUNTIME_DIRECTORY": "/run/imds-proxy:/run/other"}
    made = _read(tmp_path, LEAST, environ).settings
    assert made.admin.socket == Path("/run/imds-proxy/admin.sock")
    text = f"{LEAST}\nadmin: {{socket: /tmp/x}}"
    assert _read(tmp_path, text, environ).settings.admin.socket == Path("/tmp/x")


def test_the_audit_log_is_where_systemd_says(tmp_path: Path) -> None:
    """LOGS_DIRECTORY may have several folders; the file wins, `-` included; without either it is stdout."""
    environ = {"LOGS_DIRECTORY": "/var/log/imds-proxy:/var/log/other"}
    made = _read(tmp_path, LEAST, environ)
    assert made.settings.audit.file == "/var/log/imds-proxy/audit.jsonl"
    assert made.source.where(("audit", "file")) == "$LOGS_DIRECTORY"
    for file in ("-", "stderr", "/tmp/x"):
        text = f"{LEAST}\naudit: {{file: '{file}'}}"
        assert _read(tmp_path, text, environ).settings.audit.file == file
    both = _read(tmp_path, f"{LEAST}\naudit: {{journal: true}}", environ).settings.audit
    assert (both.file, both.journal) == ("/var/log/imds-proxy/audit.jsonl", True)
    assert _read(tmp_path, LEAST, {"LOGS_DIRECTORY": ""}).settings.audit.file == "-"


def test_the_default_path() -> None:
    """The variable, then the folder in /etc."""
    assert config.default_path({"IMDS_PROXY_CONFIG": "/x/y.yaml"}) == Path("/x/y.yaml")
    assert config.default_path({"IMDS_PROXY_CONFIG": ""}) == Path("/etc/imds-proxy")
    assert config.default_path({}) == Path("/etc/imds-proxy")


KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_secrets_are_read_and_never_shown(tmp_path: Path) -> None:
    """The key's secret comes from a file of its own, the token keys too; no repr has them."""
    secret = _write(tmp_path / "secret", "wJalrXUtnFEMI\n", 0o640)
    keys = _write(tmp_path / "keys", f"{KEY}\n")
    configuration = _read(
        tmp_path,
        LEAST.replace("eu-central-1}", f"eu-central-1, access_key: AKIA, secret_key_file: {secret}}}")
        + f"tokens: {{key_file: {keys}}}\n"
        + "accounts: {main: {id: '123456789012', external_id: swordfish}}\n",
    )
    assert configuration.secret_key is not None
    assert configuration.secret_key.get_secret_value() == "wJalrXUtnFEMI"
    assert configuration.token_keys == (bytes(range(32)),)
    assert configuration.accounts["main"].external_id == "swordfish"
    for secret_text in ("wJalrXUtnFEMI", KEY, "swordfish", str(bytes(range(32)))):
        assert secret_text not in repr(configuration)


def test_a_secret_in_the_yaml_itself(tmp_path: Path) -> None:
    """Allowed in a file that others can't read; the repr of settings hides it, and a proxy's password."""
    configuration = _read(
        tmp_path,
        LEAST.replace(
            "eu-central-1}",
            "eu-central-1, access_key: AKIA, secret_key: wJalrXUtnFEMI, https_proxy: 'http://u:swordfish@p'}",
        ),
    )
    assert configuration.secret_key is not None
    assert configuration.secret_key.get_secret_value() == "wJalrXUtnFEMI"
    assert configuration.settings.aws.https_proxy == "http://u:swordfish@p"
    assert "wJalrXUtnFEMI" not in repr(configuration)
    assert "swordfish" not in repr(configuration)


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("access_key: AKIA, secret_key: x", "aws.secret_key"),
        ("https_proxy: 'http://u:p@proxy'", "aws.https_proxy"),
    ],
)
def test_a_yaml_file_with_a_secret_is_not_for_others(tmp_path: Path, setting: str, key: str) -> None:
    """Only the file that has it: the others of a folder may be open."""
    _write(tmp_path / "1.yaml", "listen: [{address: 127.0.0.1:0}]\nprovider: {type: simple}\n", 0o644)
    file = _write(
        tmp_path / "2.yaml",
        f"aws:\n  region: eu-central-1\n  {setting.replace(', ', chr(10) + '  ')}\n",
        0o644,
    )
    (fault,) = read_configuration(tmp_path, {}).faults
    line = file.read_text().count("\n")
    assert str(fault) == f"{file}:{line}: {key}: {file} has a secret and others can read it; chmod o= {file}"
    file.chmod(0o640)
    assert read_configuration(tmp_path, {}).configuration is not None


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (KEY, 0o604, "{file} has a secret and others can read it; chmod o= {file}"),
        (KEY, 0o602, "{file} has a secret and others can read it; chmod o= {file}"),
        ("short", 0o600, "{file}: line 1 is not base64 of 32 bytes or more"),
        ("é", 0o600, "{file} is not a text of ASCII characters"),
        ("A" * 70_000, 0o600, "{file} has more than 65536 bytes"),
    ],
)
def test_token_key_files_that_can_not_be_used(tmp_path: Path, content: str, mode: int, text: str) -> None:
    """The fault stands at the setting and names the file."""
    file = _write(tmp_path / "keys", content, mode)
    path = _write(tmp_path / "a.yaml", f"{LEAST}tokens:\n  key_file: {file}\n")
    (fault,) = read_configuration(path, {}).faults
    assert str(fault) == f"{path}:6: tokens.key_file: {text.format(file=file)}"


@pytest.mark.parametrize(
    ("content", "mode", "text"), [("short", 0o600, "{file}: line 1 is"), (KEY, 0o604, "{file} has")]
)
def test_workload_key_files_that_can_not_be_used(tmp_path: Path, content: str, mode: int, text: str) -> None:
    """The file is read as `key_file` is."""
    file = _write(tmp_path / "keys", content, mode)
    path = _write(tmp_path / "a.yaml", f"{LEAST}tokens:\n  workload_key_file: {file}\n")
    (fault,) = read_configuration(path, {}).faults
    assert str(fault).startswith(f"{path}:6: tokens.workload_key_file: {text.format(file=file)}")


def test_one_key_for_two_purposes(tmp_path: Path) -> None:
    """A key of both files is a fault, wherever it stands in them; other keys are none."""
    other = base64.b64encode(b"o" * 32).decode()
    first = _write(tmp_path / "first", f"{KEY.strip()}\n{other}\n")
    second = _write(tmp_path / "second", f"{other}\n")
    tokens = f"tokens:\n  key_file: {first}\n  workload_key_file: {second}\n"
    path = _write(tmp_path / "a.yaml", LEAST + tokens)
    (fault,) = read_configuration(path, {}).faults
    assert str(fault).startswith(f"{path}:7: tokens.workload_key_file: has a key of tokens.key_file")
    first.write_text(KEY)
    configuration = read_configuration(path, {}).configuration
    assert configuration is not None
    assert configuration.workload_token_keys == (b"o" * 32,)
    assert configuration.token_keys == (bytes(range(32)),)


def test_a_secret_key_file_that_can_not_be_used(tmp_path: Path) -> None:
    """A folder, or two lines."""
    template = LEAST.replace("eu-central-1}", "eu-central-1, access_key: A, secret_key_file: {}}")
    path = tmp_path / "a.yaml"
    _write(path, template.replace("{}", str(tmp_path)))
    assert [fault.text for fault in read_configuration(path, {}).faults] == [
        f"{tmp_path} can't be read: is not a regular file"
    ]
    file = _write(tmp_path / "secret", "a\nb\n")
    _write(path, template.replace("{}", str(file)))
    assert [fault.text for fault in read_configuration(path, {}).faults] == [
        f"{file}: must have the secret key on one line and nothing else"
    ]


def test_a_key_file_without_permission_is_a_fault() -> None:
    """The reason is the system's."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are open to one user alone
        folder = Path(name)
        folder.chmod(0o755)
        file = _write(folder / "keys", KEY, 0)
        path = _write(folder / "a.yaml", f"{LEAST}tokens: {{key_file: {file}}}\n", 0o644)
        with without_privileges():
            (fault,) = read_configuration(path, {}).faults
    assert fault.text == f"{file} can't be read: Permission denied"


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "[::1]", "localhost"])
def test_plain_http_on_loopback_needs_no_warning(tmp_path: Path, host: str) -> None:
    """A stand-in for STS, or a tunnel's end; nor does a bundle that is there."""
    bundle = _write(tmp_path / "ca.pem", "")
    made = _read(
        tmp_path,
        LEAST.replace("eu-central-1}", f"eu-central-1, sts_endpoint: 'http://{host}', ca_bundle: {bundle}}}"),
    ).settings
    assert made.aws.sts_endpoint == f"http://{host}"
    assert made.aws.ca_bundle == bundle


def test_a_faulty_account_still_counts_as_known(tmp_path: Path) -> None:
    """One mistake gives one fault: who names the account is not blamed for it too."""
    path = _write(tmp_path / "a.yaml", LEAST + "accounts: {main: {id: x}}\n")
    reading = read_configuration(path, {})
    assert reading.configuration is None
    assert reading.account_names == {"main"}
    assert list(reading.providers) == ["provider"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_without_a_fault(example: Path) -> None:
    """Not even a warning; their providers are built too."""
    loaded = registry.load(example, {})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.configuration is not None
    assert loaded.providers


def test_there_are_the_examples_that_the_manual_names() -> None:
    """The test before this one has something to look at."""
    assert {example.name for example in EXAMPLES} >= {
        "minimal.yaml",
        "gateway.yaml",
        "containers.yaml",
        "people.yaml",
        "this-host.yaml",
    }


def test_reading_needs_no_heavy_imports() -> None:
    """The daemon listens before boto3 and aiohttp's clients are there."""
    program = "import sys, imds_proxy.registry; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    assert "pydantic" in modules
    assert not {"boto3", "botocore", "aiohttp", "dns", "asyncio", "click", "prometheus_client"} & set(modules)


_KEYS = st.sampled_from(
    [
        *("listen", "address", "callers", "provider", "providers", "type", "module", "class", "accounts"),
        *("main", "id", "session_tags", "policy", "external_id", "aws", "region", "secret_key", "access_key"),
        *("secret_key_file", "https_proxy", "sts_endpoint", "ca_bundle", "session", "dns", "nameservers"),
        *("hosts", "10.0.0.5", "deny", "tokens", "key_file", "audit", "admin", "socket", "limits", ""),
        *("connections", "log", "level", "people", "unix", "tls", "certificate", "key", "client_ca", "mode"),
        *("identity", "header", "trusted", "secret_file", "secret_header", "peer", "callback_urls", "group"),
        *("public_url", "base_path", "signin_endpoint", "console_duration", "zzz"),
        *("api", "user_identification", "environment_field", "log_level"),
    ]
)
_SCALARS = (
    st.sampled_from(
        [
            *("127.0.0.1:0", "10.0.0.0/8", "simple", "shared", "eu-central-1", "/nowhere", "1h", "8", "-1"),
            *(
                "true",
                "{}",
                "{name}",
                "http://[",
                "\ud7ff",
                "é",
                "0660",
                "root",
                "X-User",
                "https://a.example/",
            ),
        ]
    )
    | st.text(max_size=10)
    | st.none()
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tree=st.dictionaries(_KEYS, _TREES, min_size=1, max_size=8))
def test_no_configuration_raises(tmp_path: Path, tree: dict[str, object]) -> None:
    """Any shape at any place: faults of one printable line each, or a configuration."""
    path = _write(tmp_path / "a.yaml", yaml.safe_dump(tree))
    loaded = registry.load(path, {})
    assert loaded.configuration is not None or loaded.faults
    assert all(str(fault).isprintable() for fault in loaded.faults)


def _mutate(tree: object, spot: int, replacement: object) -> tuple[object, int]:
    """Return `tree` with its value number `spot` replaced, and how many values it has."""
    if spot == 0:
        return replacement, 1
    count = 1
    items = (
        list(tree.items())
        if isinstance(tree, dict)
        else list(enumerate(tree))
        if isinstance(tree, list)
        else []
    )
    children: dict[object, object] = {}
    for key, child in items:
        children[key], size = _mutate(child, spot - count, replacement)
        count += size
    if isinstance(tree, dict):
        return children, count
    return (list(children.values()) if isinstance(tree, list) else tree), count


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(example=st.sampled_from(EXAMPLES), spot=st.integers(min_value=1, max_value=90), replacement=_TREES)
def test_a_good_configuration_with_one_wrong_value_does_not_raise(
    tmp_path: Path, example: Path, spot: int, replacement: object
) -> None:
    """Whatever stands where a good value stood."""
    good = yaml.safe_load(example.read_text())
    tree, _ = _mutate(good, spot, replacement)
    loaded = registry.load(_write(tmp_path / "a.yaml", yaml.safe_dump(tree)), {})
    assert loaded.configuration is not None or loaded.faults
    assert all(str(fault).isprintable() for fault in loaded.faults)
