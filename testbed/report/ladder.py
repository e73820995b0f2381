"""The ladder diagram of one connection: who sent what to whom, and what became of it.

The model is built here from captures along a path; the renderers only draw it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from testbed.errors import TraceError
from testbed.trace import Connection, Segment, Trace, read_trace
from testbed.trace.journeys import (
    Journey,
    Passage,
    Vantage,
    find_elsewhere,
    follow,
    initiator_is_left,
)
from testbed.wire.flags import ACK, FIN, RST, SYN

SILENCE_MS = 150.0
"""A pause of this length is drawn as a gap: longer than any delayed ACK's usual 40 ms."""


class Hop(msgspec.Struct, frozen=True, eq=False):
    """A link between two adjacent columns and what was captured at its ends."""

    left: str
    right: str
    trace_left: Trace | None = None
    trace_right: Trace | None = None


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


_GRAVE = (MarkKind.DROPPED, MarkKind.LOST, MarkKind.RETRANSMISSION)


class Mark(msgspec.Struct, frozen=True):
    """Something about an arrow that the reader must not miss: `dropped by router`."""

    kind: MarkKind
    text: str


class Arrow(msgspec.Struct, frozen=True, tag="arrow"):
    """One segment on one hop.

    time: ms since the first event of the ladder; sent, received: the same clock at either end of
    the hop, None where nothing was captured; one of the two is not None.
    seq, ack: relative to the SYNs; ack is None without ACK flag.
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

    @property
    def role(self) -> str:
        """What decides the colour: the gravest mark (a `MarkKind`), else the kind."""
        kinds = {mark.kind for mark in self.marks}
        return next((kind for kind in _GRAVE if kind in kinds), self.kind)


class Silence(msgspec.Struct, frozen=True, tag="silence"):
    """Nothing happened from `time` (ms) on for `duration` ms."""

    time: float
    duration: float

    @property
    def text(self) -> str:
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
    def decimals(self) -> int:
        """Decimals to show of times in ms: microseconds where the whole ladder is short."""
        times = (row.received or row.time for row in self.rows if isinstance(row, Arrow))
        return 3 if max(times, default=0.0) < 10 else 1


def build_ladder(
    columns: Sequence[str],
    hops: Sequence[Hop],
    *,
    title: str = "",
    connection: int | None = None,
    limit: int | None = None,
    silence_ms: float = SILENCE_MS,
    initiator: str | None = None,
) -> Ladder:
    """The ladder of one connection as seen along a path.

    columns: names from left to right; hops: one per pair of adjacent columns, same order.
    connection: its number in the first capture that has any; the first one when None.
    limit: the most arrows to keep.
    initiator: the leftmost or rightmost column; by the times of the SYNs when None.
    Raises TraceError when there is no such connection, and when hops and columns disagree.
    """
    columns = tuple(columns)
    if [(hop.left, hop.right) for hop in hops] != list(itertools.pairwise(columns)):
        raise TraceError(
            f"A ladder of the columns {', '.join(columns)} needs one hop between each two "
            f"neighbours, found {', '.join(f'{hop.left}-{hop.right}' for hop in hops) or 'none'}."
        )
    if initiator not in (None, columns[0], columns[-1]):
        raise TraceError(f"The initiator is {columns[0]} or {columns[-1]}, not {initiator}.")
    vantages = tuple(_vantages(hops))
    chosen, count = _choose(vantages, connection)
    from_left = None if initiator is None else initiator == columns[0]
    journeys = follow(vantages, *chosen, from_left=from_left)
    arrows = _arrows(columns, journeys)
    kept = arrows if limit is None else arrows[:limit]
    notes = () if count == 1 else (f"connection {chosen[1].number} of {count}",)
    return Ladder(
        title=title or f"{chosen[1].initiator} to {chosen[1].responder}",
        columns=columns,
        rows=tuple(_with_silences(kept, silence_ms)),
        omitted=len(arrows) - len(kept),
        notes=notes,
    )


def ladder_from_files(
    paths: Sequence[str | Path],
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    connection: int | None = None,
    limit: int | None = None,
    silence_ms: float = SILENCE_MS,
) -> Ladder:
    """The ladder of captures alone; the client is on the left, whatever the order of the files.

    One capture gives two columns, the addresses of client and server; each further one adds a
    column in between. `names` overrides them, from left to right.
    connection: its number in the first file; the first one when None.
    """
    if not paths:
        raise TraceError("A ladder needs at least one capture file.")
    traces, connection = _from_client_to_server([read_trace(path) for path in paths], connection)
    if names is None:
        names = _names(traces, connection)
    if len(names) != len(traces) + 1:
        raise TraceError(
            f"{len(traces)} capture(s) give {len(traces) + 1} columns, "
            f"but {len(names)} name(s) were given: {', '.join(names)}."
        )
    hops = [
        # The last capture of several was taken at the server, the others on the way to it.
        Hop(left, right, None, trace)
        if index == len(traces) - 1 and index > 0
        else Hop(left, right, trace)
        for index, (left, right, trace) in enumerate(zip(names, names[1:], traces, strict=False))
    ]
    return build_ladder(
        names, hops, title=title, connection=connection, limit=limit, silence_ms=silence_ms
    )


def _from_client_to_server(
    traces: list[Trace], connection: int | None
) -> tuple[list[Trace], int | None]:
    """The captures turned round if the first SYN says so, with the connection's number there."""
    vantages = [Vantage(index, False, trace) for index, trace in enumerate(traces)]
    (position, chosen), _ = _choose(vantages, connection)
    sights = find_elsewhere(vantages, position, chosen)
    last = sights[-1]
    if last is None or initiator_is_left(sights):
        return traces, connection
    return traces[::-1], last.number


