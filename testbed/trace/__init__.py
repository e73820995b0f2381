"""Captures read back: frames, segments, connections, and one segment in several captures. Pure."""

import testbed.trace.lone_numpy  # noqa: F401

# isort: split
from testbed.trace.analysis import (
    Analysis,
    Legs,
    Needless,
    Repeat,
    RepeatReason,
    SegmentClass,
    SegmentMark,
    VantagePoint,
    analyse,
)
from testbed.trace.clocks import Clock, compare_clocks
from testbed.trace.compare import ConnectionComparison, Passed, Rewritten, compare
from testbed.trace.connections import Connection
from testbed.trace.directions import Direction, FirstData
from testbed.trace.endings import End
from testbed.trace.fates import Fate, read_fates
from testbed.trace.frames import CaptureInterface
from testbed.trace.handshake import Handshake, HandshakeRtt
from testbed.trace.journeys import Followed, Journey, Passage, Stop, Vantage, follow
from testbed.trace.match import (
    ConnectionPair,
    Crossing,
    match_connections,
    match_segments,
)
from testbed.trace.pcap import CaptureFile
from testbed.trace.reader import CaptureSource, Trace, read_trace
from testbed.trace.segments import Endpoint, Flow, Segment
from testbed.trace.source import is_capture
from testbed.trace.summary import TraceSummary
from testbed.trace.table import OptionBit, SegmentTable
from testbed.wire.options import Options
from testbed.wire.sequence import difference

__all__ = [
    "ConnectionComparison",
    "FirstData",
    "Passed",
    "Rewritten",
    "compare",
    "Analysis",
    "Legs",
    "SegmentMark",
    "Needless",
    "RepeatReason",
    "Repeat",
    "SegmentClass",
    "VantagePoint",
    "analyse",
    "CaptureSource",
    "CaptureFile",
    "Clock",
    "Connection",
    "ConnectionPair",
    "Crossing",
    "Direction",
    "End",
    "Endpoint",
    "Fate",
    "Flow",
    "Followed",
    "Handshake",
    "HandshakeRtt",
    "CaptureInterface",
    "Journey",
    "OptionBit",
    "Options",
    "Passage",
    "Segment",
    "SegmentTable",
    "Stop",
    "Trace",
    "TraceSummary",
    "Vantage",
    "compare_clocks",
    "difference",
    "follow",
    "is_capture",
    "match_connections",
    "match_segments",
    "read_fates",
    "read_trace",
]
