"""A file or a folder to a configuration: all faults at once, in one pass, or values ready for use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from imds_proxy.config import checks, faults, files, people_checks, sections
from imds_proxy.config.settings import Settings
from imds_proxy.model import Account
from imds_proxy.workload_secrets import WorkloadSecrets
from imds_proxy.yaml_source import Source, read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from imds_proxy.config.sections import ProviderSection
    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Tree

    T = TypeVar("T")

DEFAULT_PATH = Path("/etc/imds-proxy")

AUDIT_FILE = "audit.jsonl"
"""Its name in the folder that systemd keeps for logs."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings without a fault, and what the files they name hold."""

    settings: Settings
    providers: Mapping[str, ProviderSection]
    """By name; `registry` makes providers of them."""
    accounts: Mapping[str, Account]
    secret_key: SecretStr | None
    """Our own key's secret, from the settings or from a file; None when boto3 is to look for a key."""
    token_keys: tuple[bytes, ...] = field(repr=False)
    """What signs IMDS tokens, as `tokens.key_file` has it; empty without that setting."""
    workload_token_keys: tuple[bytes, ...] = field(repr=False)
    """What signs workloads' tokens, as `tokens.workload_key_file` has it; empty without that setting."""
    people_secret: SecretStr | None
    """What a trusted proxy shows; None without `people.identity.secret_file`."""
    workload_secrets: Mapping[Path, WorkloadSecrets]
    """By the folder that a listener's `container.secrets` names."""
    source: Source


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading: a configuration, or faults that say why there is none. Warnings don't count."""

    configuration: Configuration | None
    faults: tuple[Fault, ...]
    """Errors and warnings in the order of files and lines; the providers' own are not among them."""
    providers: Mapping[str, ProviderSection]
    """The sections in order, even where other settings are not: their faults can be shown as well."""
    account_names: frozenset[str]
    """All that `accounts` has, those with faults too."""


def default_path(environ: Mapping[str, str]) -> Path:
    """Return where the configuration is when nobody says: `$IMDS_PROXY_CONFIG`, else /etc/imds-proxy."""
    return Path(environ.get("IMDS_PROXY_CONFIG") or DEFAULT_PATH)


def read_configuration(path: Path, environ: Mapping[str, str]) -> Reading:
    """Return what the file or folder `path` says. Never raises for what is in it."""
    source = read_source(path)
    if not source.is_complete:
        return Reading(None, faults.sort(source.faults), {}, frozenset())
    source = _with_environment(source, environ)
    providers, section_faults = sections.read_sections(source)
    account_names = _keys(source, "accounts")
    found = [*source.faults, *section_faults, *checks.check(source)]
    settings = _validate(source, account_names, found)
    secret_key = _read_file(source, checks.SECRET_KEY_FILE, files.parse_secret_key, found)
    token_keys = _read_file(source, checks.TOKEN_KEY_FILE, files.parse_token_keys, found)
    workload_token_keys = _read_file(source, checks.WORKLOAD_KEY_FILE, files.parse_token_keys, found)
    if set(token_keys or ()) & set(workload_token_keys or ()):
        text = "has a key of tokens.key_file: who has one must not have the other; make another"
        found.append(source.fault(checks.WORKLOAD_KEY_FILE, text))
    people_secret = _read_file(source, people_checks.SECRET_FILE, files.parse_proxy_secret, found)
    workload_secrets = _read_workload_secrets(source, found)
    configuration = None
    if settings is not None and all(fault.is_warning for fault in found):
        configuration = Configuration(
            settings=settings,
            providers=providers,
            accounts={name: account.named(name) for name, account in settings.accounts.items()},
            secret_key=SecretStr(secret_key) if secret_key else settings.aws.secret_key,
            token_keys=token_keys or (),
            workload_token_keys=workload_token_keys or (),
            people_secret=SecretStr(people_secret) if people_secret else None,
            workload_secrets=workload_secrets,
            source=source,
        )
    return Reading(configuration, faults.sort(found), providers, account_names)


def _with_environment(source: Source, environ: Mapping[str, str]) -> Source:
    """Return `source` with the defaults that come from the environment, as if one more file had them."""
    tree, positions = dict(source.tree), dict(source.positions)

    def put(section: str, key: str, value: str, variable: str) -> None:
        existing = tree.get(section, {})
        if isinstance(existing, dict) and key not in existing:
            tree[section] = {**existing, key: value}
            positions[section, key] = f"${variable}"
            positions.setdefault((section,), f"${variable}")

    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if environ.get(variable):
            put("aws", "region", environ[variable], variable)
    # systemd.exec(5): several folders are separated by colons.
    for variable, section, key, name in (
        ("RUNTIME_DIRECTORY", "admin", "socket", "admin.sock"),
        ("LOGS_DIRECTORY", "audit", "file", AUDIT_FILE),
    ):
        if folder := environ.get(variable, "").partition(":")[0]:
            put(section, key, f"{folder}/{name}", variable)
    return replace(source, tree=tree, positions=positions)


def _keys(source: Source, section: str) -> frozenset[str]:
    value = source.value((section,))
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _validate(source: Source, account_names: frozenset[str], found: list[Fault]) -> Settings | None:
    tree: dict[str, Tree] = {key: value for key, value in source.tree.items() if key not in sections.KEYS}
    context = {
        "accounts": account_names,
        "providers": sections.names(source),
        "session": source.value(("aws", "session")),
    }
    try:
        return Settings.model_validate(tree, context=context)
    except ValidationError as error:
        found += faults.describe(error, source, Settings, other_keys=sections.KEYS)
        return None


def _read_workload_secrets(source: Source, found: list[Fault]) -> dict[Path, WorkloadSecrets]:
    secrets: dict[Path, WorkloadSecrets] = {}
    listen = source.value(("listen",))
    for index in range(len(listen) if isinstance(listen, list) else 0):
        path = ("listen", index, "container", "secrets")
        folder = source.value(path)
        if isinstance(folder, str) and folder and Path(folder) not in secrets:
            secrets[Path(folder)] = WorkloadSecrets(Path(folder))
            found += (source.fault(path, problem) for problem in secrets[Path(folder)].problems)
    return secrets


def _read_file(source: Source, path: KeyPath, parse: Callable[[str], T], found: list[Fault]) -> T | None:
    """Return what is in the file that the setting at `path` names, None where there is no such setting."""
    file = source.value(path)
    if not isinstance(file, str) or not file:
        return None
    try:
        return parse(files.read_secret_file(Path(file)))
    except files.FileError as error:
        found.append(source.fault(path, str(error)))
    except ValueError as error:
        found.append(source.fault(path, f"{file}: {error}"))
    return None
