"""The YAML grammar of a topology, declared once.

The loader reads by it, the JSON Schema and the reference page are made from it. A new key is
one `Key` here (and a field of the same name in the model).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from testbed.errors import InvalidValue
from testbed.topology import names, units
from testbed.topology.model import Interface, Queue
from testbed.topology.wording import join, quote, suggestion

MAX_COUNT: Final = 4096


@dataclass(frozen=True)
class Scalar:
    """A single value: `parse` takes what YAML resolved and raises InvalidValue."""

    name: str
    expects: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Items:
    """A list of at least `least` and at most `most` items."""

    item: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class OneOrMore:
    """One value, or a list of them."""

    item: Scalar


@dataclass(frozen=True)
class Key:
    """A key of a record; `default` is how the reference tells what its absence means."""

    name: str
    shape: Shape
    description: str
    required: bool = False
    default: str = ""


@dataclass(frozen=True)
class Record:
    """A mapping with known keys; `build` makes a model object of their values, if given.

    empty: nothing at all (`core:`) stands for no keys.
    """

    name: str
    description: str
    keys: tuple[Key, ...]
    build: Callable[..., Any] | None = None
    empty: bool = False


@dataclass(frozen=True)
class Table:
    """A mapping with keys of the user's choice."""

    key: Scalar
    value: Shape
    least: int = 0


@dataclass(frozen=True)
class Named:
    """A bare name, or a mapping of that one name to its options (which are not looked into)."""

    name: Scalar


Shape: TypeAlias = Scalar | Items | OneOrMore | Record | Table | Named


