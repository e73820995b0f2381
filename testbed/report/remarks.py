"""What the reader must know about a capture before trusting what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed.report.wording import are, count
from testbed.trace import Trace

_NAMED = 4
_YEAR_10000 = 253_402_300_800_000_000_000
"""In ns since the epoch."""


def remarks(trace: Trace) -> Iterator[str]:
    """One sentence or two for each thing."""
    yield from _about_the_file(trace)
    yield from _about_packets(trace)
    yield from _about_copies(trace)
    if any(connection.guessed for connection in trace.connections):
        yield "* The SYN is not in the capture: who opened is a guess."
    if trace.summary.oversized.any():
        yield "Some segments exceed the MSS: segmentation offload was on where this was captured."
    for number, rtt in enumerate(trace.summary.rtts, 1):
        if rtt is not None and rtt.doubt and trace.back_in_time is None:
            yield f"? No RTT for connection {number}: {rtt.doubt}."
            break


def _about_the_file(trace: Trace) -> Iterator[str]:
    transcript = trace.capture.transcript
    if transcript is not None:
        named = (
            f"{name} is {address}" for address, name in list(transcript.names.items())[:_NAMED]
        )
        yield ", ".join(["Read from text, without payload", *named]) + "."
        if transcript.skipped:
            lines = count(transcript.skipped, "line")
            yield f"{lines} of it {are(transcript.skipped)} no TCP packet, or not understood."
        if not transcript.timed:
            yield "It tells no times: packets are set a microsecond apart."
    if trace.damage:
        yield f"The file is {trace.damage}. Read up to there: {count(trace.packets, 'packet')}."
    if trace.truncated:
        yield "The file stops in the middle of its last packet."
    if trace.capture.lost:
        lost = count(trace.capture.lost, "packet")
        yield f"The capture lost {lost}, by its own counters: what seems missing may not be."
    if trace.start is not None and trace.end is not None and not _can_be(trace.start, trace.end):
        yield (
            "Times in this capture are not between the years 1970 and 9999: a time stamp, or the "
            "unit or offset of time stamps, is damaged. All packets are read; their times may be "
            "wrong."
        )
    if trace.back_in_time is not None:
        yield (
            f"Time goes back in this capture at packet {trace.back_in_time}: it was merged, or a "
            "clock was set. Times across that are not to be trusted."
        )


def _can_be(start: int, end: int) -> bool:
    """Whether packets can have been captured from `start` to `end`, ns since the epoch."""
    return start >= 0 and end < _YEAR_10000


def _about_packets(trace: Trace) -> Iterator[str]:
    if trace.others:
        number = sum(trace.others.values())
        yield f"{count(number, 'packet')} {are(number)} not TCP: {_listed(trace.others)}."
    if trace.unread:
        number = sum(trace.unread.values())
        yield (
            f"{count(number, 'packet')} {are(number)} not understood and may hold TCP: "
            f"{_listed(trace.unread)}."
        )
    if trace.cut:
        yield (
            f"{count(trace.cut, 'packet')} {are(trace.cut)} cut in the headers by the snap length "
            "of the capture; 96 bytes are enough mostly (tcpdump -s 96)."
        )
    if trace.malformed:
        yield f"{count(trace.malformed, 'packet')} {are(trace.malformed)} malformed."


def _about_copies(trace: Trace) -> Iterator[str]:
    if trace.copies_ignored:
        yield f"{count(trace.copies_ignored, 'segment')} left out: copies of others."
        return
    forwarded = int(trace.summary.forwarded.sum())
    repeated = int(trace.summary.repeated.sum())
    if forwarded:
        yield (
            f"{count(forwarded, 'segment')} {are(forwarded)} forwarded: the same packets on "
            "another interface, or with other hops left. No retransmissions; --ignore-copies "
            "leaves them out."
        )
    if repeated:
        yield (
            f"{count(repeated, 'segment')} {are(repeated)} there twice, with the same IP "
            "identification and bytes within 50 ms: captured twice, or duplicated by a link. No "
            "retransmissions; --ignore-copies leaves them out."
        )


def _listed(counts: Mapping[str, int]) -> str:
    """`8 UDP, 2 ARP and 3 others`."""
    named = list(counts.items())[:_NAMED]
    rest = sum(counts.values()) - sum(number for _, number in named)
    words = ", ".join(f"{number:,} {name}" for name, number in named)
    return f"{words} and {count(rest, 'other')}" if rest else words
