"""Losses by rule: "the third data segment of the first connection"."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Any, NamedTuple, TypeAlias

from testbed.emulator.elements.element import Element, Surroundings, element
from testbed.kernel.timer import Nanoseconds
from testbed.topology.model import DropRule, Impairments
from testbed.wire.flags import ACK, FIN, SYN, flags_of
from testbed.wire.frame import ip_of_frame
from testbed.wire.ip import TCP, IpHeaders, payload_of
from testbed.wire.sequence import MODULUS, is_after

#: Connections remembered; beyond, the one that was quiet for longest is forgotten.
MOST_CONNECTIONS = 4096

_numbers = struct.Struct("!4xI5xB").unpack_from  # sequence number and flags

Key: TypeAlias = tuple[bytes, bytes]


class _Progress:
    """One direction of a TCP connection: its number, and how far its sequence numbers went."""

    __slots__ = ("first", "highest", "number")

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.first = first
        self.highest = first


class _Segment(NamedTuple):
    """What the rules want to know about a TCP segment."""

    connection: int
    flags: int
    new_data: bool
    retransmission: bool


class ConnectionTracker:
    """Tells connections apart and new data from old, from one direction's segments alone."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, _Progress] = OrderedDict()
        self._count = 0

    def read(self, frame: bytes, headers: IpHeaders) -> _Segment | None:
        """Take note of a segment, None for what is none; to be called for each once, in order."""
        at, payload_at = headers.transport, payload_of(frame, headers)
        if headers.protocol != TCP or payload_at == at:
            return None
        sequence, flags = _numbers(frame, at)
        payload = headers.end - payload_at
        connection = self._connection(frame, headers, sequence, flags)
        length = payload + bool(flags & SYN) + bool(flags & FIN)
        end = (sequence + length) % MODULUS
        advances = is_after(end, connection.highest)
        if advances:
            connection.highest = end
        return _Segment(
            connection=connection.number,
            flags=flags,
            new_data=payload > 0 and advances,
            retransmission=length > 0 and not advances,
        )

    def _connection(self, frame: bytes, headers: IpHeaders, sequence: int, flags: int) -> _Progress:
        key = _key(frame, headers)
        known = self._known.get(key)
        if known is not None and not (flags & SYN and sequence != known.first):
            self._known.move_to_end(key)
            return known
        self._count += 1
        known = self._known[key] = _Progress(self._count, sequence)
        self._known.move_to_end(key)
        if len(self._known) > MOST_CONNECTIONS:
            self._known.popitem(last=False)
        return known


class Rule:
    """A drop rule that counts what it is about, and applies once."""

    def __init__(self, rule: DropRule) -> None:
        self._connection = rule.connection
        self._kind, self._wanted = next(
            (kind, number)
            for kind, number in (
                ("packet", rule.packet),
                ("data_segment", rule.data_segment),
                ("retransmission", rule.retransmission),
                ("flags", rule.nth),
            )
            if number is not None
        )
        self._flags = flags_of(rule.flags) if rule.flags is not None else 0
        # A SYN is not meant to be a SYN+ACK; all other flags may have company.
        self._mask = self._flags | (ACK if self._flags & SYN else 0)
        self._seen = 0

    def hits(self, segment: _Segment | None) -> bool:
        """Whether this packet is the one; segment: None for what is not TCP."""
        if not self._is_about(segment):
            return False
        self._seen += 1
        return self._seen == self._wanted

    def _is_about(self, segment: _Segment | None) -> bool:
        if segment is None:
            return self._kind == "packet" and self._connection is None
        if self._connection not in (None, segment.connection):
            return False
        match self._kind:
            case "packet":
                return True
            case "data_segment":
                return segment.new_data
            case "retransmission":
                return segment.retransmission
            case _:
                return segment.flags & self._mask == self._flags


@element(20)
class ScriptedLoss(Element):
    """Drops exactly the packets that its rules name.

    All rules see every packet that comes, those dropped by another rule included.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._asked: tuple[DropRule, ...] = ()
        self._rules: list[Rule] = []
        self._connections = ConnectionTracker()

    @property
    def neutral(self) -> bool:
        return not self._rules

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        if impairments.drop == self._asked:
            return
        self._asked = impairments.drop
        self._rules = [Rule(rule) for rule in impairments.drop]
        self._connections = ConnectionTracker()

    def settings(self) -> dict[str, Any]:
        return {"drop": self._asked}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._condemns(frame):
            self.tally.drop("script", frame, time)
        else:
            self.emit(frame, time)

    def _condemns(self, frame: bytes) -> bool:
        if not frame or frame[0] & 1:
            return False  # to a group address: neighbour discovery and other background noise
        headers = ip_of_frame(frame)
        if headers is None:
            return False
        segment = self._connections.read(frame, headers)
        condemned = False
        for rule in self._rules:  # all of them, since every rule must count
            if rule.hits(segment):
                condemned = True
        return condemned


def _key(frame: bytes, headers: IpHeaders) -> Key:
    first, size = (12, 8) if headers.version == 4 else (8, 32)
    start = headers.start + first
    return frame[start : start + size], frame[headers.transport : headers.transport + 4]
