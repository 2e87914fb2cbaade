"""Every fault of the settings, with its exact file, line and key.

In the samples `#! KEY: TEXT` says which fault its own line has; a line may have several. Sections that a
sample leaves out are added at its end, so that nothing else is wrong with it.
"""

# ruff: noqa: E501  a sample's line has the whole message that it is about

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_proxy.config import read_configuration

if TYPE_CHECKING:
    from pathlib import Path

    from imds_proxy.config import Reading

REST = {
    "listen": "listen: [{address: 127.0.0.1:0}]",
    "provider": "provider: {type: simple}",
    "accounts": 'accounts: {main: {id: "123456789012"}}',
    "aws": "aws: {region: eu-central-1}",
}


def _read(file: Path, sample: str) -> Reading:
    """Return what is read from a sample with the sections it lacks."""
    lines = sample.strip("\n").split("\n")
    keys = {line.partition(":")[0] for line in lines}
    if "providers" in keys:
        keys.add("provider")
    file.write_text("\n".join([*lines, *(text for key, text in REST.items() if key not in keys)]) + "\n")
    file.chmod(0o600)
    return read_configuration(file, {})


def _expected(file: Path, sample: str) -> list[str]:
    return [
        f"{file}:{number}: {text.strip()}"
        for number, line in enumerate(sample.strip("\n").split("\n"), 1)
        for text in line.split("#!")[1:]
    ]