def _names(traces: Sequence[Trace], connection: int | None) -> tuple[str, ...]:
    vantages = [Vantage(index, False, trace) for index, trace in enumerate(traces)]
    (_, chosen), _ = _choose(vantages, connection)
    client, server = chosen.initiator.address, chosen.responder.address
    if client == server:
        client, server = str(chosen.initiator), str(chosen.responder)
    between = len(traces) - 1
    middle = ("middle",) if between == 1 else tuple(f"middle {n + 1}" for n in range(between))
    return (client, *middle, server)


def _vantages(hops: Sequence[Hop]) -> Iterator[Vantage]:
    for index, hop in enumerate(hops):
        if hop.trace_left is not None:
            yield Vantage(index, False, hop.trace_left)
        if hop.trace_right is not None:
            yield Vantage(index, True, hop.trace_right)


def _choose(
    vantages: Sequence[Vantage], number: int | None
) -> tuple[tuple[int, Connection], int]:  # fmt: skip
    """(position of the vantage, connection), and how many connections there are to choose from."""
    for position, vantage in enumerate(vantages):
        connections = vantage.trace.connections
        if not connections:
            continue
        wanted = 1 if number is None else number
        if not 1 <= wanted <= len(connections):
            raise TraceError(
                f"{vantage.trace.path}: there is no connection {wanted}: "
                f"choose one from 1 to {len(connections)}."
            )
        return (position, connections[wanted - 1]), len(connections)
    files = ", ".join(str(vantage.trace.path) for vantage in vantages) or "no capture at all"
    raise TraceError(f"There is no TCP connection to draw in: {files}.")


def _arrows(columns: Sequence[str], journeys: Sequence[Journey]) -> list[Arrow]:
    """All arrows in the order of time."""
    zero = min(stop.time for journey in journeys for stop in journey.stops)
    arrows = []
    for number, journey in enumerate(journeys):
        for hop in dict.fromkeys(stop.vantage.hop for stop in journey.stops):
            arrows.append(_arrow(columns, number, journey, hop, zero))
    return sorted(arrows, key=lambda arrow: arrow.time)


def _arrow(columns: Sequence[str], number: int, journey: Journey, hop: int, zero: int) -> Arrow:
    ends = columns[hop], columns[hop + 1]
    source, target = ends if journey.rightward else ends[::-1]
    sent = received = None
    for stop in journey.stops:
        if stop.vantage.hop == hop:
            if stop.vantage.right_end == journey.rightward:
                received = (stop.time - zero) / 1e6
            else:
                sent = (stop.time - zero) / 1e6
    time = sent if sent is not None else received
    assert time is not None
    return Arrow(
        time=time,
        source=source,
        target=target,
        kind=_kind_of(journey.segment),
        label=label_of(journey.segment),
        seq=journey.seq,
        ack=journey.ack,
        length=journey.segment.length,
        journey=number,
        sent=sent,
        received=received,
        marks=tuple(_marks(columns, journey, hop)),
    )


def _marks(columns: Sequence[str], journey: Journey, hop: int) -> Iterator[Mark]:
    if journey.retransmission:
        yield Mark(MarkKind.RETRANSMISSION, "retransmission")
    if journey.stops[0].vantage.hop == hop and journey.from_between is not None:
        node = _between(columns, *journey.from_between)
        if journey.segment.flags & RST:
            yield Mark(MarkKind.ANSWERED, f"reset by {node}")
        elif journey.segment.flags & (SYN | ACK) == SYN | ACK:
            yield Mark(MarkKind.ANSWERED, f"answered by {node}")
    if journey.stops[-1].vantage.hop == hop and journey.passage is Passage.VANISHED:
        assert journey.lost_between is not None
        if journey.lost_between[0] == journey.lost_between[1]:
            yield Mark(MarkKind.LOST, "lost on the link")
        else:
            yield Mark(MarkKind.DROPPED, f"dropped by {_between(columns, *journey.lost_between)}")


def _between(columns: Sequence[str], first: int, second: int) -> str:
    """The nodes between two hops, in the direction of travel."""
    low, high = sorted((first, second))
    names = list(columns[low + 1 : high + 1])
    return " or ".join(names if first < second else names[::-1])


def _with_silences(arrows: Sequence[Arrow], silence_ms: float) -> Iterator[Arrow | Silence]:
    latest: float | None = None
    for arrow in arrows:
        if latest is not None and arrow.time - latest >= silence_ms:
            yield Silence(latest, arrow.time - latest)
        yield arrow
        latest = max(latest or 0.0, arrow.time, arrow.received or 0.0)


def _kind_of(segment: Segment) -> ArrowKind:
    if segment.flags & RST:
        return ArrowKind.RESET
    if segment.flags & (SYN | FIN):
        return ArrowKind.OPEN
    return ArrowKind.DATA if segment.length else ArrowKind.PLAIN


def label_of(segment: Segment) -> str:
    """`SYN`, `SYN ACK`, `ACK`, `ACK + 512 B`, `FIN ACK`, `RST`."""
    names = [
        name
        for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK"))
        if segment.flags & bit
    ]
    label = " ".join(names) or "no flags"
    return f"{label} + {segment.length} B" if segment.length else label
