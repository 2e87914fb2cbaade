"""The firewall before the listeners for machines, as a file for nft: one table of our own, dual stack.

Each packet is judged before any address translation, by the address that its sender gave it. The table
touches packets to the configured listeners, and to metadata addresses as a whole; all else it lets be.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from imds_proxy.rendering.files import RenderedFile, RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from imds_proxy.config import ListenSettings, Settings, SocketAddress
    from imds_proxy.model import IPAddress

    IPNetwork = IPv4Network | IPv6Network

FILE_NAME = "imds-proxy.nft"

COUNTERS = {
    "let_in": "packets to a listener",
    "wrong_interface": "not by one of network.interfaces",
    "forged_source": "the way back to the sender is another interface",
    "forged_dns": "from a name server's port, but answers do not come by that interface",
    "excepted": "the sender is in callers_except",
    "not_a_caller": "the sender is not in callers",
    "too_far": "sent further away than hop_limit",
    "too_fast": "new connections of one address beyond network.syn_rate",
    "no_listener": "to a metadata address, but to no listener there",
    "forwarded": "to a metadata address that this host did not have",
}
"""Every named counter, and which packets it counts. All but the first were dropped.

`too_fast` is there only with `network.syn_rate`.
"""

INITIAL_HOPS = (64, 128, 255)
"""The time to live with which systems send: Linux, macOS and BSD; Windows; Solaris and network devices."""

_DNS_PORT = 53

_METADATA_NETWORKS = (IPv4Network("169.254.0.0/16"), IPv6Network("fd00:ec2::/32"))

_SYN_SOURCES = {4: "syn_sources4", 6: "syn_sources6"}
_MAX_SYN_SOURCES = 65_535
"""Size of each set of sources. The kernel does not meter further ones: their packets pass."""

_HEAD = """\
# The firewall before imds-proxy's listeners, made by `imds-proxy render nftables`: change the configuration
# instead. Load it with `nft -f`, as often as you like: the old table goes and the new one comes in one step.
table inet imds_proxy
delete table inet imds_proxy
table inet imds_proxy {
"""


@dataclass(frozen=True, slots=True)
class _Door:
    """A listener, and by which addresses packets to it come."""

    chain: str
    addresses: tuple[SocketAddress, ...]
    listener: ListenSettings


def render(settings: Settings) -> tuple[RenderedFile, ...]:
    """Return the file for nft. Raises RenderingError."""
    return (RenderedFile(FILE_NAME, render_table(settings)),)


def render_table(settings: Settings) -> str:
    """Return the text of the file. Raises RenderingError."""
    if not settings.listen:
        raise RenderingError("listen: there is no listener for machines, so nothing to put a firewall before")
    doors = [
        _Door(f"listener_{number}", _addresses_of(listener, settings), listener)
        for number, listener in enumerate(settings.listen, 1)
    ]
    interfaces = _interfaces_of(settings)
    chains = [
        _chain("arriving", _arriving(doors, interfaces, settings)),
        *(
            _chain(
                door.chain, _judging(door, interfaces, settings.network.syn_rate), str(door.listener.address)
            )
            for door in doors
        ),
        _chain("nothing_else", _nothing_else(interfaces)),
    ]
    if settings.network.take_over:
        chains.append(_chain("taking_over", _taking_over(settings, interfaces)))
    chains += [_chain("forwarding", _forwarding(doors, settings)), _chain("answering", _answering(doors))]
    is_metered = settings.network.syn_rate is not None
    counters = "".join(
        f"    counter {name} {{}}{' ' * (16 - len(name))}# {text}\n"
        for name, text in COUNTERS.items()
        if is_metered or name != "too_fast"
    )
    sets = "".join(f"{_source_set(version)}\n" for version in _SYN_SOURCES) if is_metered else ""
    return f"{_HEAD}{counters}\n{sets}" + "\n".join(chains) + "}\n"


def _source_set(version: int) -> str:
    """Return a set of addresses that packets fill, each with its own rate."""
    properties = (
        f"type ipv{version}_addr",
        f"size {_MAX_SYN_SOURCES}",
        "flags dynamic,timeout",
        "timeout 1m",
    )
    lines = [f"        {each}" for each in properties]
    return "\n".join([f"    set {_SYN_SOURCES[version]} {{", *lines, "    }", ""])


def _interfaces_of(settings: Settings) -> str:
    """Return the set of interfaces by which callers come."""
    names = settings.network.interfaces
    if not names:
        raise RenderingError(
            "network.interfaces is required: the interfaces by which callers come, such as [lan0] "
            "([lo] where only this host's own programs ask)"
        )
    return _set(f'"{name}"' for name in names)


def _addresses_of(listener: ListenSettings, settings: Settings) -> tuple[SocketAddress, ...]:
    taken = (outer for outer, inner in settings.network.take_over.items() if inner == listener.address)
    return (listener.address, *taken)


def _arriving(doors: Sequence[_Door], interfaces: str, settings: Settings) -> Iterator[str]:
    """Lead each packet to its listener's rules. A listener on all addresses comes after those on one."""
    yield "type filter hook prerouting priority mangle; policy accept;"
    yield "iif lo accept"
    ports = sorted({_DNS_PORT, *(server.port for server in settings.dns.nameservers or ())})
    # Nothing but its own words vouches for a DNS answer. Callers must not send one in a server's name.
    yield (
        f"iifname {interfaces} fib daddr type local meta l4proto {{ tcp, udp }} th sport {_set(ports)} "
        f"fib saddr . iif oif missing {_drop('forged_dns')}"
    )
    pairs = [(address, door) for door in doors for address in door.addresses]
    for address, door in sorted(pairs, key=lambda pair: pair[0].ip.is_unspecified):
        yield f"{_at(address, 'daddr', 'dport')} goto {door.chain}"
    metadata = _metadata_addresses(doors)
    if settings.people is not None:
        for listener in settings.people.listen:
            if listener.address is not None and listener.address.ip in metadata:
                yield f"{_at(listener.address, 'daddr', 'dport')} accept"
    for ip in metadata:
        yield f"{_family(ip)} daddr {ip} goto nothing_else"


def _judging(door: _Door, interfaces: str, syn_rate: int | None) -> Iterator[str]:
    listener = door.listener
    if listener.address.ip.is_loopback:
        yield _drop("wrong_interface")
        return
    yield f"iifname != {interfaces} {_drop('wrong_interface')}"
    yield f"fib saddr . iif oif missing {_drop('forged_source')}"
    for version in _versions(listener.address.ip):
        family = "ip" if version == 4 else "ip6"
        excepted = _networks(listener.callers_except, version)
        if excepted:
            yield f"{family} saddr {_set(excepted)} {_drop('excepted')}"
        callers = _networks(listener.callers, version)
        if not callers:
            yield f"meta nfproto ipv{version} {_drop('not_a_caller')}"
        elif callers[0].prefixlen:
            yield f"{family} saddr != {_set(callers)} {_drop('not_a_caller')}"
        hops = _hops(listener)
        if hops is not None:
            field = "ip ttl" if version == 4 else "ip6 hoplimit"
            yield f"{field} != {_set(_near(hops))} {_drop('too_far')}"
        if syn_rate is not None:
            yield _meter(version, syn_rate)
    yield "counter name let_in accept"


def _meter(version: int, rate: int) -> str:
    """Return the rule that drops an address's new connections beyond `rate` a second.

    It comes after the other checks, so that only callers take up room in the set. It looks at TCP flags,
    because the state of connections needs tracking, which a flood would fill up.
    """
    family = "ip" if version == 4 else "ip6"
    is_new = "tcp flags & (fin | syn | rst | ack) == syn"
    limit = f"limit rate over {rate}/second burst {rate} packets"
    return (
        f"meta nfproto ipv{version} {is_new} "
        f"update @{_SYN_SOURCES[version]} {{ {family} saddr {limit} }} {_drop('too_fast')}"
    )


def _nothing_else(interfaces: str) -> Iterator[str]:
    """Let in what a metadata address needs besides its listeners: ping, errors, the neighbours' questions."""
    errors = "echo-request, destination-unreachable, time-exceeded, parameter-problem"
    yield f"iifname != {interfaces} {_drop('wrong_interface')}"
    yield f"icmp type {{ {errors} }} accept"
    yield f"icmpv6 type {{ {errors}, packet-too-big, nd-neighbor-solicit, nd-neighbor-advert }} accept"
    yield _drop("no_listener")


def _taking_over(settings: Settings, interfaces: str) -> Iterator[str]:
    yield "type nat hook prerouting priority dstnat; policy accept;"
    for outer, inner in settings.network.take_over.items():
        yield (
            f"iifname {interfaces} fib daddr type != local {_at(outer, 'daddr', 'dport')} "
            f"dnat {_family(outer.ip)} to {inner}"
        )


def _forwarding(doors: Sequence[_Door], settings: Settings) -> Iterator[str]:
    """Keep requests from going on to somebody else's metadata service when an address is missing here."""
    yield "type filter hook forward priority filter; policy accept;"
    metadata = _metadata_addresses(doors)
    for ip in metadata:
        yield f"{_family(ip)} daddr {ip} {_drop('forwarded')}"
    for ip in dict.fromkeys(outer.ip for outer in settings.network.take_over):
        yield f"ct original {_family(ip)} daddr {ip} {_drop('forwarded')}"


def _answering(doors: Sequence[_Door]) -> Iterator[str]:
    yield "type filter hook output priority mangle; policy accept;"
    for door in sorted(doors, key=lambda door: door.listener.address.ip.is_unspecified):
        address, hops = door.listener.address, _hops(door.listener)
        if address.ip.is_loopback or hops is None:
            continue
        for version in _versions(address.ip):
            field = "ip ttl" if version == 4 else "ip6 hoplimit"
            source = f"{_family(address.ip)} saddr {address.ip} " if not address.ip.is_unspecified else ""
            yield f"{source}tcp sport {address.port} {field} set {hops} accept"


def _at(address: SocketAddress, where: str, port: str) -> str:
    """Match TCP packets to an address; to any of this host's for one that stands for all."""
    if not address.ip.is_unspecified:
        return f"{_family(address.ip)} {where} {address.ip} tcp {port} {address.port}"
    only_v4 = "meta nfproto ipv4 " if address.ip.version == 4 else ""
    return f"{only_v4}fib {where} type local tcp {port} {address.port}"


def _hops(listener: ListenSettings) -> int | None:
    """Return how many hops away callers may be; None: the listener has no such limit."""
    return None if listener.container is not None else listener.hop_limit


def _near(hops: int) -> list[str]:
    """Return which times to live have packets that were sent at most `hops` hops away."""
    if hops == 1:
        return [str(first) for first in INITIAL_HOPS]
    return [f"{first - hops + 1}-{first}" for first in INITIAL_HOPS]


def _metadata_addresses(doors: Iterable[_Door]) -> list[IPAddress]:
    """Return the addresses that are for metadata alone, where nothing else of this host is to be reached."""
    ips = (address.ip for door in doors for address in door.addresses)
    return [
        ip
        for ip in dict.fromkeys(ips)
        if any(ip.version == network.version and ip in network for network in _METADATA_NETWORKS)
    ]


def _versions(ip: IPAddress) -> tuple[int, ...]:
    """Return the families of the packets to an address that is listened on: `[::]` takes both."""
    return (4, 6) if ip.version == 6 and ip.is_unspecified else (ip.version,)


def _family(ip: IPAddress) -> str:
    return "ip" if ip.version == 4 else "ip6"


def _networks(networks: Iterable[IPNetwork], version: int) -> list[IPNetwork]:
    """Return those of one family, none inside another: nft takes no overlaps in a set."""
    if version == 4:
        return list(collapse_addresses(each for each in networks if isinstance(each, IPv4Network)))
    return list(collapse_addresses(each for each in networks if isinstance(each, IPv6Network)))


def _drop(counter: str) -> str:
    return f"counter name {counter} drop"


def _set(elements: Iterable[object]) -> str:
    return f"{{ {', '.join(str(element) for element in elements)} }}"


def _chain(name: str, rules: Iterable[str], comment: str = "") -> str:
    head = f"    chain {name} {{" + (f"    # {comment}" if comment else "")
    return "\n".join([head, *(f"        {rule}" for rule in rules), "    }", ""])
