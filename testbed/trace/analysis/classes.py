"""What a segment is, as a capture shows it; and what else is said about it."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class SegmentClass(IntEnum):
    """What a segment is. Each has one class; `SegmentMark`, `RepeatReason` and `Needless` say more.

    "Seen" is what was captured: at the sender that is what was sent, elsewhere what arrived there.
    """

    OTHER = 0
    """No ACK, no data, no SYN, FIN or RST."""
    NEW_DATA = 1
    """Sequence numbers beyond all seen before; SYN and FIN have one each."""
    RETRANSMISSION = 2
    """A part of it was seen before."""
    FILLS_HOLE = 3
    """Never seen here, but sent again: the first one was lost before, or not captured."""
    REORDERED = 4
    """Overtaken by what was sent after it: data never seen here, or an ACK older than the last."""
    DUPLICATE = 5
    """The same packet alike in all: captured twice, or duplicated by a link."""
    COPY = 6
    """The same packet further on its way: on another interface, or with other hops left."""
    KEEPALIVE = 7
    """Nothing or the last byte again, to see whether the other side is there (RFC 9293, 3.8.4)."""
    WINDOW_PROBE = 8
    """Asks a closed window whether it is open (RFC 9293 section 3.8.6.1)."""
    ZERO_WINDOW = 9
    """An ACK without data that offers no window."""
    WINDOW_UPDATE = 10
    """An ACK without data that acknowledges nothing new, but offers another window."""
    PURE_ACK = 11
    """Any other ACK without data."""
    DUPLICATE_ACK = 12
    """As RFC 5681 section 2: no data, no SYN or FIN, the last ACK and window once more while data
    is outstanding; or, whatever the window, with SACK blocks (RFC 6675 section 2)."""
    OUT_OF_WINDOW = 13
    """Beyond the window that the other side offered, or a SYN or RST of another connection."""
    RESET = 14
    """RST."""

    @property
    def words(self) -> str:
        """`new data`, `pure ACK`."""
        return _WORDS.get(self, self.name.lower().replace("_", " "))


_WORDS = {
    SegmentClass.PURE_ACK: "pure ACK",
    SegmentClass.DUPLICATE_ACK: "duplicate ACK",
    SegmentClass.FILLS_HOLE: "fills a hole",
    SegmentClass.KEEPALIVE: "keepalive",
}


class RepeatReason(IntEnum):
    """What made the sender send again; of retransmissions and of what fills a hole."""

    NONE = 0
    UNKNOWN = 1
    """Nothing in the capture tells."""
    TIMEOUT = 2
    """The retransmission timer (RFC 6298 section 5.4), and what follows until all that was out at
    that moment is acknowledged."""
    FAST = 3
    """Loss told by ACKs: duplicate ones, SACK (RFC 5681, 6675), or RACK (RFC 8985)."""
    TAIL_LOSS_PROBE = 4
    """The last segment once more, before the timer (RFC 8985 section 7)."""
    REFUSED = 5
    """Data of a SYN that the SYN/ACK did not acknowledge (RFC 7413 section 4.2.1)."""

    @property
    def words(self) -> str:
        return _REASONS[self]


_REASONS = {
    RepeatReason.NONE: "",
    RepeatReason.UNKNOWN: "for an unknown reason",
    RepeatReason.TIMEOUT: "by time-out",
    RepeatReason.FAST: "by fast retransmission",
    RepeatReason.TAIL_LOSS_PROBE: "by tail loss probe",
    RepeatReason.REFUSED: "since the SYN's data was not taken",
}


class Needless(IntEnum):
    """How a retransmission turns out to have been needless."""

    NO = 0
    DSACK = 1
    """The receiver says that it got the data twice (RFC 2883)."""
    TIME_STAMP = 2
    """Its first ACK echoes the time stamp of an earlier transmission (Eifel, RFC 3522)."""
    ACKNOWLEDGED = 3
    """All of it was acknowledged, or selectively so, before it was sent again."""


class SegmentMark(IntFlag):
    """What else is true of a segment, beside its class.

    TIMER: the one with which a timer fired; others of reason TIMEOUT follow it.
    GAP: what comes right before it was not seen until now.
    UNSEEN_ACKED: acknowledges data that the capture does not have.
    ZERO_WINDOW: offers no window, whatever its class.
    WINDOW_FULL: reaches the end of the offered window.
    SACKS: has SACK blocks; DSACK: the first of them names data that arrived twice (RFC 2883).
    """

    TIMER = 1
    GAP = 2
    UNSEEN_ACKED = 4
    ZERO_WINDOW = 8
    WINDOW_FULL = 16
    SACKS = 32
    DSACK = 64


SENT_AGAIN = (SegmentClass.RETRANSMISSION, SegmentClass.FILLS_HOLE)
