"""From captures along a path to the ladder diagram of one connection."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from testbed.errors import TraceError
from testbed.report.ladder import Arrow, Ladder, Mark, MarkKind, Silence, kind_of, label_of
from testbed.report.order import Event, in_order
from testbed.report.wording import clock
from testbed.trace import (
    Connection,
    Followed,
    Journey,
    Passage,
    Trace,
    Vantage,
    follow,
    read_trace,
)
from testbed.trace.journeys import find_elsewhere, initiator_is_left
from testbed.wire.flags import ACK, RST, SYN

SILENCE_MS = 150.0
"""A pause of this length is drawn as a gap: longer than any delayed ACK's usual 40 ms."""
_FEW = 3
"""Segments left out: fewer are told with the next, or ladders of a path would be full of gaps."""


class Hop(msgspec.Struct, frozen=True, eq=False):
    """A link between two adjacent columns and what was captured at its ends."""

    left: str
    right: str
    trace_left: Trace | None = None
    trace_right: Trace | None = None


def build_ladder(
    columns: Sequence[str],
    hops: Sequence[Hop],
    *,
    title: str = "",
    connection: int | None = None,
    limit: int | None = None,
    frames: Collection[int] | None = None,
    silence_ms: float = SILENCE_MS,
    initiator: str | None = None,
) -> Ladder:
    """The ladder of one connection as seen along a path.

    columns: names from left to right; hops: one per pair of adjacent columns, same order.
    connection: its number in the first capture that has any; the first one when None.
    limit: the most arrows to keep. frames: keep only these, by their number in that capture.
    silence_ms: pauses of this length are told, and what `frames` leaves out; nothing if infinite.
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
    followed = follow(vantages, *chosen, from_left=from_left)
    own = vantages[chosen[0]]
    hidden = {
        index
        for index, journey in enumerate(followed.journeys)
        if frames is not None
        and not any(stop.vantage is own and stop.segment.number in frames for stop in journey.stops)
    }
    arrows = _arrows(columns, vantages, followed.journeys, hidden)
    shown = [index for index, arrow in enumerate(arrows) if arrow.journey not in hidden]
    kept = arrows if limit is None or limit >= len(shown) else arrows[: shown[limit]]
    return Ladder(
        title=title or f"{chosen[1].initiator} to {chosen[1].responder}",
        columns=columns,
        rows=tuple(_with_silences(kept, hidden, silence_ms)),
        omitted=len(shown) - sum(arrow.journey not in hidden for arrow in kept),
        notes=tuple(_notes(vantages, chosen[1], count, followed)),
    )


def _notes(
    vantages: Sequence[Vantage], connection: Connection, count: int, followed: Followed
) -> Iterator[str]:
    if count > 1:
        yield f"connection {connection.number} of {count}"
    for vantage, clock_ in zip(vantages, followed.clocks, strict=True):
        trace = vantage.trace
        if trace.damage:
            yield f"{trace.path.name} is {trace.damage}"
        if trace.back_in_time is not None:
            yield f"time goes back in {trace.path.name} at packet {trace.back_in_time}"
        if clock_ is not None:
            where = "ahead" if clock_.ahead > 0 else "behind"
            gains = f", gaining {clock_.drift * 1e6:.1f} us/s" if clock_.drift else ""
            yield (
                f"the clock of {trace.path.name} is {clock(abs(clock_.ahead) / 1e6)} {where}, give "
                f"or take {clock(clock_.give_or_take / 1e6)}{gains}; its times are corrected"
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
    """`ladder_from_traces` of capture files."""
    traces = [read_trace(path) for path in paths]
    return ladder_from_traces(
        traces,
        names=names,
        title=title,
        connection=connection,
        limit=limit,
        silence_ms=silence_ms,
    )


def ladder_from_traces(
    traces: Sequence[Trace],
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    connection: int | None = None,
    limit: int | None = None,
    frames: Collection[int] | None = None,
    silence_ms: float = SILENCE_MS,
) -> Ladder:
    """The ladder of captures along a path, either end first; the client is on the left.

    One capture gives two columns, the addresses of client and server; each further one adds a
    column in between. `names` overrides them, from left to right.
    connection: its number in the first capture; the first one when None. frames: keep only these.
    """
    if not traces:
        raise TraceError("A ladder needs at least one capture file.")
    traces, connection, remarks = _from_client_to_server(list(traces), connection)
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
    ladder = build_ladder(
        names,
        hops,
        title=title,
        connection=connection,
        limit=limit,
        frames=frames,
        silence_ms=silence_ms,
    )
    return msgspec.structs.replace(ladder, notes=(*ladder.notes, *remarks))


def _from_client_to_server(
    traces: list[Trace], connection: int | None
) -> tuple[list[Trace], int | None, list[str]]:
    """The captures turned round if the first SYN says so, with the connection's number there.

    Third: a remark on each capture that does not have the connection.
    """
    vantages = [Vantage(index, False, trace) for index, trace in enumerate(traces)]
    (position, chosen), _ = _choose(vantages, connection)
    sights = find_elsewhere(vantages, position, chosen)
    remarks = [
        f"{trace.path.name} has nothing of {chosen.initiator} to {chosen.responder}; "
        "is it of the same run?"
        for trace, sight in zip(traces, sights, strict=True)
        if sight is None
    ]
    last = sights[-1]
    if last is None or initiator_is_left(sights):
        return traces, connection, remarks
    return traces[::-1], last.number, remarks


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


def _arrows(
    columns: Sequence[str],
    vantages: Sequence[Vantage],
    journeys: Sequence[Journey],
    hidden: Collection[int],
) -> list[Arrow]:
    """All arrows in the order of time, which is since the first that is not hidden."""
    zero = min(
        stop.time
        for index, journey in enumerate(journeys)
        if index not in hidden
        for stop in journey.stops
    )
    place = {id(vantage): index for index, vantage in enumerate(vantages)}
    events = []
    for number, journey in enumerate(journeys):
        for hop in dict.fromkeys(stop.vantage.hop for stop in journey.stops):
            stop = next(one for one in journey.stops if one.vantage.hop == hop)
            event = Event(stop.time, place[id(stop.vantage)], journey, stop.segment)
            events.append((event, _arrow(columns, number, journey, hop, zero)))
    order = in_order([event for event, _ in events])
    return [events[index][1] for index in order]


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
        kind=kind_of(journey.segment),
        label=label_of(journey.segment, journey.what),
        seq=journey.seq,
        ack=journey.ack,
        length=journey.segment.length,
        journey=number,
        sent=sent,
        received=received,
        marks=tuple(_marks(columns, journey, hop)),
        window=journey.window,
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


def _with_silences(
    arrows: Sequence[Arrow], hidden: Collection[int], silence_ms: float
) -> Iterator[Arrow | Silence]:
    """The arrows but those of hidden journeys, and what is between them.

    A hidden journey is counted where its first hop would be; few of them with the next.
    """
    latest: float | None = None
    left_out: set[int] = set()
    told: set[int] = set()
    for arrow in arrows:
        if arrow.journey in hidden:
            if silence_ms < math.inf and arrow.journey not in told:
                left_out.add(arrow.journey)
            continue
        since = latest or 0.0
        paused = latest is not None and arrow.time - since >= silence_ms
        if len(left_out) >= (1 if paused else _FEW):
            yield Silence(since, max(arrow.time - since, 0.0), len(left_out))
            told |= left_out
            left_out.clear()
        elif paused:
            yield Silence(since, arrow.time - since)
        yield arrow
        latest = max(latest or 0.0, arrow.time, arrow.received or 0.0)
    if left_out:
        yield Silence(latest or 0.0, 0.0, len(left_out))