SAMPLES = {
    "listen without an entry": """
listen: []                      #! listen: must not be empty
""",
    "listen is no list": """
listen: {address: 127.0.0.1}    #! listen: must be a list
""",
    "an entry is no map": """
listen:
  - 127.0.0.1                   #! listen[0]: must be a map (KEY: VALUE)
""",
    "a container endpoint without a token": """
listen:
  - address: 127.0.0.1
    container:
      token: No
      secrets: /nowhere         #! listen[0].container.secrets: has no meaning with `token: false` #! listen[0].container.secrets: /nowhere can't be read: No such file or directory
      identity: workload        #! listen[0].container.identity: workload needs a token that proves which one it is
""",
    "a container endpoint and metadata": """
listen:
  - address: 10.0.0.1:80        #! listen[0].address: warning: SDKs fetch container credentials by plain http from loopback, 169.254.170.2, 169.254.170.23 and [fd00:ec2::23] only, not from 10.0.0.1: set tls beside it
    callers: [10.0.0.0/8]
    container: {}
    imds_v1: true               #! listen[0].imds_v1: has no meaning beside container: no metadata is served here
    list_without_token: false   #! listen[0].list_without_token: has no meaning beside container: no metadata is served here
    base_path: /afp             #! listen[0].base_path: has no meaning beside container: no metadata is served here
    hop_limit: 1                #! listen[0].hop_limit: has no meaning beside container: no metadata is served here
  - {address: "169.254.170.2:80", callers: [10.0.0.0/8], container: {}}
  - {address: "[fd00:ec2::23]:80", callers: [10.0.0.0/8], container: {}}
  - {address: "0.0.0.0:81", callers: [10.0.0.0/8], container: {}}
""",
    "no credentials": """
listen:
  - {address: 127.0.0.1:80, imds_v1: true, credentials: false}
  - address: 127.0.0.1:81
    credentials: off
    list_without_token: false   #! listen[1].list_without_token: has no meaning with `credentials: false`
    base_path: /afp             #! listen[1].base_path: has no meaning with `credentials: false`
    imds_v1: true
""",
    "a container's path": """
listen:
  - address: 127.0.0.1
    container:
      path: v1/credentials      #! listen[0].container.path: 'v1/credentials' is not a path such as /v1/credentials: a slash before each segment and none at the end, segments of A-Z a-z 0-9 - . _ ~ and neither . nor ..
      identity: host            #! listen[0].container.identity: must be 'address' or 'workload'
      paht: /v1                 #! listen[0].container.paht: unknown key; did you mean path?
""",
    "an empty entry": """
listen:
  -                             #! listen[0]: has no value; leave the key out for the default, or write [] for an empty list
""",
    "unknown keys": """
listen:
  - address: 127.0.0.1
    caller: []                  #! listen[0].caller: unknown key; did you mean callers?
    x: 1                        #! listen[0].x: unknown key; known here: address, base_path, callers, callers_except, container, credentials, hop_limit, hosts, imds_v1, list_without_token, provider, tls
persons: []                     #! persons: unknown key; known here: accounts, admin, audit, aws, deny, dns, hosts, limits, listen, log, metadata, network, people, provider, providers, tokens
acounts: {}                     #! acounts: unknown key; did you mean accounts?
admin: {adress: 1}              #! admin.adress: unknown key; did you mean address?
""",
    "listen addresses": """
listen:
  - address: localhost:80       #! listen[0].address: 'localhost:80' is not ADDRESS:PORT such as 169.254.169.254:80 or [fd00:ec2::254]:80 (IPv6 in brackets, no host name)
  - address: fd00::1            #! listen[1].address: 'fd00::1' is not ADDRESS:PORT such as 169.254.169.254:80 or [fd00:ec2::254]:80 (IPv6 in brackets, no host name)
  - address: 127.0.0.1:65536    #! listen[2].address: '127.0.0.1:65536': ports end at 65535
  - address: "127.0.0.1:"       #! listen[3].address: '127.0.0.1:' is not ADDRESS:PORT such as 169.254.169.254:80 or [fd00:ec2::254]:80 (IPv6 in brackets, no host name)
  - callers: []                 #! listen[4].address: is required
  - address: []                 #! listen[5].address: must be a text
  - address: 127.0.0.1:8080
  - address: "[::ffff:127.0.0.1]:8080"   #! listen[7].address: 127.0.0.1:8080 is at FILE:8 too
  - address: 127.0.0.1:0
  - address: 127.0.0.1:0
admin:
  address: 127.0.0.1:8080       #! admin.address: 127.0.0.1:8080 is at FILE:8 too
""",
    "callers": """
listen:
  - address: 10.77.0.1          #! listen[0].callers: is required, because 10.77.0.1:80 is not a loopback address: list the networks that may talk to it ([] allows nobody)
  - address: "[::]:80"          #! listen[1].callers: is required, because [::]:80 is not a loopback address: list the networks that may talk to it ([] allows nobody)
  - address: 127.0.0.1:80
    callers:                    #! listen[2].callers: has no value; leave the key out for the default, or write [] for an empty list
  - address: 10.77.0.2
    callers: 10.0.0.0/8         #! listen[3].callers: must be a list
  - address: 10.77.0.3
    callers:
      - 10.77.0.9/16            #! listen[4].callers[0]: 10.77.0.9/16 has bits set behind its mask; write 10.77.0.0/16, or 10.77.0.9 for the one address
      - fd00::1/64              #! listen[4].callers[1]: fd00::1/64 has bits set behind its mask; write fd00::/64, or fd00::1 for the one address
      - 10.0.0.0/33             #! listen[4].callers[2]: '10.0.0.0/33' is not a network such as 10.77.0.0/16
      - 10.0.0.0/0.0.0.255      #! listen[4].callers[3]: '10.0.0.0/0.0.0.255' is not a network such as 10.77.0.0/16
      - valid.example           #! listen[4].callers[4]: 'valid.example' is not a network such as 10.77.0.0/16
      -                         #! listen[4].callers[5]: has no value; leave the key out for the default, or write [] for an empty list
    callers_except: [010.0.0.1] #! listen[4].callers_except[0]: '010.0.0.1' is not a network such as 10.77.0.0/16
""",
    "the rest of a listener": """
listen:
  - address: 127.0.0.1
    imds_v1: perhaps            #! listen[0].imds_v1: must be true or false
    hop_limit: 0                #! listen[0].hop_limit: must be 1 or more
    hosts: [a_b.c, "x y"]       #! listen[0].hosts[1]: 'x y' is neither an address nor a host name
  - address: 127.0.0.2
    hop_limit: 65               #! listen[1].hop_limit: must be 64 or less
    provider: other             #! listen[1].provider: no provider 'other'; known: provider
  - address: 127.0.0.3
    hop_limit: one              #! listen[2].hop_limit: must be a whole number
    provider: []                #! listen[2].provider: must be a text
""",
    "base paths": """
listen:
  - {address: 127.0.0.1, imds_v1: true, base_path: afp-api}   #! listen[0].base_path: 'afp-api' is not a path such as /afp-api/latest: a slash before each segment and none at the end, segments of A-Z a-z 0-9 - . _ ~ and neither . nor ..
  - {address: 127.0.0.2, imds_v1: true, base_path: /latest}   #! listen[1].base_path: '/latest': /latest is the metadata service's own
  - {address: 127.0.0.3, imds_v1: true, base_path: []}        #! listen[2].base_path: must be a text
  - {address: 127.0.0.4, imds_v1: false, base_path: /afp-api/latest}
  - {address: 127.0.0.5, base_path: /afp-api/latest}          #! listen[4].base_path: warning: its clients (alppaca, boto 2) know no token and get 401: set imds_v1 beside it
""",
    "link-local callers": """
listen:
  - address: "[fd00:ec2::254]:80"
    callers:
      - fd77::/32
      - fe80::/10               #! listen[0].callers[1]: warning: link-local: refused all the same, as a machine on another link may have the same address
      - fe80::5                 #! listen[0].callers[2]: warning: link-local: refused all the same, as a machine on another link may have the same address
      - 169.254.0.0/16
      - ::/0
      - fe80::/9000             #! listen[0].callers[5]: 'fe80::/9000' is not a network such as 10.77.0.0/16
""",
    "which of two providers": """
listen:
  - address: 127.0.0.1          #! listen[0].provider: is required: there are several, a, b
  - {address: 127.0.0.2, provider: c}  #! listen[1].provider: no provider 'c'; known: a, b
providers:
  a: {type: simple}
  b: {type: by_ip}
""",
    "sections of providers": """
listen: [{address: 127.0.0.1, provider: a}]
providers:
  a: {}                         #! providers.a.type: is required (or module)
  b:                            #! providers.b: must be a map, such as {type: by_ip, ...}
  c: {type: simple, module: x}  #! providers.c.module: and type can't both be given
  d: {type: simple, class: X}   #! providers.d.class: needs module beside it
  e: {type: []}                 #! providers.e.type: has no value; leave the key out for the default, or write [] for an empty list
  f: {module: [x], class: 1}    #! providers.f.module: must be a text
  g: []                         #! providers.g: must be a map, such as {type: by_ip, ...}
""",
    "no provider in providers": """
providers: {}                   #! providers: is empty; it needs a provider, such as {type: by_ip, ...}
""",
    "providers is a list": """
providers: [{type: simple}]     #! providers: must be a map of names and providers, such as {type: by_ip, ...}
""",
    "provider and providers": """
listen: [{address: 127.0.0.1, provider: a}]
providers: {a: {type: simple}}
provider: {type: simple}        #! provider: and providers can't both be given
""",
    "accounts": """
accounts:
  a: {id: 190:20:30}            #! accounts.a.id: '190:20:30' is not an account id: 12 digits, such as "000123456789"
  b: {id: "1234567890123"}      #! accounts.b.id: '1234567890123' is not an account id: 12 digits, such as "000123456789"
  c: {id: 1234-5678-9012}       #! accounts.c.id: '1234-5678-9012' is not an account id: 12 digits, such as "000123456789"
  d: {id: ""}                   #! accounts.d.id: '' is not an account id: 12 digits, such as "000123456789"
  e: {id: ١٢٣٤٥٦٧٨٩٠١٢}         #! accounts.e.id: '١٢٣٤٥٦٧٨٩٠١٢' is not an account id: 12 digits, such as "000123456789"
  f: {path: /}                  #! accounts.f.id: is required
  g: {id: 012345670123}
  h: {id: 12345670123}          #! accounts.h.id: warning: read as "012345670123": an id has 12 digits, write the zeros
  i: "123456789012"             #! accounts.i: must be a map (KEY: VALUE)
  j: {id: 1e11}                 #! accounts.j.id: '1e11' is not an account id: 12 digits, such as "000123456789"
""",
    "what roles are assumed with": """
accounts:
  a:
    id: "123456789012"
    external_id: "no spaces"    #! accounts.a.external_id: not an external id: 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -
    path: machines              #! accounts.a.path: 'machines' is not a path of roles: / or /machines/, a slash at both ends
    policy: "{"                 #! accounts.a.policy: not JSON: Expecting property name enclosed in double quotes, line 1 column 2
    session_tags:
      aws:x: y                  #! accounts.a.session_tags.aws:x: 'aws:x': keys that begin with aws: are AWS's own
  b:
    id: "123456789012"
    policy: []                  #! accounts.b.policy: must be a policy: a map with Version and Statement, or the same as JSON text
    session_tags:               #! accounts.b.session_tags: Host and host are one key to STS, which ignores case
      Host: "{name}"
      host: "{address}"
  c:
    id: "123456789012"
    external_id: x              #! accounts.c.external_id: not an external id: 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -
    policy: '{"a": 1, "a": 2}'  #! accounts.c.policy: the key 'a' is there twice
    session_tags:
      x: "{nam}"                #! accounts.c.session_tags.x: '{nam}' is not a tag's value: letters, digits, spaces, _ . : / = + - @, and the placeholders {name} and {address}
      y:                        #! accounts.c.session_tags.y: has no value; leave the key out for the default, or write [] for an empty list
  d:
    id: "123456789012"
    policy: {Version: }         #! accounts.d.policy.Version: has no value; leave the key out for the default, or write [] for an empty list
""",
    "a placeholder that nothing fills": """
aws: {region: eu-central-1, session: shared}
accounts:
  a:
    id: "123456789012"
    session_tags:
      gateway: one
      host: "{name}"            #! accounts.a.session_tags.host: with `session: shared` all callers share a session: nothing can fill a placeholder
    source_identity: true       #! accounts.a.source_identity: with `session: shared` all callers share a session: it would be nobody's
  b: {id: "123456789013", source_identity: false}
  c: {id: "123456789014", source_identity: perhaps}   #! accounts.c.source_identity: must be true or false
""",
    "aws": """
aws:
  region: Frankfurt             #! aws.region: 'Frankfurt' is not a region such as eu-central-1
  session_duration: 49m         #! aws.session_duration: 49m is not in 50m .. 12h
  session: both                 #! aws.session: must be 'per-caller' or 'shared'
  partition: azure              #! aws.partition: 'azure' is not a partition such as aws, aws-cn or aws-us-gov
  sts_endpoint: sts.example     #! aws.sts_endpoint: not a URL such as https://sts.eu-central-1.amazonaws.com
  https_proxy: proxy:3128       #! aws.https_proxy: not a URL such as https://sts.eu-central-1.amazonaws.com
  ca_bundle: /nowhere/ca.pem    #! aws.ca_bundle: /nowhere/ca.pem can't be read: No such file or directory
  use_instance_metadata: 2      #! aws.use_instance_metadata: must be true or false
""",
    "aws without a region": """
aws: {session: shared}          #! aws.region: warning: not set, neither here nor in $AWS_REGION or $AWS_DEFAULT_REGION: us-east-1
""",
    "aws is no map": """
aws: eu-central-1               #! aws: must be a map (KEY: VALUE)
""",
    "aws has no value": """
aws:                            #! aws: has no value; leave the key out for the default, or write [] for an empty list
""",
    "a long session": """
aws: {region: eu-central-1, session_duration: 12.01h}   #! aws.session_duration: 12.01h is not in 50m .. 12h
""",
    "a session of half seconds": """
aws: {region: eu-central-1, session_duration: 3600.5}   #! aws.session_duration: 3600.5: STS takes whole seconds only
""",
    "half a key": """
aws:
  region: eu-central-1
  access_key: AKIA              #! aws.access_key: needs secret_key or secret_key_file beside it
""",
    "the other half": """
aws:
  region: eu-central-1
  secret_key: abc               #! aws.secret_key: needs access_key beside it
""",
    "two keys": """
aws:
  region: eu-central-1
  access_key: AKIA
  secret_key: ""                #! aws.secret_key: must not be empty
  secret_key_file: /nowhere/x   #! aws.secret_key_file: and secret_key can't both be given #! aws.secret_key_file: /nowhere/x can't be read: No such file or directory
  profile: gateway              #! aws.profile: and access_key can't both be given
""",
    "plain http": """
aws:
  region: eu-central-1
  sts_endpoint: HTTP://10.77.0.3:4566/   #! aws.sts_endpoint: warning: plain http: whoever is on the way reads the credentials
""",
    "an endpoint with a user": """
aws:
  region: eu-central-1
  sts_endpoint: https://u:p@sts.example   #! aws.sts_endpoint: a URL with a user in it; a service's address has none
""",
    "dns": """
dns:
  nameservers:
    - ns.valid.example          #! dns.nameservers[0]: 'ns.valid.example' is not ADDRESS:PORT such as 169.254.169.254:53 or [fd00:ec2::254]:53 (IPv6 in brackets, no host name)
    - 10.77.0.3:0               #! dns.nameservers[1]: '10.77.0.3:0': port 0 is not a port to ask at
  attempt_timeout: 0            #! dns.attempt_timeout: 0 is not in 10ms .. 1m
  deadline: 2 fortnights        #! dns.deadline: '2 fortnights' is not a duration such as 300ms, 2s, 5m, 1h or 1d
  recheck: -1s                  #! dns.recheck: '-1s' is not a duration such as 300ms, 2s, 5m, 1h or 1d
  stale: 31d                    #! dns.stale: 31d is not in 0s .. 30d
""",
    "name servers among callers": """
listen:
  - {address: 10.77.0.1, callers: [10.77.0.0/16, "::/0"], callers_except: [10.77.0.3, 10.77.8.0/24]}
  - {address: 10.77.0.2, callers: [10.78.0.0/16, 127.0.0.0/8, nonsense]}  #! listen[1].callers[2]: 'nonsense' is not a network such as 10.77.0.0/16
dns:
  nameservers:
    - 10.77.0.3
    - 10.77.0.4:5353            #! dns.nameservers[1]: warning: is in listen[0].callers: any of those could forge its answers; ask one on another network
    - 10.77.8.8
    - "[fd78::3]:53"            #! dns.nameservers[3]: warning: is in listen[0].callers: any of those could forge its answers; ask one on another network
    - 10.78.0.3                 #! dns.nameservers[4]: warning: is in listen[1].callers: any of those could forge its answers; ask one on another network
    - 10.79.0.3
    - 127.0.0.53
    - "[::1]:53"
""",
    "no name servers": """
dns: {nameservers: []}          #! dns.nameservers: must not be empty
""",
    "a try longer than all tries": """
dns: {attempt_timeout: 5s}      #! dns.attempt_timeout: warning: longer than dns.deadline: no second server is ever asked
""",
    "link-local hosts": """
hosts:
  fe80::5: a.valid.example      #! hosts.fe80::5: warning: link-local: no such caller is let in, so this entry has no effect
  169.254.169.254: a.valid.example
  fd77::5: a.valid.example
""",
    "hosts and deny": """
hosts:
  10.77.3.999: a.valid.example  #! hosts.10.77.3.999: '10.77.3.999' is not an address such as 10.77.3.9 or fd00::9
  10.77.3.9: 10.77.3.10         #! hosts.10.77.3.9: '10.77.3.10' is not a host name such as tuvfoo42.valid.example
  10.77.3.8: "a..b"             #! hosts.10.77.3.8: 'a..b' is not a host name such as tuvfoo42.valid.example
  10.77.3.7: a.valid.example
  "::ffff:10.77.3.7": b.valid.example   #! hosts.::ffff:10.77.3.7: is the address of FILE:5
deny:
  - 10.77.3.0/24                #! deny[0]: '10.77.3.0/24' is neither an address nor a host name
  - 10.77.3.999                 #! deny[1]: '10.77.3.999' is neither an address nor a host name
""",
    "tokens, audit, admin, limits, log": """
tokens: {key_file: /nowhere/k}  #! tokens.key_file: /nowhere/k can't be read: No such file or directory
audit: {file: ""}               #! audit.file: must be one line of text, not an empty one
admin:
  address: admin:9338           #! admin.address: 'admin:9338' is not ADDRESS:PORT such as 169.254.169.254:9338 or [fd00:ec2::254]:9338 (IPv6 in brackets, no host name)
  socket: ""                    #! admin.socket: must be one line of text, not an empty one
limits: {connections: 0, requests_per_second: many}   #! limits.connections: must be 1 or more #! limits.requests_per_second: must be a whole number
log: {level: loud}              #! log.level: must be 'debug', 'info', 'warning' or 'error'
""",
    "workloads' tokens": """
tokens:
  workload_key_file: /nowhere/k   #! tokens.workload_key_file: /nowhere/k can't be read: No such file or directory
  any_network: 7                  #! tokens.any_network: must be true or false
  revoked:
    - 0123456789abcdef
    - 0123456789abcde             #! tokens.revoked[1]: must be the 16 hex digits that follow `imds-proxy-workload2-` in a token
    - 0123456789ABCDEF            #! tokens.revoked[2]: must be the 16 hex digits that follow `imds-proxy-workload2-` in a token
    - 1234567890123456
  old_workload_tokens_until: 20270601   #! tokens.old_workload_tokens_until: '20270601' is not a day such as 2027-06-01
""",
    "rates of new connections and handshakes": """
limits:
  new_connections_per_second: 0          #! limits.new_connections_per_second: must be 1 or more
  tls_handshakes_per_second: 1000001     #! limits.tls_handshakes_per_second: must be 1000000 or less
""",
    "admin callers off loopback": """
admin:                          #! admin.callers: is required, because 10.77.0.1:9338 is not a loopback address: list the networks that may talk to it ([] allows nobody)
  address: 10.77.0.1
limits: {connections: 0}        #! limits.connections: must be 1 or more
""",
    "admin callers on all addresses": """
admin:                          #! admin.callers: is required, because [::]:80 is not a loopback address: list the networks that may talk to it ([] allows nobody)
  address: "[::]:80"
""",
    "admin callers without a value": """
admin:
  address: 127.0.0.1
  callers:                      #! admin.callers: has no value; leave the key out for the default, or write [] for an empty list
  hosts: 10.0.0.1               #! admin.hosts: must be a list
""",
    "admin callers that are no list": """
admin:
  address: 10.77.0.1
  callers: 10.0.0.0/8           #! admin.callers: must be a list
""",
    "admin callers and hosts": """
admin:
  address: 10.77.0.1
  callers:
    - 10.77.0.9/16              #! admin.callers[0]: 10.77.0.9/16 has bits set behind its mask; write 10.77.0.0/16, or 10.77.0.9 for the one address
    - 10.0.0.0/33               #! admin.callers[1]: '10.0.0.0/33' is not a network such as 10.77.0.0/16
    - valid.example             #! admin.callers[2]: 'valid.example' is not a network such as 10.77.0.0/16
    - fe80::/10                 #! admin.callers[3]: warning: link-local: refused all the same, as a machine on another link may have the same address
    - 10.77.0.9
  hosts:
    - gw1.valid.example
    - "gw1:9338"                #! admin.hosts[1]: 'gw1:9338' is neither an address nor a host name
""",
    "admin callers and hosts without an address": """
admin:
  callers: []                   #! admin.callers: has no effect without `address`: add admin.address, or remove this key
  hosts: [gw1.valid.example]    #! admin.hosts: has no effect without `address`: add admin.address, or remove this key
""",
    "admin callers beside an address with a fault": """
admin:
  address: gw1:9338             #! admin.address: 'gw1:9338' is not ADDRESS:PORT such as 169.254.169.254:9338 or [fd00:ec2::254]:9338 (IPv6 in brackets, no host name)
  callers: [10.77.0.0/16]
""",
    "network": """
listen:
  - {address: "10.77.0.1:8080", callers: []}
  - {address: "169.254.169.254", callers: []}
  - {address: "127.0.0.1:8080"}
network:
  interfaces: [lan0, "../x"]    #! network.interfaces[1]: '../x' is not an interface's name such as lan0: 1 to 15 of A-Z a-z 0-9 . _ -
  device: eth0                  #! network.device: must be 'lo' or 'dummy'
  take_over:
    "169.254.169.253": "10.77.0.1:8080"
    "169.254.169.254": "10.77.0.1:8080"         #! network.take_over.169.254.169.254: 169.254.169.254:80 is listened on (FILE:3): nothing to take over
    "169.254.170.2": "10.77.0.1"                #! network.take_over.169.254.170.2: 10.77.0.1:80 is no listener's address under listen
    "[fd00:ec2::254]": "10.77.0.1:8080"         #! network.take_over.[fd00:ec2::254]: [fd00:ec2::254]:80 and 10.77.0.1:8080 are of different families: packets can't be led from one to the other
    "169.254.170.23": "127.0.0.1:8080"          #! network.take_over.169.254.170.23: the kernel leads no packet of another host to 127.0.0.1:8080: listen on an address of an interface
    "0.0.0.0": "10.77.0.1:8080"                 #! network.take_over.0.0.0.0: 0.0.0.0 is no address that packets are sent to
    metadata: "10.77.0.1:8080"                  #! network.take_over.metadata: 'metadata' is not ADDRESS:PORT such as 169.254.169.254:80 or [fd00:ec2::254]:80 (IPv6 in brackets, no host name)
""",
    "duplicate keys are named with the rest": """
aws: {region: eu-central-1}
aws: {region: eu-central-1}     #! aws: is on line 1 too
log: {level: loud}              #! log.level: must be 'debug', 'info', 'warning' or 'error'
""",
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_faults_have_file_line_and_key(tmp_path: Path, sample: str) -> None:
    """All faults of a sample are found at once, and nothing else is."""
    file = tmp_path / "a.yaml"
    reading = _read(file, sample)
    found = [str(fault) for fault in reading.faults]
    assert sorted(found) == sorted(text.replace("FILE", str(file)) for text in _expected(file, sample))
    assert (reading.configuration is None) == any(not fault.is_warning for fault in reading.faults)


def test_faults_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Whoever mends them goes through the file once."""
    reading = _read(tmp_path / "a.yaml", SAMPLES["callers"])
    lines = [int(fault.where.rpartition(":")[2]) for fault in reading.faults]
    assert lines == sorted(lines)
    assert len(lines) > 5


@pytest.mark.parametrize("missing", ["listen", "provider"])
def test_what_must_be_there_is_named(tmp_path: Path, missing: str) -> None:
    """Without a line to point at, a file's first line is named."""
    file = tmp_path / "a.yaml"
    file.write_text("\n".join(text for key, text in REST.items() if key != missing))
    (fault,) = read_configuration(file, {}).faults
    key = {"listen": "listen: is required", "provider": "providers: is required: a map of names"}[missing]
    assert str(fault).startswith(f"{file}:1: {key}")


def test_a_folder_is_named_where_no_file_is_to_blame(tmp_path: Path) -> None:
    """A section that is missing is missing in no particular file."""
    (tmp_path / "a.yaml").write_text("\n".join(text for key, text in REST.items() if key != "listen"))
    (fault,) = read_configuration(tmp_path, {}).faults
    assert str(fault) == f"{tmp_path}: listen: is required (or people)"


def test_after_a_syntax_error_nothing_else_is_said(tmp_path: Path) -> None:
    """What a half-read file lacks is no fault of its writer."""
    file = tmp_path / "a.yaml"
    file.write_text("listen: [\n")
    reading = read_configuration(file, {})
    assert len(reading.faults) == 1
    assert reading.configuration is None


def test_a_fault_in_a_variable_names_it(tmp_path: Path) -> None:
    """The environment's part in the settings is checked as the file's is."""
    file = tmp_path / "a.yaml"
    file.write_text("\n".join(text for key, text in REST.items() if key != "aws"))
    (fault,) = read_configuration(file, {"AWS_REGION": "Frankfurt"}).faults
    assert str(fault) == "$AWS_REGION: aws.region: 'Frankfurt' is not a region such as eu-central-1"


SECRETS = """
aws:
  region: [swordfish]
  access_key: AKIA
  secret_key: [swordfish]
  secret_key_file: {swordfish: 1}
  https_proxy: "ftp://u:swordfish@proxy"
  sts_endpoint: "https://u:swordfish@proxy/?x"
accounts:
  a: {id: "1", external_id: "swordfish swordfish"}
tokens: {key_file: KEYS}
"""


def test_no_fault_shows_a_secret(tmp_path: Path) -> None:
    """Faults end in logs and tickets."""
    keys = tmp_path / "keys"
    keys.write_text("swordfish\n")
    keys.chmod(0o600)
    reading = _read(tmp_path / "a.yaml", SECRETS.replace("KEYS", str(keys)))
    assert {fault.key for fault in reading.faults} >= {
        "aws.region",
        "aws.secret_key",
        "aws.https_proxy",
        "aws.sts_endpoint",
        "accounts.a.external_id",
        "tokens.key_file",
    }
    assert "swordfish" not in "\n".join(map(str, reading.faults)).replace("aws.secret_key_file.swordfish", "")
