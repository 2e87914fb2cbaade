"""The settings of the people's listener: what they become, and every fault at the key that is wrong.

In the samples `#! KEY: TEXT` says which fault its own line has, as in test_config_faults.
"""

# ruff: noqa: E501  a sample's line has the whole message that it is about

from __future__ import annotations

import grp
import os
import pwd
import ssl
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.config import SocketAddress, people_values, read_configuration
from tests.standins.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_proxy.config import Configuration, Reading

REST = """
provider: {type: simple}
accounts: {main: {id: "123456789012"}}
aws: {region: eu-central-1}
"""
ROOT_GROUP = grp.getgrgid(0).gr_name
OWN_USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, certificates and secrets, good ones and others."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("good", "other"):
        made = make_certificate(folder, name=name)
        (folder / f"{name}.key").write_text(made.pem.read_text().partition("-----BEGIN CERTIFICATE")[0])
        made.pem.write_bytes(made.authority.read_bytes())
    _openssl("pkey -in good.key -aes256 -passout pass:swordfish -out locked.key", folder)
    _openssl("req -x509 -newkey rsa:512 -nodes -days 2 -subj /CN=weak -keyout weak.key -out weak.pem", folder)
    (folder / "empty").touch()
    (folder / "garbage").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "secret").write_text("swordfish-swordfish-swordfish-32\n")
    (folder / "short").write_text("x" * 31 + "\n")
    (folder / "two-lines").write_text("swordfish\nswordfish\n")
    for file in folder.iterdir():
        file.chmod(0o600)
    for name in ("open.key", "open-secret"):
        (folder / name).write_bytes((folder / ("good.key" if "key" in name else "secret")).read_bytes())
        (folder / name).chmod(0o644)
    return folder


def _openssl(arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True, timeout=60)


def _read(file: Path, sample: str, files: Path) -> Reading:
    keys = {line.partition(":")[0] for line in sample.splitlines()}
    if "providers" in keys:
        keys.add("provider")
    rest = "\n".join(line for line in REST.splitlines() if line.partition(":")[0] not in keys)
    text = f"{sample.strip()}\n{rest}\n".replace("FILES", str(files)).replace("GROUP", ROOT_GROUP)
    file.write_text(text.replace("USER", OWN_USER))
    return read_configuration(file, {})


def _configure(folder: Path, sample: str, files: Path) -> Configuration:
    reading = _read(folder / "a.yaml", sample, files)
    assert [str(fault) for fault in reading.faults] == []
    assert reading.configuration is not None
    return reading.configuration


WHOLE = """
people:
  listen:
    - {address: "127.0.0.1:8443", tls: {certificate: FILES/good.pem, key: FILES/good.key}, hosts: [afp.example]}
    - {address: "[fd00::1]", callers: [10.0.0.0/28], callers_except: [10.0.0.9],
       tls: {certificate: FILES/good.pem, key: FILES/good.key, client_ca: FILES/other.pem}}
    - {unix: /run/imds-proxy/people.sock, mode: "0660", group: GROUP}
  base_path: /afp-api/latest
  public_url: https://afp.example/afp-api/latest/
  provider: people
  callback_urls: [https://portal.example/, "http://127.0.0.1:8080/a"]
  identity: {header: X-Remote-User, trusted: [10.0.0.2, "fd00::/64", USER], secret_file: FILES/secret}
providers: {people: {type: simple}, machines: {type: simple}}
"""


