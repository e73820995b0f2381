"""The box that wants to see a datagram whole before it lets any fragment of it go on.

Fragments cost memory and time, and hide from filters what a datagram is about: hence limits.
What is let go are the fragments themselves, in order: an IPv6 router may not make new ones, and
the sender has fitted these to a path that the box does not know (RFC 8200 section 5).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from testbed.middlebox import (
    EVICTED,
    HOLD,
    PASS,
    Box,
    Count,
    Duration,
    Flow,
    FlowTable,
    Function,
    Phase,
    Verdict,
    drop,
    function,
)
from testbed.wire.fragment import Fragment, fragment_of
from testbed.wire.ip import OPAQUE
from testbed.wire.packet import Packet, Side

_OVERHEAD: Final = 128  # bytes of memory that a held fragment costs beside its own

_LIMIT = drop("fragment-limit")
_OVERLAP = drop("fragment-overlap")
_TINY = drop("fragment-tiny")
_OVERSIZE = drop("fragment-oversize")
_MALFORMED = drop("fragment-malformed")
_DUPLICATE = drop("fragment-duplicate")
_EVICTED: Final = "fragment-evicted"
_TIMEOUT: Final = "reassembly-timeout"


@dataclass(slots=True)
class _Piece:
    """A held fragment: its place in the datagram and the packet, whose data begins at `at`."""

    offset: int
    end: int
    at: int
    packet: bytearray


@dataclass(eq=False, slots=True, kw_only=True)
class _Datagram(Flow):
    """Fragments that have come, by offset.

    pieces: none any more once it was refused; then it takes no more.
    total: its size, known since its last fragment came.
    data: bytes of it that are here.
    refused: why it was refused.
    """

    side: Side
    pieces: list[_Piece] = field(default_factory=list)
    total: int | None = None
    data: int = 0
    refused: Verdict | None = None

    @property
    def is_whole(self) -> bool:
        return self.data == self.total


@function("fragments")
class Fragments(Function):
    """Holds fragments until their datagram is complete and sound; lets all or none go on."""

    protocols = frozenset({OPAQUE})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How much is held. All can be set while traffic runs.

        limit: the most fragments that a datagram may have; one that has more is dropped whole.
        reassembly_timeout: the longest time from the first fragment that comes to the last, in
        seconds; then what has come is dropped. Of a datagram that was refused everything is
        dropped that long.
        datagram_limit: incomplete or refused datagrams remembered; beyond, the oldest is dropped.
        memory_limit: bytes of fragments held; beyond, the oldest incomplete datagram is dropped.
        """

        limit: Annotated[int, msgspec.Meta(ge=2, le=8192)] = 64
        reassembly_timeout: Duration = 4.0
        datagram_limit: Count = 1024
        memory_limit: Annotated[int, msgspec.Meta(ge=1 << 17)] = 4 << 20

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._datagrams: FlowTable[_Datagram] = FlowTable(
            box, (_phase(options),), on_end=self._give_up
        )
        self._memory = 0
        self._held = 0

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._datagrams.configure((_phase(options),))

    def gauges(self) -> dict[str, int]:
        return {
            "now-datagrams": len(self._datagrams),
            "now-held": self._held,
            "now-memory": self._memory,
        }

    def packet(self, packet: Packet) -> Verdict:
        fragment = fragment_of(packet)
        if fragment is None:
            return PASS
        key = bytes((packet.side, packet.version)) + fragment.key
        datagram = self._datagrams.get(key)
        if datagram is None:
            if not self.enabled:
                return PASS
            datagram = _Datagram(side=packet.side)
            self._datagrams.add(datagram, key)
        self.counters["fragments"] += 1
        verdict = datagram.refused or self._take_in(datagram, packet, fragment)
        if verdict is not HOLD:
            self.counters[f"dropped-{verdict.cause}"] += 1
        return verdict

    def _take_in(self, datagram: _Datagram, packet: Packet, fragment: Fragment) -> Verdict:
        fault = self._fault(datagram, packet, fragment)
        if fault is _DUPLICATE:
            return fault
        if fault is not None:
            self._refuse(datagram, fault)
            return fault
        piece = _Piece(fragment.offset, fragment.end, fragment.at, packet.copy())
        datagram.pieces.insert(_place(datagram, fragment), piece)
        datagram.data += fragment.size
        if not fragment.more:
            datagram.total = fragment.end
        self._held += 1
        self._memory += _cost(piece)
        if datagram.is_whole:
            self._let_go(datagram)
        elif self._memory > self.options.memory_limit:
            self._make_room()
        return HOLD

    # Judging

    def _fault(self, datagram: _Datagram, packet: Packet, fragment: Fragment) -> Verdict | None:
        """What is wrong with a fragment, alone or beside those that are here."""
        if fragment.is_malformed:
            return _MALFORMED
        if fragment.is_oversize:
            return _OVERSIZE
        if fragment.is_tiny:
            return _TINY
        clash = _clash(datagram, packet, fragment)
        if clash is not None:
            return clash
        if len(datagram.pieces) >= self.options.limit:
            return _LIMIT
        return None

    # Letting go

    def _let_go(self, datagram: _Datagram) -> None:
        self.counters["reassembled"] += 1
        pieces = self._take_pieces(datagram)
        self._datagrams.remove(datagram)
        for piece in pieces:
            self.box.release(piece.packet, datagram.side.other)

    def _refuse(self, datagram: _Datagram, verdict: Verdict) -> None:
        """Drop what has come, and remember to drop what will (RFC 5722 section 4)."""
        self.counters["datagrams-refused"] += 1
        datagram.refused = verdict
        self._drop_pieces(datagram, verdict.cause)

    def _give_up(self, datagram: _Datagram, cause: str) -> None:
        """It took too long, or has to make room."""
        if datagram.refused is None:
            evicted = cause == EVICTED
            self.counters["datagrams-evicted" if evicted else "datagrams-timed-out"] += 1
            self._drop_pieces(datagram, _EVICTED if evicted else _TIMEOUT)

    def _make_room(self) -> None:
        """Drop the oldest datagrams until the rest fits; the one in hand may be among them."""
        while self._memory > self.options.memory_limit:
            oldest = self._datagrams.oldest()
            if oldest is None:
                return
            self._datagrams.end(oldest, EVICTED)

    def _drop_pieces(self, datagram: _Datagram, cause: str) -> None:
        count = len(self._take_pieces(datagram))
        self.counters[f"dropped-{cause}"] += count
        self.box.abandon(count, cause)

    def _take_pieces(self, datagram: _Datagram) -> list[_Piece]:
        pieces, datagram.pieces = datagram.pieces, []
        self._held -= len(pieces)
        self._memory -= sum(map(_cost, pieces))
        return pieces


