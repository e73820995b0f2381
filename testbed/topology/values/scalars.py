"""The single values of the grammar: how each is read, and how the JSON Schema describes it."""

from __future__ import annotations

from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology import names, units
from testbed.topology.values.shapes import Scalar, choice, described, text, whole

MAX_COUNT: Final = 4096


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


def _only_true(value: Any) -> bool:
    if value is True:
        return True
    raise InvalidValue(f"expected true, got {described(value)}; leave the key out otherwise")


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
TEXT: Final = text("text", "text", _any_text, "")
TOPOLOGY_NAME: Final = text(
    "topology-name",
    "a name such as docomo (lower-case letters, digits and `-`)",
    names.parse_topology_name,
    names.TOPOLOGY_NAME,
)
SCENARIO_NAME: Final = text(
    "scenario-name",
    "the name of a scenario such as docomo",
    lambda given: names.parse_name(given, names.TOPOLOGY_NAME, "the name of a scenario"),
    names.TOPOLOGY_NAME,
)
NODE_NAME: Final = text(
    "node-name",
    "a node name such as gateway",
    names.parse_node_name,
    names.NODE_NAME,
    **{"not": {"enum": list(names.RESERVED_NODES)}},
)
INTERFACE_NAME: Final = text(
    "interface-name",
    "an interface name such as eth0, or lo",
    lambda given: given if given == "lo" else names.parse_interface_name(given),
    names.INTERFACE_NAME,
    **{"not": {"enum": [name for name in names.RESERVED_INTERFACES if name != "lo"]}},
)
ENDPOINT: Final = text(
    "endpoint",
    "an endpoint such as gateway:eth0 or gateway",
    names.parse_endpoint,
    names.ENDPOINT,
)
OUTSIDE: Final = text(
    "outside",
    "a neighbour or an interface of the middlebox",
    lambda given: names.parse_name(
        given, rf"{names.NODE_NAME}|{names.INTERFACE_NAME}", "a neighbour or an interface"
    ),
    rf"{names.NODE_NAME}|{names.INTERFACE_NAME}",
)
SYSCTL_NAME: Final = text(
    "sysctl-name", names.SYSCTL_EXPECTS, names.parse_sysctl_name, names.SYSCTL_NAME
)
SYSCTL_VALUE: Final = Scalar(
    "sysctl-value",
    "a number or text",
    _sysctl_value,
    {"anyOf": [{"type": "string", "pattern": names.SYSCTL_VALUE}, {"type": "integer"}]},
)
CONGESTION_CONTROL: Final = text(
    "congestion-control",
    "a congestion control such as reno or cubic",
    names.parse_congestion_control,
    names.CONGESTION_CONTROL,
)
FUNCTION_NAME: Final = text(
    "function-name",
    "the name of a middlebox function such as setup-proxy",
    lambda given: names.parse_name(given, names.FUNCTION_NAME, "the name of a middlebox function"),
    names.FUNCTION_NAME,
)
SUBNET: Final = text(
    "subnet",
    "a subnet such as 10.1.0.0/24 or fd00:1::/64",
    lambda given: str(names.parse_subnet(given)),
    names.SUBNET,
)
HOST_ADDRESS: Final = text(
    "address",
    "an address with its prefix length such as 10.0.0.1/24",
    lambda given: str(names.parse_host_address(given)),
    names.SUBNET,
)
TARGET: Final = text(
    "target", "a node, a prefix such as 10.1.0.0/16 or `default`", names.parse_target, names.TARGET
)
PEER: Final = text("peer", "a node or a prefix such as 10.1.0.0/16", names.parse_peer, names.TARGET)
VIA: Final = text("via", "a node or an address", names.parse_via, names.VIA)
DIRECTION: Final = choice("forward-or-reverse", ("forward", "reverse"))
FAMILY: Final = choice("family", ("both", "ipv4", "ipv6"))
PREFERRED: Final = choice("preferred-family", ("ipv4", "ipv6"))
DISTRIBUTION: Final = choice("distribution", ("normal", "uniform", "pareto"))
CORRUPTED: Final = choice("corrupted", ("any", "header", "payload"))
LOSS_MODEL: Final = choice("loss-model", ("gilbert-elliott", "state"))
AQM: Final = choice("aqm", ("red", "codel", "fq_codel", "pie", "cake"))
EMULATOR: Final = choice("emulator", ("auto", "userspace", "netem"))
TRUE: Final = Scalar("true", "true", _only_true, {"const": True})
SWITCH: Final = Scalar("true-or-false", "true or false", _switch, {"type": "boolean"})
FLAGS: Final = text(
    "flags",
    "TCP flags such as SYN or FIN+ACK",
    lambda given: names.parse_name(given, names.TCP_FLAGS, "TCP flags such as SYN or FIN+ACK"),
    names.TCP_FLAGS,
)
FILE: Final = text("file", "the name of a file", _any_text, "")
PROTOCOL: Final = choice("protocol", ("tcp", "udp", "icmp"))
VLAN: Final = whole("vlan", 1, 4094)
PORT: Final = whole("port", 1, 65535)
NUMBER: Final = whole("number", 1, 2**31 - 1)
OVERHEAD: Final = whole("overhead", 0, 65536)
PROCESSES: Final = whole("processes", 1, 64)
COUNT: Final = whole("count", 1, MAX_COUNT)
SEED: Final = whole("seed", 0, 2**53 - 1)
SNAP: Final = whole("snap", 64, 65535)
LINK_MTU: Final = whole("mtu", 68, 65521)
ROUTE_MTU: Final = whole("route-mtu", 68, 65535)
ADVMSS: Final = whole("advmss", 1, 65495)
WINDOW: Final = whole("segments", 1, 65535)
