"""Texts of the configuration to values. Every function raises ValueError saying what to write instead."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from imds_proxy.model import IPAddress, canonical_address
from imds_proxy.names import parse_host_name
from imds_proxy.yaml_source import quoted

IPNetwork = IPv4Network | IPv6Network

HTTP_PORT = 80
ADMIN_PORT = 9338
DNS_PORT = 53

_HIGHEST_PORT = 65535
_MAPPED = IPv6Network("::ffff:0:0/96")
# What the kernel takes (dev_valid_name) and needs quotes nowhere; 15 bytes: IFNAMSIZ without the last NUL.
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,14}", re.ASCII)
_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?", re.ASCII)
_SOCKET_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TOKEN_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_ACCOUNT_ID_DIGITS = 12
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, ExternalId
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html, Path
_ROLE_PATH = re.compile(r"/(?:[\x21-\x7e]+/)?", re.ASCII)
_LONGEST_ROLE_PATH = 512
# RFC 3986 section 2.3, unreserved characters; section 3.3, dot-segments, which clients take out.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_METADATA_VERSION = re.compile(r"latest|1\.0|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_SOCKET_PATH = 107
"""Bytes; unix(7): sun_path has 108 with the last NUL."""


class SocketAddress(NamedTuple):
    """An address and a port."""

    ip: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}" if self.ip.version == 4 else f"[{self.ip}]:{self.port}"


def parse_address(text: str) -> IPAddress:
    """Return the address; IPv4-mapped IPv6 is the IPv4 address. Scopes (`%eth0`) are not taken."""
    if "%" not in text:
        try:
            return canonical_address(text)
        except ValueError:
            pass
    raise ValueError(f"{quoted(text)} is not an address such as 10.77.3.9 or fd00::9")


def parse_network(text: str) -> IPNetwork:
    """Return the network; one address is the network of itself. Host bits are a mistake, not a rounding."""
    if not _NETWORK.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a network such as 10.77.0.0/16")
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(_describe_bad_network(text)) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        return IPv4Network((str(address), network.prefixlen - _MAPPED.prefixlen))
    return network


def _describe_bad_network(text: str) -> str:
    try:
        interface = ip_interface(text)
    except ValueError:
        return f"{quoted(text)} is not a network such as 10.77.0.0/16"
    network, address = interface.network, interface.ip
    return f"{text} has bits set behind its mask; write {network}, or {address} for the one address"


def parse_listen_address(text: str) -> SocketAddress:
    """Return what to listen on: `ADDRESS[:PORT]`, IPv6 in brackets; port 80 when left out, 0: any."""
    return parse_socket_address(text, HTTP_PORT)


def parse_interface_name(text: str) -> str:
    """Return the name of a network interface. No wildcards, and none of an alias (`eth0:1`)."""
    if not _INTERFACE_NAME.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not an interface's name such as lan0: 1 to 15 of A-Z a-z 0-9 . _ -"
        )
    return text


def parse_admin_address(text: str) -> SocketAddress:
    """Return what the status listener listens on: as above, port 9338 when left out."""
    return parse_socket_address(text, ADMIN_PORT)


def parse_nameserver(text: str) -> SocketAddress:
    """Return a name server: `ADDRESS[:PORT]`, IPv6 in brackets if a port follows; port 53 when left out."""
    try:
        return SocketAddress(parse_address(text), DNS_PORT)
    except ValueError:
        server = parse_socket_address(text, DNS_PORT)
    if server.port == 0:
        raise ValueError(f"{quoted(text)}: port 0 is not a port to ask at")
    return server


def parse_base_path(text: str) -> str:
    """Return a path below which a metadata listener answers as well: not one of its own, and no root."""
    _check_path(text, "/afp-api/latest")
    first = text.split("/")[1]
    if _METADATA_VERSION.fullmatch(first):
        raise ValueError(f"{quoted(text)}: /{first} is the metadata service's own")
    return text


def parse_container_path(text: str) -> str:
    """Return the path at which container credentials are served."""
    _check_path(text, "/v1/credentials")
    return text


def _check_path(text: str, example: str) -> None:
    if not _PATH.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a path such as {example}: a slash before each segment and none at "
            "the end, segments of A-Z a-z 0-9 - . _ ~ and neither . nor .."
        )


def parse_socket_address(text: str, default_port: int) -> SocketAddress:
    """Return `ADDRESS[:PORT]`, IPv6 in brackets, with `default_port` when left out."""
    match = _SOCKET_ADDRESS.fullmatch(text)
    try:
        address = parse_address((match[1] or match[2]) if match else "")
    except ValueError:
        address = None
    if match is None or address is None or (match[1] and ":" not in match[1]):
        raise ValueError(
            f"{quoted(text)} is not ADDRESS:PORT such as 169.254.169.254:{default_port}"
            f" or [fd00:ec2::254]:{default_port} (IPv6 in brackets, no host name)"
        )
    port = int(match[3] or default_port)
    if port > _HIGHEST_PORT:
        raise ValueError(f"{quoted(text)}: ports end at {_HIGHEST_PORT}")
    return SocketAddress(address, port)


def parse_name(text: str) -> str:
    """Return a host name in lower case without the last dot.

    What ends in a number is none (RFC 1123 section 2.1): `10.77.3.999` is a mistyped address.
    """
    name = parse_host_name(text)
    if name is None or name.rpartition(".")[2].isdigit():
        raise ValueError(f"{quoted(text)} is not a host name such as tuvfoo42.valid.example")
    return name


def parse_address_or_name(text: str) -> IPAddress | str:
    """Return an address, or else a host name as `parse_name` does."""
    for parse in (parse_address, parse_name):
        try:
            return parse(text)
        except ValueError:
            continue
    raise ValueError(f"{quoted(text)} is neither an address nor a host name")


def parse_duration(text: str) -> float:
    """Return seconds: `300ms`, `2s`, `5m`, `1h`, `1d`, or a bare number of seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a duration such as 300ms, 2s, 5m, 1h or 1d")
    number, unit = float(match[1]), match[2] or "s"
    return number / 1000 if unit == "ms" else number * _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """Return seconds as `parse_duration` reads them, in the largest unit that fits evenly."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def parse_date(text: str) -> date:
    """Return the day that `text` names as YYYY-MM-DD. Raises ValueError."""
    try:
        if _DATE.fullmatch(text) is None:  # Python takes 20270601 and 2027-W22 as well
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day such as 2027-06-01") from None


def parse_token_id(text: str) -> str:
    """Return the id of a workload's token. Raises ValueError."""
    if _TOKEN_ID.fullmatch(text) is None:
        raise ValueError("must be the 16 hex digits that follow `imds-proxy-workload2-` in a token")
    return text


