"""One packet that a capture holds twice.

A capture of several interfaces sees a packet come in and go out; one of `any` sees it on a bridge
and on its port; a mirror port may copy it twice; and a link can duplicate it. TCP did not send it
again in any of these cases: what TCP sends again has another IP identification.
"""

from __future__ import annotations

from enum import Enum

from testbed.trace.segments import Segment
from testbed.wire.flags import SYN

WINDOW = 50_000_000
"""ns within which a copy on the same interface follows its original."""


class CopyKind(Enum):
    """How a segment is a copy of an earlier one."""

    FORWARDED = "forwarded"
    """Seen on another interface, or with other hops left: the same packet further on."""
    REPEATED = "repeated"
    """Alike in all: captured twice, or duplicated by a link."""


class Originals:
    """The segments of one direction by what copies have in common, to recognise them by."""

    __slots__ = ("_before", "_latest")

    def __init__(self) -> None:
        self._latest: dict[int, Segment] = {}
        self._before: dict[Segment, Segment] = {}

    def recognise(self, segment: Segment) -> CopyKind | None:
        """How a segment is a copy; None where it is none, and it is an original from then on."""
        key = segment.seq if segment.length else ~segment.ack
        latest = self._latest.get(key)
        if latest is None:
            self._latest[key] = segment
            return None
        earlier: Segment | None = latest
        while earlier is not None:
            kind = _copy_kind(segment, earlier)
            if kind is not None:
                return kind
            if segment.time - earlier.time > WINDOW and segment.interface == earlier.interface:
                break
            earlier = self._before.get(earlier)
        self._before[segment] = latest
        self._latest[key] = segment
        return None


def _copy_kind(segment: Segment, original: Segment) -> CopyKind | None:
    """How `segment` is a copy of an earlier one, None where it is another packet."""
    if (
        segment.flags != original.flags
        or segment.length != original.length
        or segment.seq != original.seq
        or segment.ack != original.ack
        or segment.ip_identification != original.ip_identification
    ):
        return None
    elsewhere = segment.interface != original.interface
    if not elsewhere and segment.time - original.time > WINDOW:
        return None
    forwarded = elsewhere or segment.hops_left != original.hops_left
    if not segment.ip_identification and not forwarded and not _stamped_alike(segment, original):
        return None
    if segment.length and segment.payload != original.payload:
        return None
    return CopyKind.FORWARDED if forwarded else CopyKind.REPEATED


def _stamped_alike(segment: Segment, original: Segment) -> bool:
    """Whether data without an IP identification has the time stamps of what was sent before.

    TCP sends nothing again within the unit of its time stamps (RFC 7323), a millisecond or more.
    """
    if not segment.length or segment.flags & SYN:
        return False
    options = segment.raw_options
    return options == original.raw_options and segment.options.timestamps is not None
