"""What each segment of a connection is, and how far both sides had come; see `Analysis`."""

from testbed.trace.analysis.analysis import Analysis, Repeat, analyse
from testbed.trace.analysis.classes import (
    SENT_AGAIN,
    Needless,
    RepeatReason,
    SegmentClass,
    SegmentMark,
)
from testbed.trace.analysis.vantage import Legs, VantagePoint

__all__ = [
    "SENT_AGAIN",
    "Analysis",
    "Legs",
    "SegmentMark",
    "Needless",
    "RepeatReason",
    "Repeat",
    "SegmentClass",
    "VantagePoint",
    "analyse",
]