def parse_account_id(text: str) -> str:
    """Return 12 digits; fewer are padded with the zeros that a spreadsheet or YAML took away."""
    if not (text.isascii() and text.isdigit() and len(text) <= _ACCOUNT_ID_DIGITS):
        raise ValueError(f'{quoted(text)} is not an account id: 12 digits, such as "000123456789"')
    return text.zfill(_ACCOUNT_ID_DIGITS)


def parse_external_id(text: str) -> str:
    """Return an external id that STS takes. The message never has it: some treat it as a secret."""
    if not _EXTERNAL_ID.fullmatch(text):
        raise ValueError("not an external id: 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -")
    return text


def parse_role_path(text: str) -> str:
    """Return an IAM path, which begins and ends with a slash."""
    if not _ROLE_PATH.fullmatch(text) or len(text) > _LONGEST_ROLE_PATH:
        raise ValueError(f"{quoted(text)} is not a path of roles: / or /machines/, a slash at both ends")
    return text


def parse_text(text: str) -> str:
    """Return a text that has something in it, on one line."""
    if not text or not text.isprintable():
        raise ValueError("must be one line of text, not an empty one")
    return text


def parse_path(text: str) -> Path:
    """Return a path of the file system. It may be relative to the folder the program is started in."""
    return Path(parse_text(text))


def parse_socket_path(text: str) -> Path:
    """Return a path that a unix socket can have."""
    path = parse_path(text)
    if len(bytes(path)) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"longer than the {_LONGEST_SOCKET_PATH} bytes that a unix socket's path can have")
    return path


def parse_url(text: str) -> str:
    """Return an http or https URL of a host. The message never has it: there may be a password in it."""
    if not is_url(text):
        raise ValueError("not a URL such as https://sts.eu-central-1.amazonaws.com")
    if "?" in text or "#" in text:
        raise ValueError("a URL with ? or # in it; only scheme, host, port and path can be used")
    return text


def is_url(text: str) -> bool:
    """Tell whether `text` is a URL of http or https with a host."""
    if not text.isprintable() or " " in text:
        return False
    try:
        url = urlsplit(text)
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def parse_endpoint(text: str) -> str:
    """Return the URL of a service: as `parse_url`, without a user or a password in it."""
    if "@" in urlsplit(parse_url(text)).netloc:
        raise ValueError("a URL with a user in it; a service's address has none")
    return text
