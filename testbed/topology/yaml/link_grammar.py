"""The part of the grammar that is about links: what each direction does to packets, and when."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    DropRule,
    FourState,
    GilbertElliott,
    Jitter,
    KernelAqm,
    Queue,
    Red,
    Reorder,
)
from testbed.topology.values import scalars
from testbed.topology.values.scalars import DURATION, NUMBER, PROBABILITY, SIZE, SWITCH
from testbed.topology.values.shapes import Either, Items, Key, OneOrMore, Record, Variants


class TraceFile(msgspec.Struct, frozen=True):
    """A rate trace by the name of its file, still to be read."""

    trace: str


def _discipline(name: str) -> Red | Codel | KernelAqm:
    return Red() if name == "red" else Codel() if name == "codel" else _kernel_aqm(name)


def _kernel_aqm(name: Any) -> KernelAqm:
    return KernelAqm(name=name)


_CORRELATION: Final = Key(
    "correlation",
    PROBABILITY,
    "How much of the last random number each one keeps.",
    default="`0`",
)


def _probability(what: str, required: bool = True, default: str = "") -> Key:
    return Key("probability", PROBABILITY, what, required=required, default=default)


def _kernel_only(name: str) -> Record:
    return Record(
        name,
        f"The kernel's {name} with its defaults: netem emulator only.",
        (),
        build=lambda: _kernel_aqm(name),
    )


RATE_TRACE: Final = Record(
    "trace",
    "A rate that varies, in mahimahi's format: a line for each opportunity to send one "
    "full-sized packet, in whole milliseconds from the start; repeated for ever. "
    "Userspace emulator only.",
    (Key("trace", scalars.FILE, "The file, relative to this one.", required=True),),
    build=TraceFile,
)
RED: Final = Record(
    "red",
    "Random early detection (Floyd and Jacobson 1993).",
    (
        Key("minimum", SIZE, "Average queue from which on it acts.", default="limit / 12"),
        Key("maximum", SIZE, "Average queue above which it hits all.", default="limit / 4"),
        _probability("Of being hit at the maximum.", required=False, default="`10%`"),
        Key("weight", PROBABILITY, "Of the newest sample in the average.", default="`0.002`"),
    ),
    build=Red,
)
CODEL: Final = Record(
    "codel",
    "Controlled delay (RFC 8289).",
    (
        Key("target", DURATION, "Waiting that is always acceptable.", default="`5ms`"),
        Key("interval", DURATION, "How long more is acceptable.", default="`100ms`"),
    ),
    build=Codel,
)
QUEUE: Final = Record(
    "queue",
    "The queue in front of the rate: drop-tail, or managed by a discipline.",
    (
        Key(
            "limit",
            scalars.QUEUE_LIMIT,
            "How much may wait for the bottleneck (packets in flight never count).",
            default="`1000 packets`",
        ),
        Key(
            "aqm",
            Either(
                scalars.AQM,
                Variants(
                    Key("discipline", scalars.AQM, "Which one.", required=True),
                    {
                        "red": RED,
                        "codel": CODEL,
                        **{name: _kernel_only(name) for name in ("fq_codel", "pie", "cake")},
                    },
                ),
                _discipline,
            ),
            "Active queue management; the userspace emulator has red and codel.",
            default="none: drop-tail",
        ),
        Key(
            "ecn",
            SWITCH,
            "Mark packets of ECN-capable transports instead of dropping them.",
            default="`false`",
        ),
    ),
    build=Queue,
)
JITTER: Final = Record(
    "jitter",
    "Variation of the delay.",
    (
        Key(
            "spread",
            DURATION,
            "Standard deviation, or, when uniform, the furthest.",
            required=True,
        ),
        Key("distribution", scalars.DISTRIBUTION, "Of the variation.", default="`normal`"),
        _CORRELATION,
        Key(
            "reorder",
            SWITCH,
            "Let packets overtake each other; otherwise one that would arrives with the other.",
            default="`false`",
        ),
    ),
    build=Jitter,
)
GILBERT_ELLIOTT: Final = Record(
    "gilbert-elliott",
    "Losses in bursts: a good and a bad state (tc-netem(8), `loss gemodel`).",
    (
        Key("p", PROBABILITY, "From good to bad, per packet.", required=True),
        Key("r", PROBABILITY, "From bad to good, per packet.", default="1 - p"),
        Key("bad_loss", PROBABILITY, "Of loss in the bad state.", default="`100%`"),
        Key("good_loss", PROBABILITY, "Of loss in the good state.", default="`0`"),
    ),
    build=GilbertElliott,
)
FOUR_STATE: Final = Record(
    "state",
    "Four states: 1 good, 2 good within a burst, 3 lost within a burst, 4 lost alone "
    "(tc-netem(8), `loss state`); `pXY` is the probability of going from X to Y.",
    (
        Key("p13", PROBABILITY, "A burst begins.", required=True),
        Key("p31", PROBABILITY, "A burst ends.", default="1 - p13"),
        Key("p32", PROBABILITY, "A pause within a burst begins.", default="`0`"),
        Key("p23", PROBABILITY, "A pause within a burst ends.", default="`100%`"),
        Key("p14", PROBABILITY, "A packet is lost alone.", default="`0`"),
    ),
    build=FourState,
)
DROP_RULE: Final = Record(
    "drop-rule",
    "One packet that is to be lost, counted from 1: by exactly one of `packet`, `data_segment`, "
    "`retransmission` and `flags`. Userspace emulator only.",
    (
        Key("packet", NUMBER, "The n-th IP packet."),
        Key("data_segment", NUMBER, "The n-th TCP segment with new data."),
        Key("retransmission", NUMBER, "The n-th TCP segment that repeats sequence numbers."),
        Key(
            "flags",
            scalars.FLAGS,
            "The `nth` TCP segment that has all of these; SYN alone does not mean SYN+ACK.",
        ),
        Key("nth", NUMBER, "With `flags`: which one.", default="`1`"),
        Key("connection", NUMBER, "Count in the n-th TCP connection only.", default="all"),
    ),
    build=DropRule,
)
CHANCE: Final = Record(
    "chance",
    "Something that happens to each packet with a probability.",
    (_probability("Of each packet."), _CORRELATION),
    build=Chance,
)
REORDER: Final = Record(
    "reorder",
    "Packets that skip the delay and so overtake those under way (tc-netem(8)).",
    (
        _probability("Of each candidate."),
        _CORRELATION,
        Key("gap", NUMBER, "Only every so many-th packet is a candidate.", default="`1`"),
    ),
    build=Reorder,
)
CORRUPT: Final = Record(
    "corrupt",
    "One bit flipped at random; checksums are left as they were, and so are wrong.",
    (
        _probability("Of each packet."),
        _CORRELATION,
        Key(
            "where",
            scalars.CORRUPTED,
            "In the IP and transport headers, in what follows them, or anywhere.",
            default="`any`",
        ),
    ),
    build=Corrupt,
)
IMPAIRMENTS: Final = (
    Key("rate", Either(scalars.RATE, RATE_TRACE), "Rate at the bottleneck.", default="unlimited"),
    Key(
        "overhead",
        scalars.OVERHEAD,
        "Bytes that each frame occupies the bottleneck for beyond its own.",
        default="`0`",
    ),
    Key(
        "queue",
        Either(scalars.QUEUE_LIMIT, QUEUE, lambda limit: Queue(limit=limit)),
        "The queue in front of the rate; a limit alone means drop-tail.",
        default="`1000 packets`",
    ),
    Key("delay", DURATION, "One-way propagation delay, after the queue.", default="`0`"),
    Key(
        "jitter",
        Either(DURATION, JITTER, lambda spread: Jitter(spread=spread) if spread else None),
        "Variation of the delay; a duration alone is its spread.",
        default="`0`",
    ),
    Key(
        "loss",
        Either(
            PROBABILITY,
            Variants(
                Key("model", scalars.LOSS_MODEL, "Which one.", required=True),
                {"gilbert-elliott": GILBERT_ELLIOTT, "state": FOUR_STATE},
            ),
        ),
        "Probability that a packet is lost, independently; or a model of losses in bursts.",
        default="`0`",
    ),
    Key("drop", Items(DROP_RULE, most=1000), "Packets that are lost for certain."),
    Key(
        "duplicate",
        Either(PROBABILITY, CHANCE, lambda p: Chance(probability=p) if p else None),
        "Probability that a packet comes twice.",
        default="`0`",
    ),
    Key(
        "reorder",
        Either(PROBABILITY, REORDER, lambda p: Reorder(probability=p) if p else None),
        "Probability that a packet skips the delay and overtakes those under way.",
        default="`0`",
    ),
    Key(
        "corrupt",
        Either(PROBABILITY, CORRUPT, lambda p: Corrupt(probability=p) if p else None),
        "Probability that a bit of a packet is flipped.",
        default="`0`",
    ),
)
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
        Key("cut", scalars.TRUE, "Pull the cable out: all that enters is lost."),
        Key("restore", scalars.TRUE, "Put the cable back."),
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
    ),
)