def test_a_whole_section_has_typed_values(tmp_path: Path, files: Path) -> None:
    """A listener with TLS, one for proxies with a certificate, a socket; the header with its secret."""
    configuration = _configure(tmp_path, WHOLE, files)
    people = configuration.settings.people
    assert people is not None
    first, second, third = people.listen
    assert first.address == SocketAddress(IPv4Address("127.0.0.1"), 8443)
    assert first.callers == (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    assert first.tls is not None
    assert (first.tls.key, first.tls.client_ca) == (files / "good.key", None)
    assert first.hosts == ("afp.example",)
    assert second.address is not None
    assert second.address.port == 443
    assert second.callers == (IPv4Network("10.0.0.0/28"),)
    assert second.tls is not None
    assert second.tls.client_ca == files / "other.pem"
    assert (third.unix, third.mode, third.group) == (Path("/run/imds-proxy/people.sock"), 0o660, ROOT_GROUP)
    assert third.callers == ()
    assert people.base_path == "/afp-api/latest"
    assert people.public_url == "https://afp.example/afp-api/latest"
    assert people.provider == "people"
    assert people.callback_urls == ("https://portal.example", "http://127.0.0.1:8080/a")
    assert people.identity.trusted == (IPv4Network("10.0.0.2/32"), IPv6Network("fd00::/64"), os.getuid())
    assert configuration.people_secret is not None
    assert configuration.people_secret.get_secret_value() == "swordfish-swordfish-swordfish-32"
    assert "swordfish" not in repr(configuration)
    assert configuration.settings.listen == ()


@pytest.mark.parametrize("host", ["localhost", "afp.localhost", "127.0.0.1", "127.0.0.9:8080", "[::1]:8080"])
def test_public_url_on_loopback(tmp_path: Path, files: Path, host: str) -> None:
    """Browsers treat it like https."""
    text = LEAST.replace("{listen", f"{{public_url: 'http://{host}/x', listen")
    people = _configure(tmp_path, text, files).settings.people
    assert people is not None
    assert people.public_url == f"http://{host}/x"


@pytest.mark.parametrize(
    "host", ["localhost.example", "10.0.0.3", "[fd00::3]", "127.0.0.1.example", "0.0.0.0"]
)
def test_public_url_off_loopback(tmp_path: Path, files: Path, host: str) -> None:
    """A fault at its line, and no configuration."""
    text = LEAST.replace("{listen", f"{{public_url: 'http://{host}/x', listen")
    reading = _read(tmp_path / "a.yaml", text, files)
    [fault] = reading.faults
    assert (fault.key, fault.is_warning) == ("people.public_url", False)
    assert reading.configuration is None


LEAST = "people: {listen: [{unix: /run/people.sock}], identity: {peer: true}}"


def test_the_least_section(tmp_path: Path, files: Path) -> None:
    """A socket for its owner alone; nothing else listens."""
    people = _configure(tmp_path, LEAST, files).settings.people
    assert people is not None
    assert people.model_dump() == {
        "listen": (
            {
                "address": None,
                "unix": Path("/run/people.sock"),
                "tls": None,
                "callers": (),
                "callers_except": (),
                "hosts": (),
                "mode": 0o600,
                "group": None,
            },
        ),
        "base_path": None,
        "public_url": None,
        "provider": "provider",
        "callback_urls": (),
        "deny": (),
        "identity": people.identity.model_dump(),
    }
    assert people.identity.model_dump(
        include={"header", "trusted", "secret_file", "secret_header", "peer"}
    ) == {
        "header": None,
        "trusted": (),
        "secret_file": None,
        "secret_header": "X-Imds-Proxy-Secret",
        "peer": True,
    }


SAMPLES = {
    "no map": """
people: [x]                     #! people: must be a map (KEY: VALUE)
""",
    "no value": """
people:                         #! people: has no value; leave the key out for the default, or write [] for an empty list
""",
    "nothing in it": """
people: {}                      #! people.listen: is required #! people.identity: is required
""",
    "nowhere to listen": """
people:
  listen: []                    #! people.listen: must not be empty
  identity: {peer: true}
""",
    "listen is a map": """
people:
  listen: {unix: /run/x}        #! people.listen: must be a list
  identity: {peer: true}
""",
    "where to listen": """
people:
  identity: {header: X-User, trusted: [127.0.0.1, USER], secret_file: FILES/secret}
  listen:
    - {}                        #! people.listen[0].address: is required (or unix)
    - callers: []               #! people.listen[1].address: is required (or unix)
    - 127.0.0.1                 #! people.listen[2]: must be a map (KEY: VALUE)
    -                           #! people.listen[3]: has no value; leave the key out for the default, or write [] for an empty list
    - address: 127.0.0.1:1
      unix: /run/x              #! people.listen[4].unix: and address can't both be given: make it an entry of its own
      mode: "0600"
      callers: []
    - address: localhost        #! people.listen[5].address: 'localhost' is not ADDRESS:PORT such as 169.254.169.254:443 or [fd00:ec2::254]:443 (IPv6 in brackets, no host name)
    - address: 10.0.0.1         #! people.listen[6].callers: is required, because 10.0.0.1:443 is not a loopback address: list the networks that may talk to it ([] allows nobody) #! people.listen[6].tls: is required for 10.0.0.1:443: passwords and keys go over it
    - address: 127.0.0.1:2
      provider: x               #! people.listen[7].provider: unknown key; known here: address, callers, callers_except, group, hosts, mode, tls, unix
    - unix: ""                  #! people.listen[8].unix: must be one line of text, not an empty one
""",
    "what is for the other kind": """
people:
  identity: {header: X-User, trusted: [127.0.0.1, USER], secret_file: FILES/secret}
  listen:
    - unix: /run/x
      tls: {certificate: FILES/good.pem, key: FILES/good.key}   #! people.listen[0].tls: is for an address, not for a unix socket
      callers: []               #! people.listen[0].callers: is for an address, not for a unix socket
      callers_except: []        #! people.listen[0].callers_except: is for an address, not for a unix socket
      hosts: []                 #! people.listen[0].hosts: is for an address, not for a unix socket
    - address: 127.0.0.1:0
      mode: "0660"              #! people.listen[1].mode: is for a unix socket, not for an address
      group: GROUP              #! people.listen[1].group: is for a unix socket, not for an address
""",
    "modes and groups": """
people:
  identity: {peer: true}
  listen:
    - {unix: /run/0, mode: 660}
    - {unix: /run/1, mode: 0o660}       #! people.listen[1].mode: '0o660' is not a mode such as 0660
    - {unix: /run/2, mode: "0680"}      #! people.listen[2].mode: '0680' is not a mode such as 0660
    - {unix: /run/3, mode: "4660"}      #! people.listen[3].mode: '4660' is not a mode such as 0660
    - {unix: /run/4, mode: rw-rw----}   #! people.listen[4].mode: 'rw-rw----' is not a mode such as 0660
    - {unix: /run/5, mode: ""}          #! people.listen[5].mode: '' is not a mode such as 0660
    - {unix: /run/6, mode: [6, 6]}      #! people.listen[6].mode: must be a text
    - {unix: /run/7, group: no-group-of-this-host}   #! people.listen[7].group: 'no-group-of-this-host' is not a group of this host
    - {unix: /run/8, group: ""}         #! people.listen[8].group: must be one line of text, not an empty one
    - {unix: /run/9, mode: "000", group: GROUP}
""",
    "the same place twice": """
admin: {socket: /run/x}
people:
  identity: {peer: true}
  listen:
    - {unix: /run/x}            #! people.listen[0].unix: /run/x is at FILE:1 too
    - {unix: /run/y}
    - {unix: /run/./y}          #! people.listen[2].unix: /run/y is at FILE:6 too
""",
    "an address of machines": """
listen: [{address: "127.0.0.1:8443"}]
people:
  identity: {header: X-User, trusted: [127.0.0.1], secret_file: FILES/secret}
  listen: [{address: "127.0.0.1:8443"}]   #! people.listen[0].address: 127.0.0.1:8443 is at FILE:1 too
""",
    "certificates and keys": """
people:
  identity: {header: X-User, trusted: [127.0.0.1], secret_file: FILES/secret}
  listen:
    - address: 127.0.0.1:1
      tls:
        certificate: FILES/good.pem
        key: FILES/other.key    #! people.listen[0].tls.key: FILES/other.key is not the key of FILES/good.pem
    - address: 127.0.0.1:2
      tls: {}                   #! people.listen[1].tls.certificate: is required #! people.listen[1].tls.key: is required
    - address: 127.0.0.1:3
      tls:
        certificate: /nowhere/x #! people.listen[2].tls.certificate: /nowhere/x can't be read: No such file or directory
        key: FILES/open.key     #! people.listen[2].tls.key: FILES/open.key has a secret and others can read it; chmod o= FILES/open.key
        client_ca: FILES/empty  #! people.listen[2].tls.client_ca: FILES/empty has no certificate in PEM
    - address: 127.0.0.1:4
      tls:
        certificate: FILES/good.pem
        key: FILES/locked.key   #! people.listen[3].tls.key: FILES/locked.key has a password, and nobody is there to type it
    - address: 127.0.0.1:5
      tls:
        certificate: FILES/good.key   #! people.listen[4].tls.certificate: FILES/good.key has no certificate in PEM
        key: FILES/good.key
        client_ca: FILES        #! people.listen[4].tls.client_ca: FILES can't be read: is not a regular file
    - address: 127.0.0.1:6
      tls:
        certificate: FILES/good.pem
        key: FILES/good.pem     #! people.listen[5].tls.key: FILES/good.pem has no private key in PEM
        ca: x                   #! people.listen[5].tls.ca: unknown key; known here: certificate, client_ca, crl, key
    - address: 127.0.0.1:7
      tls:
        certificate: FILES/garbage    #! people.listen[6].tls.certificate: FILES/garbage has no certificate in PEM
        key: FILES/empty
    - address: 127.0.0.1:8
      tls:
        certificate: FILES/weak.pem
        key: FILES/weak.key     #! people.listen[7].tls.key: FILES/weak.key and FILES/weak.pem can't be used: EE_KEY_TOO_SMALL
    - address: 127.0.0.1:9
      tls: true                 #! people.listen[8].tls: must be a map (KEY: VALUE)
    - address: 127.0.0.1:10
      tls: {certificate: [], key: ""}   #! people.listen[9].tls.certificate: must be a text #! people.listen[9].tls.key: must be one line of text, not an empty one
""",
    "client certificates without a header": """
people:
  identity: {peer: true}
  listen:
    - address: 127.0.0.1:1      #! people.listen[0].address: warning: identity.peer knows users of unix sockets only: here everybody gets 401
      tls:
        certificate: FILES/good.pem
        key: FILES/good.key
        client_ca: FILES/other.pem  #! people.listen[0].tls.client_ca: is for proxies that send identity.header, and there is none
""",
    "no way to know anybody": """
people:
  listen: [{unix: /run/x}]
  identity: {}                  #! people.identity: needs one of header, peer and ldap
""",
    "a way that is switched off": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: No}          #! people.identity: needs one of header, peer and ldap
""",
    "two ways": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted: [USER]
    peer: true                  #! people.identity.peer: and header can't both be given
""",
    "three ways": """
people:
  listen: [{unix: /run/x}]
  identity:
    peer: yes                   #! people.identity.peer: and header can't both be given
    header: X-User
    trusted: [USER]
    ldap: {servers: ["ldaps://ldap.valid.example"], user_base: "dc=valid"}   #! people.identity.ldap: and header can't both be given
""",
    "a directory and what belongs to a header": """
people:
  listen:
    - address: 127.0.0.1:1
      tls: {certificate: FILES/good.pem, key: FILES/good.key, client_ca: FILES/other.pem}   #! people.listen[0].tls.client_ca: is for proxies that send identity.header, and there is none
  identity:
    secret_file: FILES/secret   #! people.identity.secret_file: needs header beside it
    ldap:
      servers: ["ldaps://ldap.valid.example"]
      user_base: ""             #! people.identity.ldap.user_base: '' is not a distinguished name such as ou=people,dc=valid,dc=example
""",
    "a directory on a public address without TLS": """
people:
  listen:
    - {address: 10.0.0.1, callers: []}   #! people.listen[0].tls: is required for 10.0.0.1:443: passwords and keys go over it
  identity: {ldap: {servers: ["ldaps://ldap.valid.example"], user_base: "dc=valid"}}
""",
    "identity is no map": """
people:
  listen: [{unix: /run/x}]
  identity: peer                #! people.identity: must be a map (KEY: VALUE)
""",
    "a switch that is none": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: perhaps}     #! people.identity.peer: must be true or false
