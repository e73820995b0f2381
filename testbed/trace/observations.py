"""What a capture says about one connection; times in seconds."""

from __future__ import annotations

from pathlib import Path

from testbed.errors import TraceError
from testbed.trace.connections import Connection
from testbed.trace.directions import Direction
from testbed.trace.pcap import CaptureFile
from testbed.trace.reader import read_trace
from testbed.trace.segments import Segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.frame import ip_of_frame
from testbed.wire.sequence import difference

_NS = 1e9


def connection_in(capture: Path) -> Connection:
    """The first connection of a capture. Raises `TraceError` when there is none."""
    connections = read_trace(capture).connections
    if not connections:
        raise TraceError(f"There is no TCP connection in {capture}.")
    return connections[0]


def fragments_in(capture: Path) -> int:
    """Fragments of IPv4 and IPv6 datagrams in a capture of whole Ethernet frames."""
    file = CaptureFile(capture)
    found = (ip_of_frame(file.data[start:end]) for _, _, start, end, *_ in file.frames())
    return sum(headers is not None and headers.is_fragment for headers in found)


def largest_payload(direction: Direction) -> int:
    """Bytes of payload of the largest segment."""
    return max((segment.length for segment in direction.segments), default=0)


def most_in_flight(connection: Connection, sender: Direction) -> int:
    """The most bytes that were sent and not yet acknowledged, as seen near the sender."""
    sent = acknowledged = sender.isn
    most = 0
    for segment in connection.segments:
        if segment.flow is sender.flow:
            end = segment.seq + segment.span
            if difference(end, sent) > 0:
                sent = end
            most = max(most, difference(sent, acknowledged))
        elif segment.flags & ACK and difference(segment.ack, acknowledged) > 0:
            acknowledged = segment.ack
    return most


def detection_time(sender: Direction) -> float:
    """From the first transmission of what was lost first to its retransmission."""
    repeats = sender.retransmissions()
    if not repeats:
        return 0.0
    again = repeats[0]
    first = next(segment for segment in sender.segments if segment.seq == again.seq)
    return (again.time - first.time) / _NS


def repair_time(sender: Direction) -> float:
    """From the first retransmission to the last."""
    repeats = sender.retransmissions()
    return (repeats[-1].time - repeats[0].time) / _NS if repeats else 0.0


def sack_blocks(receiver: Direction) -> int:
    """SACK blocks in all segments."""
    return sum(len(segment.options.sack) for segment in receiver.segments)


def pure_acks(direction: Direction) -> list[Segment]:
    """Segments that do nothing but acknowledge."""
    return [
        segment
        for segment in direction.segments
        if not segment.length and segment.flags & (ACK | SYN | FIN | RST) == ACK
    ]
