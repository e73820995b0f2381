"""A connection in words: one sentence for each thing that happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from testbed.report.wording import clock, count
from testbed.trace import (
    Connection,
    Needless,
    Repeat,
    RepeatReason,
    SegmentClass,
    SegmentMark,
    Trace,
    VantagePoint,
)
from testbed.wire.flags import FIN, RST

_NS = 1e6
_MOST = 12
"""Sentences about losses of one side; the rest are counted."""
_SIDES = ("initiator", "responder")
_COUNTED = frozenset(SegmentClass) - {
    SegmentClass.OTHER, SegmentClass.NEW_DATA, SegmentClass.FILLS_HOLE, SegmentClass.REORDERED,
    SegmentClass.OUT_OF_WINDOW, SegmentClass.COPY,
}  # fmt: skip


class Episode(msgspec.Struct, frozen=True):
    """What one side sent again until all that was out at the first of them was acknowledged.

    start_ms, end_ms: of its first segment sent again, and of the ACK that ends it, since the first
    segment of the connection; end_ms is None where that ACK is not in the capture.
    numbers: the frames that were sent again.
    """

    side: str
    start_ms: float
    end_ms: float | None
    numbers: tuple[int, ...]
    reasons: tuple[str, ...]
    needless: int
    sentence: str


class Story(msgspec.Struct, frozen=True):
    """The sentences, in the order of time as far as there is one, and the episodes of losses."""

    sentences: tuple[str, ...]
    episodes: tuple[Episode, ...]


def connection_story(trace: Trace, connection: Connection) -> Story:
    """What happened to a connection, in words; its length does not grow with the connection."""
    found = list(_opening(trace, connection))
    episodes: list[Episode] = []
    for side in (0, 1):
        own = list(_episodes(connection, side))
        episodes += own
        found += _what_was_sent(connection, side)
        found += [one.sentence for one in own[:_MOST]]
        if len(own) > _MOST:
            found.append(f"So it goes on: {count(len(own) - _MOST, 'more episode')} of losses.")
    for side in (0, 1):
        found += _windows(connection, side)
    found += _remarks(connection)
    found.append(_close(connection))
    return Story(tuple(found), tuple(episodes))


def _opening(trace: Trace, connection: Connection) -> Iterator[str]:
    begin = (connection.start - (trace.start or 0)) / 1e9
    vantage = connection.analysis.vantage
    where = {
        VantagePoint.UNKNOWN: "where it was captured, nothing tells",
        VantagePoint.BETWEEN: "captured between the two, by the round trips",
    }.get(vantage, f"captured {vantage.value}, by the round trips")
    guess = " (a guess: its SYN is not in the capture)" if connection.guessed else ""
    yield (
        f"{connection.initiator}{guess} talks to {connection.responder} from {begin:.3f} s on, for "
        f"{(connection.end - connection.start) / 1e9:.3f} s; {where}."
    )
    handshake = connection.handshake
    rtt = handshake.rtt
    if rtt is None:
        seen = [
            name
            for name, one in (
                ("SYN", handshake.syn), ("SYN/ACK", handshake.syn_ack), ("ACK", handshake.ack)
            )
            if one is not None
        ]  # fmt: skip
        yield f"Of the handshake the capture has {' and '.join(seen) or 'nothing'}."
    else:
        there = "?" if rtt.to_responder is None else clock(rtt.to_responder / _NS)
        back = "?" if rtt.to_initiator is None else clock(rtt.to_initiator / _NS)
        yield f"The SYN/ACK comes {there} after the SYN, and its ACK {back} later." + (
            f" ({rtt.doubt}.)" if rtt.doubt else ""
        )
    yield from _agreed(connection)


def _agreed(connection: Connection) -> Iterator[str]:
    syn, answer = connection.handshake.syn, connection.handshake.answer
    if syn is None or answer is None:
        return
    one, other = syn.options, answer.options
    both = [
        name
        for name, agreed in (
            ("SACK", one.sack_permitted and other.sack_permitted),
            ("time stamps", one.timestamps is not None and other.timestamps is not None),
        )
        if agreed
    ]
    if one.window_scale is not None and other.window_scale is not None:
        both.append(f"window scales {one.window_scale} and {other.window_scale}")
    segments = f"MSS {one.mss or 'none'} and {other.mss or 'none'}"
    yield f"Agreed on: {', '.join(both) or 'no option'}; {segments}."
    if one.fast_open is not None or syn.length:
        cookie = "asks for a cookie" if one.fast_open == b"" else "has a cookie"
        taken = answer.ack - syn.seq - 1 & 0xFFFF_FFFF
        outcome = f", of which {count(taken, 'byte')} were taken" if syn.length else ""
        lead = cookie if one.fast_open is not None else "has no cookie"
        yield f"TCP Fast Open: the SYN {lead} and {count(syn.length, 'byte')} of data{outcome}."


def _what_was_sent(connection: Connection, side: int) -> Iterator[str]:
    analysis, direction = connection.analysis, connection.directions[side]
    counts = analysis.counts(side)
    total = sum(counts.values())
    if not total:
        yield f"The {_SIDES[side]} sent nothing that was captured."
        return
    kinds = ", ".join(
        count(number, kind.words) if kind in _COUNTED else f"{number:,} {kind.words}"
        for kind, number in sorted(counts.items(), key=lambda i: -i[1])
    )
    yield (
        f"The {_SIDES[side]} sent {count(direction.unique_bytes, 'byte')} in "
        f"{count(total, 'segment')}: {kinds}."
    )


def _episodes(connection: Connection, side: int) -> Iterator[Episode]:
    """The losses of one side: each ends when what was out at its beginning is acknowledged."""
    analysis = connection.analysis
    progress = analysis.progress
    acked = progress.acked[1 - side]
    group: list[Repeat] = []
    limit = 0
    for repeat in analysis.repeats_of(side):
        if group and acked[repeat.row] >= limit:
            yield _episode(connection, side, group, limit)
            group = []
        if not group:
            limit = int(progress.sent_before[repeat.row])
        group.append(repeat)
    if group:
        yield _episode(connection, side, group, limit)


def _episode(connection: Connection, side: int, group: Sequence[Repeat], limit: int) -> Episode:
    analysis = connection.analysis
    time, progress = analysis.table.time, analysis.progress
    first = group[0]
    begin = (int(time[first.row]) - connection.start) / _NS
    over = int(np.searchsorted(progress.acked[1 - side], limit))
    end = None if over >= len(time) else (int(time[over]) - connection.start) / _NS
    reasons: dict[RepeatReason, int] = {}
    for one in group:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    how = ", ".join(
        f"{number:,} {reason.words}" if len(reasons) > 1 else reason.words
        for reason, number in reasons.items()
    )
    needless = sum(one.needless is not Needless.NO for one in group)
    seen = first.first != first.row
    since = (
        f", {clock((int(time[first.row]) - int(time[first.first])) / _NS)} after it was sent"
        if seen
        else ", never seen here before"
    )
    sentence = (
        f"At {clock(begin)} the {_SIDES[side]} sends {count(len(group), 'segment')} again {how}"
        f" (the first is seq {int(progress.position[first.row])}{since})"
    )
    if end is not None and end > begin:
        sentence += f"; acknowledged {clock(end - begin)} later"
    if needless:
        sentence += f"; {'needless' if needless == len(group) else f'{needless:,} needless'}"
    return Episode(
        side=_SIDES[side],
        start_ms=begin,
        end_ms=end,
        numbers=tuple(int(analysis.table.number[one.row]) for one in group),
        reasons=tuple(reason.name.lower() for reason in reasons),
        needless=needless,
        sentence=f"{sentence}.",
    )


def _windows(connection: Connection, side: int) -> Iterator[str]:
    """When a side had its window closed, and how the other one asked."""
    analysis = connection.analysis
    own = np.flatnonzero((analysis.progress.side == side) & analysis.progress.has_ack)
    closed = (analysis.marks[own] & SegmentMark.ZERO_WINDOW) != 0
    if closed.any():
        edges = np.flatnonzero(np.diff(closed, prepend=False, append=False))
        time = np.append(analysis.table.time[own], connection.end)
        lengths = (time[edges[1::2]] - time[edges[::2]]) / _NS
        probes = len(analysis.rows(SegmentClass.WINDOW_PROBE, side=1 - side))
        yield (
            f"The {_SIDES[side]} closed its window {count(len(lengths), 'time')}, for "
            f"{clock(float(lengths.max()))} at most; {count(probes, 'probe')} asked for it."
        )


def _remarks(connection: Connection) -> Iterator[str]:
    analysis = connection.analysis
    for side in (0, 1):
        unseen = len(analysis.marked(SegmentMark.UNSEEN_ACKED, side=side))
        if unseen:
            yield (
                f"The {_SIDES[side]} acknowledges data that is not in the capture "
                f"({count(unseen, 'ACK')}): the capture lost packets, or began late."
            )
        large = len(connection.directions[side].oversized)
        if large:
            yield (
                f"{count(large, 'segment')} of the {_SIDES[side]} exceed the MSS: offload was at "
                "work where this was captured."
            )


def _close(connection: Connection) -> str:
    table = connection.analysis.table
    ends = np.flatnonzero(table.flags & (FIN | RST))
    if not len(ends):
        return "It was open when the capture ended."
    first = int(ends[0])
    who = _SIDES[int(connection.analysis.progress.side[first])]
    what = "RST" if table.flags[first] & RST else "FIN"
    at = clock((int(table.time[first]) - connection.start) / _NS)
    return f"The {who} sent the first {what} at {at}; how it ended: {connection.ended.value}."