""",
    "what belongs to a header": """
people:
  listen: [{unix: /run/x}]
  identity:
    peer: true
    trusted: [USER]             #! people.identity.trusted: needs header beside it
    secret_file: FILES/secret   #! people.identity.secret_file: needs header beside it
    secret_header: X-Secret     #! people.identity.secret_header: needs header beside it
""",
    "nobody is trusted": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted: []                 #! people.identity.trusted: must not be empty
""",
    "it isn't said who is trusted": """
people:
  listen: [{unix: /run/x}]
  identity: {header: X-User}    #! people.identity.trusted: is required: who may say who is asking, such as [10.0.0.2]
""",
    "who is trusted": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted:
      - 10.0.0.1/28             #! people.identity.trusted[0]: 10.0.0.1/28 has bits set behind its mask; write 10.0.0.0/28, or 10.0.0.1 for the one address
      - 10.0.0.999              #! people.identity.trusted[1]: '10.0.0.999' is not a network such as 10.77.0.0/16
      - fe80::1%eth0            #! people.identity.trusted[2]: 'fe80::1%eth0' is not a network such as 10.77.0.0/16
      - nobody-of-this-host     #! people.identity.trusted[3]: 'nobody-of-this-host' is neither an address, nor a user of this host
      - 65534                   #! people.identity.trusted[4]: '65534': the uid 65534 stands for all users that the kernel can't name
      - -1                      #! people.identity.trusted[5]: '-1' is neither an address, nor a user of this host
      - []                      #! people.identity.trusted[6]: must be a text
      - 4294967295              #! people.identity.trusted[7]: '4294967295': the uid 4294967295 stands for all users that the kernel can't name
      - 0
