"""One packet that a capture holds twice.

A capture of several interfaces sees a packet come in and go out; one of `any` sees it on a bridge
and on its port; a mirror port may copy it twice; and a link can duplicate it. TCP did not send it
again in any of these cases: what TCP sends again has another IP identification, and where that is
missing (0, or IPv6) other time stamps, or comes later than a copy would.
"""

from __future__ import annotations

from enum import Enum

from testbed.trace.segments import Segment
from testbed.wire.flags import SYN

WINDOW = 50_000_000
"""ns within which a copy follows its original on the same interface, or without identification."""
LIFETIME = 120_000_000_000
"""ns in which an IP identification is not used again (RFC 6864 section 4.1: two minutes)."""

_Identification = int | tuple[int, int] | None
"""The IP identification; without one (0, or IPv6) the time stamps of TCP, if there are any."""


class CopyKind(Enum):
    """How a segment is a copy of an earlier one."""

    FORWARDED = "forwarded"
    """Seen on another interface, or with other hops left: the same packet further on."""
    REPEATED = "repeated"
    """Alike in all: captured twice, or duplicated by a link."""


class Originals:
    """The latest segments of one direction by what copies have in common.

    A look-up costs the same however many segments are alike: only the latest original of each
    kind is kept, as no older one can have a copy that the latest has not.
    """

    __slots__ = ("_first", "_latest")

    def __init__(self) -> None:
        #: By number alone, so that segments that come once are not looked into.
        self._first: dict[int, Segment] = {}
        self._latest: dict[tuple[int, int, int, int, _Identification], Segment] = {}

    def recognise(self, segment: Segment) -> CopyKind | None:
        """How a segment is a copy; None where it is none, and it is an original from then on."""
        number = segment.seq if segment.length else ~segment.ack
        first = self._first.setdefault(number, segment)
        if first is segment:
            return None
        self._latest.setdefault(_key(first), first)
        key = _key(segment)
        latest = self._latest.get(key)
        kind = None if latest is None else _copy_kind(segment, latest, key[-1])
        if kind is None:
            self._latest[key] = segment
        return kind


def _key(segment: Segment) -> tuple[int, int, int, int, _Identification]:
    """What a packet has in common with its copies, and mostly not with other packets."""
    identification = segment.ip_identification or segment.options.timestamps
    return segment.seq, segment.ack, segment.flags, segment.length, identification


def _copy_kind(
    segment: Segment, original: Segment, identification: _Identification
) -> CopyKind | None:
    """How `segment` is a copy of an earlier one with the same key, None if it is another packet."""
    elsewhere = segment.interface != original.interface
    longest = LIFETIME if elsewhere and identification is not None else WINDOW
    if abs(segment.time - original.time) > longest or segment.payload != original.payload:
        return None
    if elsewhere or segment.hops_left != original.hops_left:
        return CopyKind.FORWARDED
    if segment.ip_identification or _sent_once(segment, original):
        return CopyKind.REPEATED
    return None


def _sent_once(segment: Segment, original: Segment) -> bool:
    """Whether time stamps tell that data without an IP identification was not sent again.

    TCP sends no data again within the unit of its time stamps (RFC 7323), a millisecond or more.
    """
    options = segment.raw_options
    return (
        segment.length > 0
        and not segment.flags & SYN
        and options == original.raw_options
        and segment.options.timestamps is not None
    )
