"""Settings of the AWS Federation Proxy and of alppaca: each fault says what became of the key.

In the samples `#! KEY: TEXT` says which fault its own line has, as in test_config_faults.
"""

# ruff: noqa: E501  a sample's line has the whole message that it is about

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy.config import read_configuration

if TYPE_CHECKING:
    from pathlib import Path

REST = {
    "listen": "listen: [{address: 127.0.0.1:0}]",
    "provider": "provider: {type: simple}",
    "accounts": 'accounts: {main: {id: "123456789012"}}',
    "aws": "aws: {region: eu-central-1}",
}

SAMPLES = {
    "who is a person": """
api:
    user_identification:
        environment_field: 'REMOTE_USER'   #! api.user_identification.environment_field: the AWS Federation Proxy's: people.identity now, one of {header: X-Remote-User, trusted: [...], secret_file: ...}, {ldap: ...} and {peer: true}
""",
    "who is a machine": """
api: {user_identification: {environment_field: REMOTE_ADDR}}   #! api.user_identification.environment_field: the AWS Federation Proxy's: machines are known by their address; listen[].address and callers say which
""",
    "a person by a header": """
api: {user_identification: {environment_field: HTTP_X_REMOTE_USER}}   #! api.user_identification.environment_field: the AWS Federation Proxy's: people.identity now: {header: X-Remote-User, trusted: [...], secret_file: ...}
""",
    "other things of the api": """
api:
  page: x                       #! api.page: the AWS Federation Proxy's: who is asking is in listen (machines) and in people.identity (people) now
  user_identification:
    environment_field: [X]
""",
    "an empty api": """
api: {}                         #! api: the AWS Federation Proxy's: who is asking is in listen (machines) and in people.identity (people) now
""",
    "an api that is no map": """
api: latest                     #! api: the AWS Federation Proxy's: who is asking is in listen (machines) and in people.identity (people) now
""",
    "the log": """
logging_handler:                #! logging_handler: the AWS Federation Proxy's: the log goes to stderr now, decisions to audit.file; leave it out
  module: logging.handlers
  class: SysLogHandler
  args: []
log_level: Debug                #! log_level: the AWS Federation Proxy's: write log: {level: debug}
log_format: "%(message)s"       #! log_format: the AWS Federation Proxy's: the log has one form now; leave it out
""",
    "a level that is gone": """
log_level: critical             #! log_level: the AWS Federation Proxy's: write log: {level: error}
""",
    "a level that never was one": """
log_level: [1]                  #! log_level: the AWS Federation Proxy's: log.level has it now
""",
    "accounts at the top": """
main-account: {id: 123456789000}   #! main-account: an account? Then move it below accounts, as accounts.main-account
something: {name: x}            #! something: unknown key; known here: accounts, admin, audit, aws, deny, dns, hosts, limits, listen, log, metadata, network, people, provider, providers, tokens
""",
    "old keys elsewhere mean nothing": """
log: {log_level: debug}         #! log.log_level: unknown key; did you mean level?
""",
    "alppaca": """
ims_host: afp.example           #! ims_host: alppaca's: machines ask this daemon by themselves; see listen
ims_port: 8080                  #! ims_port: alppaca's: machines ask this daemon by themselves; see listen
ims_protocol: http              #! ims_protocol: alppaca's: machines ask this daemon by themselves; see listen
bind_ip: 127.0.0.1              #! bind_ip: alppaca's: listen[].address has it now
bind_port: 25772                #! bind_port: alppaca's: listen[].address has it now
assume_role: arn:aws:iam::123456789012:role/x   #! assume_role: alppaca's: a machine takes a second role by a profile of its own, with role_arn and credential_source: Ec2InstanceMetadata
aws_proxy_host: proxy           #! aws_proxy_host: alppaca's: aws.https_proxy has it now
aws_proxy_port: 3128            #! aws_proxy_port: alppaca's: aws.https_proxy has it now
aws_region: eu-central-1        #! aws_region: alppaca's: aws.region has it now
user: nobody                    #! user: alppaca's: the systemd unit says as whom the daemon runs
group: nobody                   #! group: alppaca's: the systemd unit says as whom the daemon runs
""",
    "afp": """
api_url: https://afp.example/afp-api/latest   #! api_url: afp's: it stays where afp reads it, and names what people.listen and people.base_path have
""",
    "modules": """
listen: [{address: 127.0.0.1:0, provider: a}]
providers:
  a:
    module: aws_federation_proxy.provider.grp_provider    #! providers.a.module: warning: works; here it is called `type: grp`
    class: Provider
  b: {module: aws_federation_proxy.provider.sssd_provider}   #! providers.b.module: warning: works; here it is called `type: sssd`
  c: {module: aws_federation_proxy.provider.ldap_provider}   #! providers.c.module: warning: works; here it is called `type: ldap`
  d: {module: aws_federation_proxy.provider.provider_by_ip}   #! providers.d.module: warning: works; here it is called `type: by_ip`
  e: {module: aws_federation_proxy.provider.provider_by_ip, class: ProviderByIP}
  f: {module: aws_federation_proxy.provider.base_provider, class: SimpleTestProvider}
""",
}
API = "the AWS Federation Proxy's: who is asking is in listen (machines) and in people.identity (people) now"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_old_keys_say_what_became_of_them(tmp_path: Path, sample: str) -> None:
    """At the line of the key, and nothing else is wrong."""
    file = tmp_path / "a.yaml"
    lines = sample.strip("\n").split("\n")
    keys = {line.partition(":")[0] for line in lines}
    if "providers" in keys:
        keys.add("provider")
    file.write_text("\n".join([*lines, *(text for key, text in REST.items() if key not in keys)]) + "\n")
    expected = [
        f"{file}:{number}: {text.strip()}"
        for number, line in enumerate(lines, 1)
        for text in line.split("#!")[1:]
    ]
    if "[X]" in sample:
        expected.append(f"{file}:4: api.user_identification.environment_field: {API}")
    assert sorted(str(fault) for fault in read_configuration(file, {}).faults) == sorted(expected)


def test_the_folder_of_the_accounts_is_missed(tmp_path: Path) -> None:
    """The old program read it apart from the rest."""
    file = tmp_path / "a.yaml"
    rest = [text for key, text in REST.items() if key != "accounts"]
    file.write_text("\n".join(["api: {user_identification: {environment_field: REMOTE_ADDR}}", *rest]))
    faults = {fault.key: fault.text for fault in read_configuration(file, {}).faults}
    assert faults["accounts"] == "is required: what the folder of $ACCOUNT_CONFIG_PATH has, below accounts"
    file.write_text("\n".join(rest))
    assert read_configuration(file, {}).faults == ()