def _phase(options: Fragments.Options) -> Phase:
    """Datagrams are never used again: the first that came is the first to go."""
    return Phase(options.reassembly_timeout, options.datagram_limit)


def _cost(piece: _Piece) -> int:
    return len(piece.packet) + _OVERHEAD


def _place(datagram: _Datagram, fragment: Fragment) -> int:
    """Where a fragment belongs among those that are here."""
    return bisect_left(datagram.pieces, fragment.offset, key=lambda piece: piece.offset)


def _clash(datagram: _Datagram, packet: Packet, fragment: Fragment) -> Verdict | None:
    """How a fragment contradicts those that are here: it repeats one, overlaps, or goes beyond.

    Only the same bytes in the same place are a duplicate, which is harmless (RFC 8200 section
    4.5); every other overlap is an attack.
    """
    pieces, place = datagram.pieces, _place(datagram, fragment)
    if place < len(pieces) and pieces[place].offset == fragment.offset:
        piece = pieces[place]
        same = (
            piece.end == fragment.end
            and (datagram.total != fragment.end) == fragment.more
            and piece.packet[piece.at :] == packet.buffer[fragment.at : packet.length]
        )
        return _DUPLICATE if same else _OVERLAP
    if place and pieces[place - 1].end > fragment.offset:
        return _OVERLAP
    if place < len(pieces) and pieces[place].offset < fragment.end:
        return _OVERLAP
    last = pieces[-1].end if pieces else 0
    if fragment.more:
        beyond = datagram.total is not None and fragment.end >= datagram.total
    else:
        beyond = datagram.total is not None or fragment.end < last
    return _MALFORMED if beyond else None
