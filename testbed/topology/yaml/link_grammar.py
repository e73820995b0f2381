"""The part of the grammar that is about links: what each direction does to packets, and when."""

from __future__ import annotations

from typing import Final

from testbed.topology.impairments.declared import DECLARED
from testbed.topology.values import scalars
from testbed.topology.values.scalars import DURATION, SWITCH
from testbed.topology.values.shapes import Items, Key, OneOrMore, Record

IMPAIRMENTS: Final = tuple(one.key for one in DECLARED)
DIRECTION: Final = Record(
    "direction", "Impairments of one direction; they override the link's common ones.", IMPAIRMENTS
)
CHANGE: Final = Record(
    "change",
    "What happens to a link at some time. Impairments that are not named stay as they are; "
    "packets under way arrive when they would have.",
    (
        Key("at", DURATION, "When, counted from the moment the lab is ready.", required=True),
        Key("direction", scalars.DIRECTION, "Only in this direction.", default="both"),
        Key("cut", scalars.TRUE, "Lose all that enters; the ends are not told."),
        Key("restore", scalars.TRUE, "End a cut."),
        Key("unplug", scalars.TRUE, "Pull the cable out: both ends lose their carrier."),
        Key("plug", scalars.TRUE, "Put the cable back."),
        *IMPAIRMENTS,
    ),
)
LINK: Final = Record(
    "link",
    "Two interfaces joined. A link of a group stands for one link per member.",
    (
        Key(
            "endpoints",
            Items(scalars.ENDPOINT, 2, 2),
            "`node:interface` twice; `node` alone takes the next free of eth0, eth1, ... "
            "(port1, port2, ... of a switch).",
            required=True,
        ),
        *IMPAIRMENTS,
        Key("forward", DIRECTION, "First to second endpoint: overrides the common values."),
        Key("reverse", DIRECTION, "Second to first endpoint: overrides the common values."),
        Key("schedule", Items(CHANGE, most=10_000), "Changes while the lab runs."),
        Key(
            "log",
            SWITCH,
            "Write down the fate of every packet, beside the captures. Userspace emulator only.",
            default="`false`",
        ),
        Key(
            "mtu", scalars.LINK_MTU, "Largest IP packet, bytes; IPv6 needs 1280.", default="`1500`"
        ),
        Key("offload", SWITCH, "Let the kernel merge and split segments.", default="`false`"),
        Key(
            "emulated",
            SWITCH,
            "Put an emulator in the path even without impairments, to cut or impair it later.",
            default="`false`",
        ),
        Key("subnet", OneOrMore(scalars.SUBNET), "One IPv4 and/or IPv6 subnet.", default="chosen"),
        Key(
            "family",
            scalars.FAMILY,
            "Addresses of the link: `ipv4`, `ipv6` or both.",
            default="the topology's",
        ),
        Key(
            "private",
            SWITCH,
            "Only the nodes behind the same router or middlebox have routes to its subnet, which "
            "other private links may have, too.",
            default="`false`",
        ),
    ),
)
