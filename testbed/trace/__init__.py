"""Captures read back: frames, segments, connections, and copies of one segment. Pure."""

from testbed.trace.connections import Connection, Direction, End, Handshake, HandshakeRtt
from testbed.trace.fates import Fate, read_fates
from testbed.trace.reader import Capture, Trace, read_trace
from testbed.trace.segments import Endpoint, Flow, Segment
from testbed.wire.options import Options

__all__ = [
    "Capture",
    "Connection",
    "Direction",
    "End",
    "Endpoint",
    "Fate",
    "Flow",
    "Handshake",
    "HandshakeRtt",
    "Options",
    "Segment",
    "Trace",
    "read_fates",
    "read_trace",
]
