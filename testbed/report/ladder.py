"""The ladder diagram of one connection: who sent what to whom, and what became of it.

This is the model, which the renderers draw; `testbed.report.ladder_building` makes it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from testbed.report.wording import count
from testbed.trace import Segment
from testbed.wire.flags import ACK, FIN, RST, SYN


class MarkKind(StrEnum):
    RETRANSMISSION = "retransmission"
    DROPPED = "dropped"
    LOST = "lost"
    ANSWERED = "answered"


AT_NODE = frozenset({MarkKind.DROPPED, MarkKind.ANSWERED})
"""Marks that are about a node, drawn beside it; the others are about the arrow."""


class ArrowKind(StrEnum):
    """What a segment does, in the order in which the drawings tell segments apart."""

    RESET = "reset"
    OPEN = "open"
    """Opens or closes: SYN or FIN."""
    DATA = "data"
    PLAIN = "plain"


_STRAY = 1 << 31
_GRAVE = (MarkKind.DROPPED, MarkKind.LOST, MarkKind.RETRANSMISSION)


class Mark(msgspec.Struct, frozen=True):
    """Something about an arrow that the reader must not miss: `dropped by router`."""

    kind: MarkKind
    text: str


class Arrow(msgspec.Struct, frozen=True, tag="arrow"):
    """One segment on one hop.

    time: ms since the first event of the ladder; sent, received: the same clock at either end of
    the hop, None where nothing was captured; one of the two is not None.
    seq, ack: relative to the SYNs; ack is None without ACK flag. window: what it offers, in bytes,
    None where that is not known.
    journey: the same number for all arrows of one segment.
    """

    time: float
    source: str
    target: str
    kind: ArrowKind
    label: str
    seq: int
    ack: int | None
    length: int
    journey: int
    sent: float | None = None
    received: float | None = None
    marks: tuple[Mark, ...] = ()
    window: int | None = None

    def numbers(self, *, windows: bool = False) -> str:
        """`seq 1 ack 513`, and the window if asked for; nothing for those of another connection."""
        if max(self.seq, self.ack or 0) > _STRAY:
            return ""
        words = [f"seq {self.seq}"]
        if self.ack is not None:
            words.append(f"ack {self.ack}")
        if windows and self.window is not None:
            words.append(f"win {self.window}")
        return " ".join(words)

    @property
    def role(self) -> str:
        """What decides the colour: the gravest mark (a `MarkKind`), else the kind."""
        kinds = {mark.kind for mark in self.marks}
        return next((kind for kind in _GRAVE if kind in kinds), self.kind)


class Silence(msgspec.Struct, frozen=True, tag="silence"):
    """Nothing is drawn from `time` (ms) on for `duration` ms.

    left_out: segments of that time that are not shown; without any, nothing happened.
    """

    time: float
    duration: float
    left_out: int = 0

    @property
    def text(self) -> str:
        if self.left_out:
            return f"{count(self.left_out, 'segment')} left out"
        if self.duration < 1000:
            return f"{self.duration:.0f} ms of silence"
        return f"{self.duration / 1000:.3f} s of silence"


class Ladder(msgspec.Struct, frozen=True):
    """A diagram ready to be drawn; `columns` from left to right, `omitted` rows left out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Arrow | Silence, ...]
    omitted: int = 0
    notes: tuple[str, ...] = ()

    @property
    def longest(self) -> float:
        """The latest time in it, ms: it decides the unit of all of them."""
        times = (row.received or row.time for row in self.rows if isinstance(row, Arrow))
        return max(times, default=0.0)


def kind_of(segment: Segment) -> ArrowKind:
    if segment.flags & RST:
        return ArrowKind.RESET
    if segment.flags & (SYN | FIN):
        return ArrowKind.OPEN
    return ArrowKind.DATA if segment.length else ArrowKind.PLAIN


def label_of(segment: Segment, what: str = "") -> str:
    """`SYN`, `ACK + 512 B`, `FIN ACK`, `RST`, `ACK (window 0)`, `ACK (keepalive)`.

    what: what else it is, in words.
    """
    names = [
        name
        for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK"))
        if segment.flags & bit
    ]
    label = " ".join(names) or "no flags"
    if segment.length:
        label += f" + {segment.length} B"
    closed = segment.window == 0 and segment.flags & (ACK | RST) == ACK
    told = ", ".join(filter(None, [what, "window 0" if closed else ""]))
    return f"{label} ({told})" if told else label