""",
    "an address without a secret": """
people:
  listen:
    - unix: /run/x
    - address: 127.0.0.1:1
      tls: {certificate: FILES/good.pem, key: FILES/good.key, client_ca: FILES/other.pem}
    - address: 127.0.0.1:2
      tls: {certificate: FILES/good.pem, key: FILES/good.key}
  identity: {header: X-User, trusted: [127.0.0.1, USER]}   #! people.identity.secret_file: is required for 127.0.0.1:2 (or tls.client_ca there): an address alone proves too little
""",
    "headers": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: Authorization       #! people.identity.header: Authorization has a meaning of its own; take a name such as X-Remote-User
    secret_header: "X Secret"   #! people.identity.secret_header: 'X Secret' is not a header's name such as X-Remote-User
    trusted: [USER]
    secret_file: FILES/secret
""",
    "one header for both": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-user
    secret_header: x-User       #! people.identity.secret_header: header and secret_header can't both be x-User
    trusted: [USER]
""",
    "the secret's header for the user": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: x-imds-proxy-secret #! people.identity.header: header and secret_header can't both be X-Imds-Proxy-Secret
    trusted: [USER]
""",
    "an open secret": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted: [USER]
    secret_file: FILES/open-secret   #! people.identity.secret_file: FILES/open-secret has a secret and others can read it; chmod o= FILES/open-secret
