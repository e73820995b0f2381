"""The classes of ordinary segments, all at once; and which ones have to be looked at singly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.classes import SegmentClass, SegmentMark
from testbed.trace.analysis.progress import NOTHING, Mask, SequenceProgress
from testbed.wire.flags import FIN, SYN


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What the running state alone tells.

    classes, marks: of each row. behind: data of which some lies below what was sent before it, or
    was acknowledged before it was seen. gaps: data behind which something is missing.
    """

    classes: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    behind: Mask
    gaps: Mask


def first_look(progress: SequenceProgress) -> FirstLook:
    """Class every row as if nothing unusual had happened before it, and say where it had."""
    occupies = (progress.spans > 0) & ~progress.strays
    sent = progress.sent_before
    peer_acked = progress.of_peer(progress.acked)
    nothing_sent = sent == NOTHING
    behind = occupies & ~nothing_sent & ((progress.position < sent) | (progress.end <= peer_acked))
    behind &= ~progress.probes
    last_byte = behind & (progress.table.length == 1) & (progress.spans == 1)
    last_byte &= (progress.position == peer_acked - 1) & (progress.end == sent)
    behind &= ~last_byte
    gaps = occupies & ~nothing_sent & (progress.position > sent)
    classes = np.full(len(sent), SegmentClass.OTHER, np.uint8)
    classes[occupies] = SegmentClass.NEW_DATA
    _class_acks(progress, classes)
    edge = progress.of_peer(progress.edge)
    known = edge > NOTHING // 2
    beyond = occupies & known & (progress.end > edge) & ((progress.flags & FIN) == 0)
    _class_what_is_outside(progress, classes, beyond & ~behind, peer_acked, edge)
    classes[progress.probes] = SegmentClass.WINDOW_PROBE
    bare_probes = progress.has_ack & (progress.spans == 0) & (sent > NOTHING)
    bare_probes &= progress.position == peer_acked - 1
    classes[last_byte | (bare_probes & ~progress.peer_closed)] = SegmentClass.KEEPALIVE
    classes[bare_probes & progress.peer_closed] = SegmentClass.WINDOW_PROBE
    marks = _marks(progress, gaps, occupies & known & (progress.end == edge))
    return FirstLook(classes, marks, behind, gaps)


def _class_acks(progress: SequenceProgress, classes: NDArray[np.uint8]) -> None:
    """The classes of segments with nothing but an ACK."""
    table = progress.table
    bare = progress.has_ack & (progress.spans == 0)
    acked = progress.before(progress.acked)
    same = bare & (progress.acknowledged == acked)
    older = bare & (progress.acknowledged < acked) & (acked > NOTHING)
    last = progress.before(progress.last_ack, -1)
    window_differs = (last >= 0) & (table.window != table.window[last])
    window_differs &= (progress.flags[last] & SYN) == 0  # that one was not scaled
    outstanding = progress.peer_sent > progress.acknowledged
    classes[bare] = SegmentClass.PURE_ACK
    repeated = same & outstanding & (~window_differs | (table.sack_count > 0))
    classes[same & window_differs] = SegmentClass.WINDOW_UPDATE
    classes[repeated] = SegmentClass.DUPLICATE_ACK
    classes[bare & (table.window == 0)] = SegmentClass.ZERO_WINDOW
    classes[older] = SegmentClass.REORDERED


def _class_what_is_outside(
    progress: SequenceProgress, classes: NDArray[np.uint8], beyond: Mask, peer_acked: Any, edge: Any
) -> None:
    """RST, and what lies outside of the window."""
    classes[progress.resets] = SegmentClass.RESET
    rows = np.flatnonzero(progress.resets & (peer_acked > NOTHING))
    if len(rows):
        # Without a known window, what is within 2^30 may be in it (RFC 7323 section 2.3).
        least = np.where(edge[rows] > NOTHING // 2, 0, 1 << 30)
        right = np.maximum(edge[rows], peer_acked[rows] + least)
        position = progress.position[rows]
        outside = (position < peer_acked[rows]) | (position > right)
        classes[rows[outside]] = SegmentClass.OUT_OF_WINDOW
    classes[progress.stray_syns] = SegmentClass.OUT_OF_WINDOW
    classes[beyond] = SegmentClass.OUT_OF_WINDOW


def _marks(progress: SequenceProgress, gaps: Mask, full: Mask) -> NDArray[np.uint8]:
    table = progress.table
    marks = np.zeros(len(table), np.uint8)
    marks[gaps] |= np.uint8(SegmentMark.GAP)
    peer_sent = progress.peer_sent
    unseen = progress.has_ack & (peer_sent > NOTHING) & (progress.acknowledged > peer_sent)
    marks[unseen] |= np.uint8(SegmentMark.UNSEEN_ACKED)
    marks[progress.has_ack & (table.window == 0)] |= np.uint8(SegmentMark.ZERO_WINDOW)
    marks[full] |= np.uint8(SegmentMark.WINDOW_FULL)
    rows = table.sack_rows
    if len(rows):
        marks[rows] |= np.uint8(SegmentMark.SACKS)
        marks[rows[_reports_duplicates(progress, rows)]] |= np.uint8(SegmentMark.DSACK)
    return marks


def _reports_duplicates(progress: SequenceProgress, rows: Any) -> Mask:
    """Whether the first block is below the ACK, or inside of the second block (RFC 2883, 4)."""
    table = progress.table
    first = table.sack_first[rows].astype(np.int64)
    ack = table.ack[rows].astype(np.uint32)
    blocks = table.sack_edges
    right = (blocks[first, 1] - ack).view(np.int32)
    left = (blocks[first, 0] - ack).view(np.int32)
    second = np.minimum(first + 1, len(blocks) - 1)
    outer_left = (blocks[second, 0] - ack).view(np.int32)
    outer_right = (blocks[second, 1] - ack).view(np.int32)
    inside = (table.sack_count[rows] > 1) & (outer_left <= left) & (right <= outer_right)
    found: Mask = (right <= 0) | inside
    return found