def described(value: object) -> str:
    """A YAML value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    return quote(value)


def _text(
    name: str, expects: str, parse: Callable[[str], Any], pattern: str, **more: Any
) -> Scalar:
    def checked(value: Any) -> Any:
        if isinstance(value, str):
            return parse(value)
        hint = "" if value is None else "; put it in quotes if it is meant as text"
        raise InvalidValue(f"expected {expects}, got {described(value)}{hint}")

    shape = {"pattern": pattern} if pattern else {}
    return Scalar(name, expects, checked, {"type": "string", **shape, **more})


def _choice(name: str, words: tuple[str, ...]) -> Scalar:
    expects = f"one of {join(words)}"

    def checked(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = suggestion(value, words) if isinstance(value, str) else ""
        raise InvalidValue(f"expected {expects}, got {described(value)}{near}")

    return Scalar(name, expects, checked, {"enum": list(words)})


def _whole(name: str, low: int, high: int) -> Scalar:
    expects = f"a whole number from {low} to {high}"

    def checked(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise InvalidValue(f"expected {expects}, got {described(value)}")

    return Scalar(name, expects, checked, {"type": "integer", "minimum": low, "maximum": high})


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    yes, no = ("yes", "on", "1"), ("no", "off", "0")
    word = str(value).lower()
    near = "; did you mean true?" if word in yes else "; did you mean false?" if word in no else ""
    raise InvalidValue(f"expected true or false, got {described(value)}{near}")


def _sysctl_value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValue(f"expected a number or text for a sysctl, got {described(value)}")
    return names.parse_name(str(value), names.SYSCTL_VALUE, "one line of printable text")


def _any_text(value: str) -> str:
    return value


DURATION: Final = Scalar(
    "duration",
    units.DURATION.expects,
    units.parse_duration,
    {"anyOf": [{"type": "string", "pattern": units.DURATION.pattern}, {"const": 0}]},
)
RATE: Final = Scalar(
    "rate",
    units.RATE.expects,
    units.parse_rate,
    {"type": "string", "pattern": units.RATE.pattern},
)
SIZE: Final = Scalar(
    "size",
    units.SIZE.expects,
    units.parse_size,
    {"anyOf": [{"type": "string", "pattern": units.SIZE.pattern}, {"type": "integer"}]},
)
PROBABILITY: Final = Scalar(
    "probability",
    units.PROBABILITY_EXPECTS,
    units.parse_probability,
    {
        "anyOf": [
            {"type": "string", "pattern": units.PROBABILITY_PATTERN},
            {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        ]
    },
)
QUEUE_LIMIT: Final = Scalar(
    "queue-limit",
    units.QUEUE_LIMIT_EXPECTS,
    units.parse_queue_limit,
    {"type": "string", "pattern": units.QUEUE_LIMIT_PATTERN},
)
TEXT: Final = _text("text", "text", _any_text, "")
TOPOLOGY_NAME: Final = _text(
    "topology-name",
    "a name such as docomo (lower-case letters, digits and `-`)",
    names.parse_topology_name,
    names.TOPOLOGY_NAME,
)
SCENARIO_NAME: Final = _text(
    "scenario-name",
    "the name of a scenario such as docomo",
    lambda text: names.parse_name(text, names.TOPOLOGY_NAME, "the name of a scenario"),
    names.TOPOLOGY_NAME,
)
NODE_NAME: Final = _text(
    "node-name",
    "a node name such as gateway",
    names.parse_node_name,
    names.NODE_NAME,
    **{"not": {"enum": list(names.RESERVED_NODES)}},
)
INTERFACE_NAME: Final = _text(
    "interface-name",
    "an interface name such as eth0",
    names.parse_interface_name,
    names.INTERFACE_NAME,
    **{"not": {"enum": list(names.RESERVED_INTERFACES)}},
)
ENDPOINT: Final = _text(
    "endpoint",
    "an endpoint such as gateway:eth0 or gateway",
    names.parse_endpoint,
    names.ENDPOINT,
)
OUTSIDE: Final = _text(
    "outside",
    "a neighbour or an interface of the middlebox",
    lambda text: names.parse_name(
        text, rf"{names.NODE_NAME}|{names.INTERFACE_NAME}", "a neighbour or an interface"
    ),
    rf"{names.NODE_NAME}|{names.INTERFACE_NAME}",
)
SYSCTL_NAME: Final = _text(
    "sysctl-name", names.SYSCTL_EXPECTS, names.parse_sysctl_name, names.SYSCTL_NAME
)
SYSCTL_VALUE: Final = Scalar(
    "sysctl-value",
    "a number or text",
    _sysctl_value,
    {"anyOf": [{"type": "string", "pattern": names.SYSCTL_VALUE}, {"type": "integer"}]},
)
CONGESTION_CONTROL: Final = _text(
    "congestion-control",
    "a congestion control such as reno or cubic",
    names.parse_congestion_control,
    names.CONGESTION_CONTROL,
)
FUNCTION_NAME: Final = _text(
    "function-name",
    "the name of a middlebox function such as setup-proxy",
    lambda text: names.parse_name(text, names.FUNCTION_NAME, "the name of a middlebox function"),
    names.FUNCTION_NAME,
)
SUBNET: Final = _text(
    "subnet",
    "a subnet such as 10.1.0.0/24 or fd00:1::/64",
    lambda text: str(names.parse_subnet(text)),
    names.SUBNET,
)
HOST_ADDRESS: Final = _text(
    "address",
    "an address with its prefix length such as 10.0.0.1/24",
    lambda text: str(names.parse_host_address(text)),
    names.SUBNET,
)
TARGET: Final = _text(
    "target", "a node, a prefix such as 10.1.0.0/16 or `default`", names.parse_target, names.TARGET
)
VIA: Final = _text("via", "a node or an address", names.parse_via, names.VIA)
KIND: Final = _choice("kind", ("host", "router", "switch", "middlebox"))
EMULATOR: Final = _choice("emulator", ("auto", "userspace", "netem"))
SWITCH: Final = Scalar("true-or-false", "true or false", _switch, {"type": "boolean"})
COUNT: Final = _whole("count", 1, MAX_COUNT)
SEED: Final = _whole("seed", 0, 2**53 - 1)
LINK_MTU: Final = _whole("mtu", 68, 65521)
ROUTE_MTU: Final = _whole("route-mtu", 68, 65535)
ADVMSS: Final = _whole("advmss", 1, 65495)
WINDOW: Final = _whole("segments", 1, 65535)

QUEUE: Final = Record(
    "queue",
    "The queue in front of the rate: drop-tail.",
    (
        Key(
            "limit",
            QUEUE_LIMIT,
            "How much may wait for the bottleneck (packets in flight never count).",
            default="`1000 packets`",
        ),
    ),
    build=Queue,
)
IMPAIRMENTS: Final = (
    Key("rate", RATE, "Bottleneck rate of each direction.", default="unlimited"),
    Key("delay", DURATION, "One-way propagation delay, after the queue.", default="`0`"),
    Key("loss", PROBABILITY, "Probability that a packet is lost, independently.", default="`0`"),
    Key("queue", QUEUE, "The queue in front of the rate."),
)
DIRECTION: Final = Record(
    "direction", "Impairments of one direction; they override the link's common ones.", IMPAIRMENTS
)
ROUTE: Final = Record(
    "route",
    "A route, or TCP settings for a route that the plan makes anyway.",
    (
        Key("to", TARGET, "A node, a prefix or `default`.", required=True),
        Key("via", VIA, "Next hop: a neighbouring node or an address.", default="as planned"),
        Key("rto_min", DURATION, "Least retransmission time-out of TCP."),
        Key("initcwnd", WINDOW, "Initial congestion window, segments."),
        Key("initrwnd", WINDOW, "Initial receive window, segments."),
        Key("advmss", ADVMSS, "Maximum segment size that TCP announces, bytes."),
        Key("mtu", ROUTE_MTU, "Path MTU of the route, bytes."),
        Key("congestion_control", CONGESTION_CONTROL, "For this route only."),
    ),
)
INTERFACE: Final = Record(
    "interface",
    "Settings of one interface.",
    (
        Key(
            "addresses",
            Items(HOST_ADDRESS),
            "Addresses with prefix length; they decide the subnet of their link. A family "
            "that has none gets one chosen.",
            default="chosen",
        ),
    ),
    build=Interface,
    empty=True,
)
NODE: Final = Record(
    "node",
    "One host of the network, or a group of equal ones.",
    (
        Key("kind", KIND, "What the node does with packets.", default="`host`"),
        Key("count", COUNT, "Makes a group: `hosts` with count 3 is hosts1, hosts2 and hosts3."),
        Key(
            "congestion_control",
            CONGESTION_CONTROL,
            "TCP congestion control of every connection of the node.",
            default="the kernel's",
        ),
        Key("sysctls", Table(SYSCTL_NAME, SYSCTL_VALUE), "Kernel settings of this node only."),
        Key("routes", Items(ROUTE), "Routes beyond, or settings of, the planned ones."),
        Key("interfaces", Table(INTERFACE_NAME, INTERFACE), "Settings of interfaces by name."),
        Key("outside", OUTSIDE, "Middlebox: the neighbour (or own interface) on its outer side."),
        Key(
            "functions",
            Items(Named(FUNCTION_NAME)),
            "Middlebox: what it does to packets, in order from the outside: a name, or "
            "`name: {option: value}`.",
        ),
    ),
    empty=True,
)
LINK: Final = Record(
    "link",
    "Two interfaces joined. A link of a group stands for one link per member.",
    (
        Key(
            "endpoints",
            Items(ENDPOINT, 2, 2),
            "`node:interface` twice; `node` alone takes the next free of eth0, eth1, ... "
            "(port1, port2, ... of a switch).",
            required=True,
        ),
        *IMPAIRMENTS,
        Key("forward", DIRECTION, "First to second endpoint: overrides the common values."),
        Key("reverse", DIRECTION, "Second to first endpoint: overrides the common values."),
        Key("mtu", LINK_MTU, "Largest IP packet, bytes; IPv6 needs 1280.", default="`1500`"),
        Key("offload", SWITCH, "Let the kernel merge and split segments.", default="`false`"),
        Key(
            "emulated",
            SWITCH,
            "Put an emulator in the path even without impairments, to cut or impair it later.",
            default="`false`",
        ),
        Key("subnet", OneOrMore(SUBNET), "One IPv4 and/or IPv6 subnet.", default="chosen"),
    ),
)
TOPOLOGY: Final = Record(
    "topology",
    "A network: nodes, the links between them, what to capture.",
    (
        Key("name", TOPOLOGY_NAME, "Name of the topology, also of its results.", required=True),
        Key("description", TEXT, "What it is for."),
        Key("scenario", SCENARIO_NAME, "The experiment that `testbed run` runs in it."),
        Key("emulator", EMULATOR, "What applies impairments.", default="`auto`"),
        Key("seed", SEED, "Start of all random decisions.", default="`0`"),
        Key("nodes", Table(NODE_NAME, NODE, 1), "The nodes by name.", required=True),
        Key("links", Items(LINK), "The links."),
        Key("captures", Items(ENDPOINT), "Interfaces to capture; `node` means all of its."),
    ),
)