""",
    "a short secret": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted: [USER]
    secret_file: FILES/short     #! people.identity.secret_file: FILES/short: has a secret of 31 characters, 32 at least; make one with: openssl rand -hex 32
""",
    "two lines of secret": """
people:
  listen: [{unix: /run/x}]
  identity:
    header: X-User
    trusted: [USER]
    secret_file: FILES/two-lines     #! people.identity.secret_file: FILES/two-lines: must have the secret on one line and nothing else
""",
    "nobody can be known on the socket": """
people:
  listen:
    - address: 127.0.0.1:1
    - unix: /run/x              #! people.listen[1].unix: warning: identity.trusted has no user, who alone may send the header here: everybody gets 401
  identity: {header: X-User, trusted: [127.0.0.1], secret_file: FILES/secret}
""",
    "nobody can be known on the address": """
people:
  listen:
    - address: 127.0.0.1:1      #! people.listen[0].address: warning: identity.trusted has no address, which alone may send the header here: everybody gets 401
    - unix: /run/x
  identity: {header: X-User, trusted: [USER, "0"], secret_file: FILES/secret}
""",
    "URLs": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: true}
  base_path: afp-api            #! people.base_path: 'afp-api' is not a path such as /afp-api/latest: a slash before each segment and none at the end, segments of A-Z a-z 0-9 - . _ ~ and neither . nor ..
  public_url: afp.example       #! people.public_url: not a URL such as https://afp.example/afp-api/latest
  callback_urls:
    - https://u:p@portal.example    #! people.callback_urls[0]: a URL with a user in it; a service's address has none
    - https://portal.example/#top   #! people.callback_urls[1]: a URL with ? or # in it; only scheme, host, port and path can be used
    - https://portal.example?x      #! people.callback_urls[2]: a URL with ? or # in it; only scheme, host, port and path can be used
    - javascript:alert(1)           #! people.callback_urls[3]: not a URL such as https://afp.example/afp-api/latest
    - "https://*.example/"          #! people.callback_urls[4]: a URL whose host is neither a name nor an address; *.example is not taken either
    - https://portal.example/../x   #! people.callback_urls[5]: a URL with a path that could be read in two ways: write it without %, //, . and ..
    - https://portal.example/%2e    #! people.callback_urls[6]: a URL with a path that could be read in two ways: write it without %, //, . and ..
    - 'https://portal.example\\x'    #! people.callback_urls[7]: a URL whose host is neither a name nor an address; *.example is not taken either
    - []                            #! people.callback_urls[8]: must be a text
