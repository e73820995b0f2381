"""The three segments of a handshake, and the round trips that they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.progress import firsts, grouped
from testbed.trace.segments import Flow, Segment
from testbed.trace.table import SegmentTable
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.sequence import MODULUS


class HandshakeRtt(msgspec.Struct, frozen=True):
    """Round trip times of a handshake in ns, as seen where the capture was taken.

    to_responder: from a SYN to the first SYN/ACK after it: the path from here to the responder
    and back.
    to_initiator: from the last SYN/ACK to its ACK: the path from here to the initiator and back.
    doubt: why one of them is None, where a segment was repeated and nothing tells which one was
    answered (Karn's question, RFC 6298 section 3), or where time goes back.
    """

    to_responder: int | None
    to_initiator: int | None
    doubt: str = ""

    @property
    def total(self) -> int | None:
        """ns; None where one of the two is not known."""
        if self.to_responder is None or self.to_initiator is None:
            return None
        return self.to_responder + self.to_initiator


class Handshake(msgspec.Struct, frozen=True, eq=False):
    """The segments of a handshake, each None when the capture lacks it.

    syn: the one that was answered, by the time stamps of RFC 7323; else the last before the first
    SYN/ACK.
    syn_ack: the last one before the ACK, or the one that the time stamp of the ACK names.
    ack: acknowledges the SYN/ACK and comes before other data of its side.
    answer: the first SYN/ACK.
    doubt: as in `HandshakeRtt`.
    """

    syn: Segment | None
    syn_ack: Segment | None
    ack: Segment | None
    answer: Segment | None = None
    doubt: str = ""

    @property
    def rtt(self) -> HandshakeRtt | None:
        """None where one of the three segments is missing."""
        if self.syn is None or self.syn_ack is None or self.ack is None or self.answer is None:
            return None
        there, back = self.answer.time - self.syn.time, self.ack.time - self.syn_ack.time
        backward = there < 0 or back < 0
        doubt = "time goes back in the capture" if backward else self.doubt
        return HandshakeRtt(
            None if self.doubt or there < 0 else there, None if back < 0 else back, doubt
        )


def opening_rows(
    table: SegmentTable, ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows that `read_handshake` needs, and the connection of each, counted from 0.

    table: of any number of connections, whose rows are together. ignored: copies.
    """
    starts, group = grouped(table)
    kept = ~ignored & ((table.flags & RST) == 0)
    syn = kept & ((table.flags & SYN) != 0)
    answers = np.flatnonzero(syn & ~table.outward & ((table.flags & ACK) != 0))
    answered = firsts(group[answers], answers, len(starts))
    later = np.flatnonzero(kept & ~syn & table.outward)
    later = later[later > answered[group[later]]]
    speaks = later[(table.length[later] > 0) | ((table.flags[later] & FIN) != 0)]
    spoken = firsts(group[speaks], speaks, len(starts))
    numbers = group << 32
    acknowledged = numbers[later] | table.ack[later]
    expected = numbers[answers] | (table.seq[answers] + np.uint32(1))
    wanted = np.isin(acknowledged, expected) & (later < spoken[group[later]])
    wanted |= later == spoken[group[later]]
    rows = np.sort(np.concatenate((np.flatnonzero(syn), later[wanted])))
    return rows, group[rows]


def read_handshake(segments: Sequence[Segment], outward: Flow) -> Handshake:
    """The handshake of a connection; `outward` is the flow of its initiator."""
    syns: list[Segment] = []
    syn_acks: list[Segment] = []
    ack = None
    for segment in segments:
        flags = segment.flags & (SYN | ACK)
        if segment.flags & RST:
            continue
        if segment.flow is not outward:
            if flags == SYN | ACK:
                syn_acks.append(segment)
        elif flags == SYN:
            if not syn_acks:
                syns.append(segment)
        elif syn_acks and _completes(segment, syns, syn_acks):
            ack = segment
            break
        elif syn_acks and (segment.length or segment.flags & FIN):
            break  # data without an ACK of the handshake before it: that was not captured
    syn, doubt = _answered(syns, syn_acks)
    return Handshake(
        syn, _acknowledged(syn_acks, ack), ack, syn_acks[0] if syn_acks else None, doubt
    )


def _completes(segment: Segment, syns: Sequence[Segment], syn_acks: Iterable[Segment]) -> bool:
    """Whether it acknowledges a SYN/ACK and nothing else, and follows the SYN without a gap."""
    if not segment.flags & ACK or segment.flags & (SYN | FIN):
        return False
    if not any(segment.ack == (one.seq + 1) % MODULUS for one in syn_acks):
        return False
    follows = {(syn.seq + 1 + more) % MODULUS for syn in syns for more in (0, syn.length)}
    return not syns or segment.seq in follows


def _answered(syns: Sequence[Segment], syn_acks: Sequence[Segment]) -> tuple[Segment | None, str]:
    """The SYN that the first SYN/ACK answers, and why nobody can tell, if so."""
    if len(syns) < 2 or not syn_acks:
        return (syns[-1] if syns else None), ""
    stamps = syn_acks[0].options.timestamps
    if stamps is not None:
        named = [one for one in syns if (one.options.timestamps or (None,))[0] == stamps[1]]
        if len(named) == 1:
            return named[0], ""
    return syns[-1], f"{len(syns)} SYNs were sent, and nothing tells which one was answered"


def _acknowledged(syn_acks: Sequence[Segment], ack: Segment | None) -> Segment | None:
    """The SYN/ACK that the ACK answers: the one its time stamp names, or the last one."""
    if len(syn_acks) > 1 and ack is not None and (stamps := ack.options.timestamps) is not None:
        for one in syn_acks:
            if (one.options.timestamps or (None,))[0] == stamps[1]:
                return one
    return syn_acks[-1] if syn_acks else None
