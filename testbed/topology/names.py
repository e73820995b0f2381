"""Names and addresses: what may stand in a topology where something is named.

Every parser returns the normal form of what it is given and raises `InvalidValue`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from testbed.errors import InvalidValue
from testbed.wire.flags import FLAGS
from testbed.wording import quote, suggestion

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
HostAddress: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

TOPOLOGY_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
NODE_NAME: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
# dev_valid_name() in net/core/dev.c: 1 to 15 bytes, no `/`, `:` or white space, not `.` or `..`;
# `%` makes the kernel choose a number. Narrowed to what also makes a good file name.
INTERFACE_NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}$"
ENDPOINT: Final = rf"{NODE_NAME[:-1]}(?::{INTERFACE_NAME[1:-1]})?$"
SYSCTL_NAME: Final = r"^net(?:\.[A-Za-z0-9_-]{1,64}){2,8}$"
SYSCTL_VALUE: Final = r"^[\t -~]{1,200}$"
# TCP_CA_NAME_MAX in include/net/tcp.h is 16, with the terminating NUL.
CONGESTION_CONTROL: Final = r"^[a-z0-9_-]{1,15}$"
FUNCTION_NAME: Final = r"^[a-z][a-z0-9-]{0,62}$"
_TCP_FLAG: Final = f"(?:{'|'.join(FLAGS)})"
TCP_FLAGS: Final = rf"^{_TCP_FLAG}(?:\+{_TCP_FLAG}){{0,7}}$"
SUBNET: Final = r"^[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}$"
ADDRESS: Final = r"^(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$"
TARGET: Final = rf"{NODE_NAME[:-1]}$|{ADDRESS[:-1]}$|{SUBNET[:-1]}$"
VIA: Final = rf"{NODE_NAME[:-1]}$|{ADDRESS[:-1]}$"

RESERVED_NODES: Final = ("default",)
# `all` and `default` are directories beside the interfaces in /proc/sys/net/ipv4/conf.
RESERVED_INTERFACES: Final = ("lo", "all", "default")
SYSCTL_EXPECTS: Final = "a sysctl of the network such as net.ipv4.tcp_syncookies"


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches an anchored pattern."""
    return re.search(pattern, text) is not None and "\n" not in text


def parse_name(text: str, pattern: str, expects: str, reserved: tuple[str, ...] = ()) -> str:
    """`text` itself if it matches and is not reserved."""
    if text in reserved:
        raise InvalidValue(f"expected {expects}, got {quote(text)}: this name is reserved")
    if not matches(pattern, text):
        raise InvalidValue(f"expected {expects}, got {quote(text)}")
    return text


def parse_topology_name(text: str) -> str:
    """A name such as `docomo`."""
    return parse_name(text, TOPOLOGY_NAME, "a name of lower-case letters, digits and `-`")


def parse_node_name(text: str) -> str:
    """A name such as `gateway`."""
    expects = "a node name (a letter, then letters, digits, `_` and `-`, at most 63)"
    return parse_name(text, NODE_NAME, expects, RESERVED_NODES)


def parse_interface_name(text: str) -> str:
    """A name such as `eth0`."""
    expects = "an interface name (1 to 15 letters, digits, `_`, `.`, `+`, `-`)"
    return parse_name(text, INTERFACE_NAME, expects, RESERVED_INTERFACES)


def parse_endpoint(text: str) -> tuple[str, str]:
    """`node:interface` or `node` as (node, interface), the interface empty if not given."""
    node, colon, interface = text.partition(":")
    if colon and not interface:
        raise InvalidValue(f"expected `node:interface` or `node`, got {quote(text)}")
    try:
        parse_node_name(node)
        return node, parse_interface_name(interface) if interface else ""
    except InvalidValue as error:
        raise InvalidValue(f"in {quote(text)}: {error}") from None


def parse_sysctl_name(text: str) -> str:
    """A name such as `net.ipv4.tcp_syncookies`; only `net.` belongs to a namespace."""
    if matches(SYSCTL_NAME, text):
        return text
    if not text.startswith("net."):
        why = ": only net.* belongs to one node, all others are of the whole host"
    else:
        why = ": the names between the dots are letters, digits, `_` and `-`"
    raise InvalidValue(f"expected {SYSCTL_EXPECTS}, got {quote(text)}{why}")