""",
    "people over http": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: true}
  public_url: http://afp.example    #! people.public_url: must be https: over http others can read keys, and other sites' pages can ask for them
""",
    "no provider of that name": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: true}
  provider: people              #! people.provider: no provider 'people'; known: provider
""",
    "which of two providers": """
people:                         #! people.provider: is required: there are several, a, b
  listen: [{unix: /run/x}]
  identity: {peer: true}
providers: {a: {type: simple}, b: {type: simple}}
""",
    "unknown keys": """
people:
  listen: [{unix: /run/x}]
  identity: {peer: true, users: []}   #! people.identity.users: unknown key; known here: header, KNOWN
  callback_url: []              #! people.callback_url: unknown key; did you mean callback_urls?
""",
    "the console": """
aws:
  region: eu-central-1
  signin_endpoint: signin.example     #! aws.signin_endpoint: not a URL such as https://sts.eu-central-1.amazonaws.com
  console_endpoint: https://u@console.example   #! aws.console_endpoint: a URL with a user in it; a service's address has none
  console_duration: 14m         #! aws.console_duration: 14m is not in 15m .. 12h, in whole seconds
people: {listen: [{unix: /run/x}], identity: {peer: true}}
""",
    "plain http to sign in": """
aws:
  region: eu-central-1
  signin_endpoint: http://signin.example   #! aws.signin_endpoint: warning: plain http: whoever is on the way reads the credentials
  console_duration: 900.5       #! aws.console_duration: 900.5 is not in 15m .. 12h, in whole seconds
