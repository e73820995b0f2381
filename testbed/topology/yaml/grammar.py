"""The YAML grammar of a topology, declared once.

The loader reads by it, the JSON Schema and the reference page are made from it. A new key is
one `Key` here (and a field of the same name in the model).
"""

from __future__ import annotations

from typing import Final

from testbed.topology import kinds
from testbed.topology.model import Interface
from testbed.topology.values import scalars
from testbed.topology.values.scalars import (
    COUNT,
    INTERFACE_NAME,
    OUTSIDE,
    SYSCTL_NAME,
    SYSCTL_VALUE,
    TARGET,
    TOPOLOGY_NAME,
    VIA,
)
from testbed.topology.values.shapes import Either, Items, Key, Named, Record, Table
from testbed.topology.yaml.link_grammar import LINK

ROUTE: Final = Record(
    "route",
    "A route, or TCP settings for a route that the plan makes anyway.",
    (
        Key("to", TARGET, "A node, a prefix or `default`.", required=True),
        Key("via", VIA, "Next hop: a neighbouring node or an address.", default="as planned"),
        Key("rto_min", scalars.DURATION, "Least retransmission time-out of TCP."),
        Key("initcwnd", scalars.WINDOW, "Initial congestion window, segments."),
        Key("initrwnd", scalars.WINDOW, "Initial receive window, segments."),
        Key("advmss", scalars.ADVMSS, "Maximum segment size that TCP announces, bytes."),
        Key("mtu", scalars.ROUTE_MTU, "Path MTU of the route, bytes."),
        Key("congestion_control", scalars.CONGESTION_CONTROL, "For this route only."),
    ),
)
INTERFACE: Final = Record(
    "interface",
    "Settings of one interface.",
    (
        Key(
            "addresses",
            Items(scalars.HOST_ADDRESS),
            "Addresses with prefix length; they decide the subnet of their link. A family "
            "that has none gets one chosen.",
            default="chosen",
        ),
        Key("vlan", scalars.VLAN, "Of a switch: the VLAN of frames without a tag.", default="none"),
        Key(
            "vlans",
            Items(scalars.VLAN, 1),
            "Of a switch, towards another: the VLANs of frames with tags (IEEE 802.1Q). Needs a "
            "kernel with 8021q.",
        ),
    ),
    build=Interface,
    empty=True,
)
KERNEL: Final = Record(
    "kernel",
    "What the node's own kernel does to packets.",
    (
        Key(
            "nftables",
            scalars.FILE,
            "A ruleset for the program `nft`, loaded inside the node before any packet is sent; "
            "the file's name is relative to this one.",
            required=True,
        ),
    ),
)
NODE: Final = Record(
    "node",
    "One host of the network, or a group of equal ones.",
    (
        Key("kind", kinds.KIND, "What the node does with packets.", default="`host`"),
        Key(
            "count",
            COUNT,
            "Makes a group: `hosts` with count 3 is hosts1, hosts2 and hosts3.",
        ),
        Key(
            "congestion_control",
            scalars.CONGESTION_CONTROL,
            "TCP congestion control of every connection of the node.",
            default="the kernel's",
        ),
        Key(
            "sysctls",
            Table(SYSCTL_NAME, SYSCTL_VALUE),
            "Kernel settings of this node only.",
        ),
        Key("routes", Items(ROUTE), "Routes beyond, or settings of, the planned ones."),
        Key(
            "interfaces",
            Table(INTERFACE_NAME, INTERFACE),
            "Settings of interfaces by name; the addresses of `lo` (/32, /128) are the node's on "
            "all its links.",
        ),
        Key(
            "outside",
            OUTSIDE,
            "Middlebox: the neighbour (or own interface) on its outer side.",
        ),
        Key(
            "functions",
            Items(Named(scalars.FUNCTION_NAME)),
            "Middlebox: what it does to packets, in order from the outside: a name, or "
            "`name: {option: value}`.",
        ),
        Key("kernel", KERNEL, "Host or router: what its own kernel does to packets."),
    ),
    empty=True,
    registered=kinds.keys_of_kinds,
)
EMULATOR_SETTINGS: Final = Record(
    "emulator-settings",
    "What applies impairments, and how well it has to.",
    (
        Key("kind", scalars.EMULATOR, "Which emulator.", default="`auto`"),
        Key(
            "processes",
            scalars.PROCESSES,
            "Processes that the userspace emulator spreads the links over.",
            default="`1`",
        ),
        Key(
            "max_lateness",
            scalars.DURATION,
            "How late the 99th percentile of packets may be handed over; the results of a run "
            "in which it was later are marked as not trustworthy.",
            default="`5ms`",
        ),
    ),
)
CAPTURE: Final = Record(
    "capture",
    "Interfaces to capture, and how much of each frame.",
    (
        Key("interface", scalars.ENDPOINT, "`node:interface`, or `node`.", required=True),
        Key(
            "snap",
            scalars.SNAP,
            "Bytes to keep of each frame, from its beginning. 128 have all headers of TCP over "
            "IPv6; lengths of segments are known all the same.",
            default="all",
        ),
    ),
)
TOPOLOGY: Final = Record(
    "topology",
    "A network: nodes, the links between them, what to capture.",
    (
        Key(
            "name",
            TOPOLOGY_NAME,
            "Name of the topology, also of its results.",
            required=True,
        ),
        Key("description", scalars.TEXT, "What it is for."),
        Key("scenario", scalars.SCENARIO_NAME, "The experiment that `testbed run` runs in it."),
        Key(
            "emulator",
            Either(scalars.EMULATOR, EMULATOR_SETTINGS, lambda kind: {"kind": kind}),
            "What applies impairments.",
            default="`auto`",
        ),
        Key(
            "family",
            scalars.FAMILY,
            "Addresses of links: `ipv4`, `ipv6` or both.",
            default="`both`",
        ),
        Key(
            "prefer",
            scalars.PREFERRED,
            "Which addresses the name of a node stands for first.",
            default="`ipv4`",
        ),
        Key("seed", scalars.SEED, "Start of all random decisions.", default="`0`"),
        Key("nodes", Table(scalars.NODE_NAME, NODE, 1), "The nodes by name.", required=True),
        Key("links", Items(LINK), "The links."),
        Key(
            "captures",
            Items(Either(scalars.ENDPOINT, CAPTURE, lambda end: {"interface": end})),
            "Interfaces to capture; `node` means all of its.",
        ),
    ),
)