def parse_congestion_control(text: str) -> str:
    """A name such as `cubic`; whether the kernel has it is found out when the lab is built."""
    return parse_name(text, CONGESTION_CONTROL, "a congestion control such as reno or cubic")


def parse_subnet(text: str) -> Network:
    """`10.1.0.0/24` or `fd00:1::/64`, without host bits, with room for two addresses."""
    expects = f"a subnet such as 10.1.0.0/24 or fd00:1::/64, got {quote(text)}"
    if not matches(SUBNET, text):
        raise InvalidValue(f"expected {expects}")
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidValue(f"expected {expects}: {error}") from None
    if str(loose.network_address) != str(ipaddress.ip_address(text.split("/")[0])):
        raise InvalidValue(f"expected {expects}: host bits are set; did you mean {str(loose)!r}?")
    if loose.prefixlen >= loose.max_prefixlen:
        raise InvalidValue(f"expected {expects}: it has no room for two addresses")
    why = _unusable(loose.network_address) or _unusable(loose[-1])
    if why or loose.prefixlen < 8:
        raise InvalidValue(f"expected {expects}: {why or 'it is larger than a /8'}")
    return loose


def parse_host_address(text: str) -> HostAddress:
    """`10.0.0.1/24`: an address that a host can have, with the length of its subnet."""
    expects = f"an address with its prefix length such as 10.0.0.1/24, got {quote(text)}"
    if not matches(SUBNET, text):
        hint = "; did you forget the prefix length?" if matches(ADDRESS, text) else ""
        raise InvalidValue(f"expected {expects}{hint}")
    try:
        host = ipaddress.ip_interface(text)
    except ValueError as error:
        raise InvalidValue(f"expected {expects}: {error}") from None
    if host.network.num_addresses > 1:
        parse_subnet(str(host.network))
    elif why := _unusable(host.ip):
        raise InvalidValue(f"expected {expects}: {why}")
    if host.network.num_addresses > 2 and host.ip == host.network.network_address:
        raise InvalidValue(f"expected {expects}: it is the address of the subnet itself")
    if host.version == 4 and host.network.num_addresses > 2 and host.ip == host.network[-1]:
        raise InvalidValue(f"expected {expects}: it is the broadcast address of the subnet")
    return host


def _unusable(address: Address) -> str:
    for kind in ("loopback", "multicast", "link_local", "unspecified", "reserved"):
        if getattr(address, f"is_{kind}"):
            return f"{address} is a {kind.replace('_', '-')} address"
    return "0.0.0.0/8 is not for hosts" if address.version == 4 and int(address) < 1 << 24 else ""


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def looks_like_address(text: str) -> bool:
    """Whether a route's `to` or `via` is an address or prefix rather than a node."""
    return ":" in text or "/" in text or text[:1].isdigit()


def parse_target(text: str) -> str:
    """Where a route leads: a node, a prefix in normal form, or `default`."""
    if text == "default":
        return text
    if not looks_like_address(text):
        return parse_node_name(text)
    expects = "expected a node, a prefix such as 10.1.0.0/16 or `default`"
    try:
        if "%" in text or not matches(TARGET, text):
            raise ValueError("not an address")
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise InvalidValue(f"{expects}, got {quote(text)}: {error}") from None


def parse_peer(text: str) -> str:
    """A node or a prefix in normal form."""
    if text == "default":
        raise InvalidValue("expected a node or a prefix such as 10.1.0.0/16, got 'default'")
    return parse_target(text)


def parse_via(text: str) -> str:
    """A route's next hop: a node or an address in normal form."""
    if not looks_like_address(text):
        return parse_node_name(text)
    try:
        if not matches(ADDRESS, text):
            raise ValueError("not an address")
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        why = f"expected a node or an address, got {quote(text)}: {error}"
        raise InvalidValue(why) from None


def unknown_node(name: str, nodes: Iterable[str]) -> str:
    """The message for a node that does not exist."""
    return f"there is no node {quote(name)}{suggestion(name, nodes)}"