people: {listen: [{unix: /run/x}], identity: {peer: true}}
""",
}


@pytest.mark.usefixtures("python_ldap")
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_faults_are_at_the_key_that_is_wrong(tmp_path: Path, files: Path, sample: str) -> None:
    """All faults of a sample are found at once, and nothing else is."""
    file = tmp_path / "a.yaml"
    reading = _read(file, sample, files)
    expected = [
        f"FILE:{number}: {text.strip()}"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for text in line.split("#!")[1:]
    ]
    found = [str(fault).replace(str(file), "FILE") for fault in reading.faults]
    found = [
        text.partition("header, ")[0] + "header, KNOWN" if "known here: header" in text else text
        for text in found
    ]
    assert sorted(found) == sorted(expected)
    assert (reading.configuration is None) == any(not fault.is_warning for fault in reading.faults)


def test_a_directory_needs_its_library(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every login would be trouble, and nobody would know before the first."""
    monkeypatch.setitem(sys.modules, "ldap", None)
    sample = """
people:
  listen: [{unix: /run/x}]
  identity: {ldap: {servers: ["ldaps://ldap.valid.example"], user_base: "dc=valid"}}
"""
    (fault,) = _read(tmp_path / "a.yaml", sample, files).faults
    assert fault.key == "people.identity.ldap"
    assert "pip install 'imds-proxy[ldap]'" in fault.text


def test_without_people_or_machines_nothing_listens(tmp_path: Path, files: Path) -> None:
    """One of the two has to be there."""
    (fault,) = _read(tmp_path / "a.yaml", "log: {level: info}", files).faults
    assert fault.key == "listen"
    assert fault.text == "is required (or people)"


def test_a_key_file_that_openssl_takes_is_taken(tmp_path: Path, files: Path) -> None:
    """Certificate and key in one file, as some authorities send them."""
    both = files / "both.pem"
    both.write_bytes((files / "good.pem").read_bytes() + (files / "good.key").read_bytes())
    both.chmod(0o600)
    sample = f"""
people:
  listen: [{{address: "127.0.0.1:0", tls: {{certificate: {both}, key: {both}}}}}]
  identity: {{header: X-User, trusted: [127.0.0.1], secret_file: FILES/secret}}
"""
    people = _configure(tmp_path, sample, files).settings.people
    assert people is not None
    assert people.listen[0].tls is not None
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(people.listen[0].tls.certificate)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Portal.example/x", ("https", "portal.example", 443)),
        ("http://portal.example", ("http", "portal.example", 80)),
        ("https://[::1]:8443/x", ("https", "::1", 8443)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    """Scheme, host and port, with the port that a scheme has by itself."""
    assert people_values.origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["", "//portal.example", "ftp://portal.example", "https://", "https://a:b", "https://a:0"]
)
def test_what_has_no_origin(url: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r"."):
        people_values.origin_of(url)


PARSERS: list[Callable[[str], object]] = [
    people_values.parse_people_address,
    people_values.parse_trusted,
    people_values.parse_header_name,
    people_values.parse_socket_mode,
    people_values.parse_group_name,
    people_values.parse_public_url,
    people_values.origin_of,
]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text() | st.text("0123456789abcdef.:/[]%-@{}\"' \\\nhtps", max_size=60))
def test_no_text_raises_anything_but_value_error(parse: Callable[[str], object], text: str) -> None:
    """pydantic takes a ValueError for a fault; anything else would be a traceback."""
    try:
        parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  that it raises isn't sure; that it says something is


@given(url=st.from_regex(r"https?://[a-z*.@:\\\[\]%0-9-]{1,20}(/[a-z.%/\\;~-]{0,20})?", fullmatch=True))
def test_a_url_that_is_taken_can_be_read_in_one_way(url: str) -> None:
    """It has an origin, no user, nothing encoded, and no path that a browser would shorten."""
    try:
        taken = people_values.parse_public_url(url)
    except ValueError:
        return
    assert people_values.origin_of(taken)
    path = taken.split("/", 3)[3] if taken.count("/") > 2 else ""
    assert not {"", ".", ".."} & set(path.split("/")) or not path
    assert not set("\\%@*") & set(taken.split("/")[2])
