"""What became of the settings of the AWS Federation Proxy and of alppaca, for whoever brings them along.

Their keys are faults like all that nobody reads; here is what such a fault says. docs/migrating-from-afp.md
has the whole way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imds_proxy.errors import Fault
    from imds_proxy.yaml_nodes import KeyPath
    from imds_proxy.yaml_source import Source, Tree

_LEVELS = {"critical": "error", **{level: level for level in ("debug", "info", "warning", "error")}}
_USER_FIELD = ("api", "user_identification", "environment_field")

_AFP = "the AWS Federation Proxy's"
_ALPPACA = "alppaca's"
_ADVICE: Mapping[str, str] = {
    "api": f"{_AFP}: who is asking is in listen (machines) and in people.identity (people) now",
    "logging_handler": f"{_AFP}: the log goes to stderr now, decisions to audit.file; leave it out",
    "log_level": f"{_AFP}: log.level has it now",
    "log_format": f"{_AFP}: the log has one form now; leave it out",
    "ims_host": f"{_ALPPACA}: machines ask this daemon by themselves; see listen",
    "ims_port": f"{_ALPPACA}: machines ask this daemon by themselves; see listen",
    "ims_protocol": f"{_ALPPACA}: machines ask this daemon by themselves; see listen",
    "bind_ip": f"{_ALPPACA}: listen[].address has it now",
    "bind_port": f"{_ALPPACA}: listen[].address has it now",
    "assume_role": f"{_ALPPACA}: a machine takes a second role by a profile of its own, with role_arn and "
    "credential_source: Ec2InstanceMetadata",
    "aws_proxy_host": f"{_ALPPACA}: aws.https_proxy has it now",
    "aws_proxy_port": f"{_ALPPACA}: aws.https_proxy has it now",
    "aws_region": f"{_ALPPACA}: aws.region has it now",
    "user": f"{_ALPPACA}: the systemd unit says as whom the daemon runs",
    "group": f"{_ALPPACA}: the systemd unit says as whom the daemon runs",
    "api_url": "afp's: it stays where afp reads it, and names what people.listen and people.base_path have",
}
_TYPES = {
    "aws_federation_proxy.provider.grp_provider": "grp",
    "aws_federation_proxy.provider.sssd_provider": "sssd",
    "aws_federation_proxy.provider.ldap_provider": "ldap",
    "aws_federation_proxy.provider.provider_by_ip": "by_ip",
}
"""The modules whose class `Provider` has a short name here."""


def explain(source: Source, path: KeyPath) -> tuple[Fault, ...]:
    """Return the faults that say what became of the unknown key at `path`; none for a key that was none."""
    if len(path) != 1:
        return ()
    key, value = str(path[0]), source.value(path)
    if key == "api":
        return tuple(source.fault(leaf, _explain_api(leaf, source)) for leaf in _leaves(value, path))
    if key == "log_level" and isinstance(value, str) and value.lower() in _LEVELS:
        return (source.fault(path, f"{_AFP}: write log: {{level: {_LEVELS[value.lower()]}}}"),)
    if key in _ADVICE:
        return (source.fault(path, _ADVICE[key]),)
    if isinstance(value, dict) and "id" in value:
        return (source.fault(path, f"an account? Then move it below accounts, as accounts.{key}"),)
    return ()


def _leaves(value: Tree, path: KeyPath) -> Iterator[KeyPath]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    else:
        yield path


def _explain_api(leaf: KeyPath, source: Source) -> str:
    field = source.value(leaf)
    if leaf != _USER_FIELD or not isinstance(field, str):
        return _ADVICE["api"]
    if field == "REMOTE_ADDR":
        return f"{_AFP}: machines are known by their address; listen[].address and callers say which"
    if field.startswith("HTTP_"):
        header = "-".join(part.capitalize() for part in field.removeprefix("HTTP_").split("_"))
        return f"{_AFP}: people.identity now: {{header: {header}, trusted: [...], secret_file: ...}}"
    return (
        f"{_AFP}: people.identity now, one of {{header: X-Remote-User, trusted: [...], secret_file: ...}}, "
        "{ldap: ...} and {peer: true}"
    )


def check(source: Source) -> Iterator[Fault]:
    """Return what follows from old settings elsewhere: the accounts' own folder, modules with a new name."""
    if "api" in source.tree and "accounts" not in source.tree:
        text = "is required: what the folder of $ACCOUNT_CONFIG_PATH has, below accounts"
        yield source.fault(("accounts",), text)
    providers = source.value(("providers",))
    names = providers if isinstance(providers, dict) else {}
    for path in [("provider",), *(("providers", name) for name in names)]:
        module, name = source.value((*path, "module")), source.value((*path, "class"))
        if isinstance(module, str) and module in _TYPES and name in {None, "Provider"}:
            text = f"works; here it is called `type: {_TYPES[module]}`"
            yield source.fault((*path, "module"), text, is_warning=True)
