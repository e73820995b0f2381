"""Sees data to the other end of a connection: a TCP sender.

It has the parts that RFC 9293 section 3.8 asks for: segments of the receiver's size within its
window, probes of a closed one, retransmission by time-out (RFC 6298), by duplicate acknowledgements
(RFC 5681, RFC 6582) and by SACK blocks (RFC 6675).

Positions are distances from the first byte, and do not wrap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from testbed.transport.clock import Appointment, Timekeeper
from testbed.transport.congestion import Congestion
from testbed.transport.timeout import RetransmissionTimeout
from testbed.wire.flags import FIN

_TRIES: Final = 10  # without any answer
_DUPLICATES: Final = 3  # DupThresh of RFC 5681
_MOST_RANGES: Final = 256  # of SACKed data that are remembered: an end may make up any number

Send = Callable[[int, bytes, int], None]
"""Puts a segment out to the end: position, payload, flags beside ACK."""


class Sender:
    """One half of a connection. Positions count from the first byte of data.

    counters: `repeated` and `probes` are counted there.
    send: puts segments out. give_up: is called when the end does not answer any more.
    mss: the most payload of a segment. edge: how far the end's window reaches at first.
    una: up to where the end has acknowledged.
    nxt: up to where was sent.
    widest: the largest window that the end has announced.
    """

    def __init__(
        self,
        clock: Timekeeper,
        counters: Counter[str],
        congestion: Congestion,
        timeout: RetransmissionTimeout,
        send: Send,
        give_up: Callable[[], None],
        *,
        mss: int,
        edge: int,
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._congestion = congestion
        self._timeout = timeout
        self._send = send
        self._give_up = give_up
        self.mss = mss
        self.una = self.nxt = 0
        self._data = bytearray()  # from `una` on
        self._fin: int | None = None
        self._edge = self.widest = edge
        self._closed = edge == 0  # whether the window was when last heard of
        self._probing = False  # whether the time-out was backed off by probes
        self._probed = False  # whether the byte beyond the closed window was sent
        # What is known of losses
        self._sacked: list[tuple[int, int]] = []  # beyond `una`, in order
        self._duplicates = 0
        self._lost_to = 0  # what was not SACKed before here is lost
        self._repeated_to = 0  # and was repeated up to here [HighRxt]
        self._recover = 0  # losses before here are one event of congestion
        self._recovering = False
        # Time
        self._timer: Appointment | None = None
        self._deadline: float | None = None
        self._timed: tuple[int, float] | None = None  # a position, and when it was sent
        self._sent_at = clock.now()  # the last segment
        self._tries = 0  # without an answer

    @property
    def done(self) -> bool:
        """Whether all has arrived, the FIN too."""
        return self._fin is not None and self.una > self._fin

    @property
    def ending(self) -> bool:
        """Whether there will be no more data."""
        return self._fin is not None

    @property
    def highest(self) -> int:
        """Up to where the end may acknowledge."""
        return max(self.nxt, self.una + self._probed)

    @property
    def waiting(self) -> int:
        """Bytes that it holds: not sent, or not acknowledged."""
        return len(self._data)

    @property
    def _stop(self) -> int:
        """Behind all that there is to send."""
        return self.una + len(self._data) if self._fin is None else self._fin + 1

    # From the other end

    def append(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> None:
        """There is no more data."""
        self._fin = self.una + len(self._data)

    # From this end

    def hear(
        self, position: int, window: int, blocks: Sequence[tuple[int, int]], *, bare: bool
    ) -> None:
        """Take in an acknowledgement of what was sent, with the window in bytes behind it.

        blocks: what is SACKed. bare: whether it carries nothing else, and may be a duplicate.
        """
        edge = position + window
        opens, self._closed = self._closed and window > 0, window == 0
        repeats = bare and position == self.una < self.nxt and edge == self._edge
        self._edge, self.widest = max(self._edge, edge), max(self.widest, window)
        partial = False
        self.nxt = max(self.nxt, position)  # the byte of a probe has arrived
        if position > self.una:
            partial = self._advance(position)
        elif repeats:
            self._duplicates += 1
        elif self.una == self.nxt or self._closed:  # who answers a probe is there, however long
            self._tries = 0
        if opens:
            self._forget_probes()
        for left, right in blocks:
            self._take_block(max(left, self.una), min(right, self.nxt))
        self.push(at_once=self._look_for_losses() or partial)

    def narrow(self, mss: int) -> None:
        """The path carries less than was thought: cut what is under way anew (RFC 1191)."""
        if mss < self.mss:
            self.mss = self._congestion.mss = mss
            self._lost_to, self._repeated_to = self.nxt, self.una
            self.push()

    def _advance(self, position: int) -> bool:
        """Forget what was acknowledged; whether the first piece behind is lost (RFC 6582)."""
        acknowledged = position - self.una
        del self._data[:acknowledged]
        self.una = position
        self._probed = False
        self._sacked = [
            (max(left, position), right) for left, right in self._sacked if right > position
        ]
        if self._timed is not None and position >= self._timed[0]:
            self._timeout.measure(self._clock.now() - self._timed[1])
            self._timed = None
        duplicates, self._duplicates, self._tries = self._duplicates, 0, 0
        self._deadline = None
        if self._recovering and position >= self._recover:
            self._recovering = False
            self._congestion.end_recovery(duplicates)
        elif self._recovering and not self._sacked:  # a partial one (RFC 6582 section 3.2)
            self._repeated_to = position
            self._lost_to = min(position + self.mss, self.nxt)
            return True
        else:
            self._congestion.acknowledged(acknowledged)
        return False

    # Losses

    def _take_block(self, left: int, right: int) -> None:
        if left >= right:
            return
        apart = []
        for old in self._sacked:
            if old[1] < left or right < old[0]:
                apart.append(old)
            else:
                left, right = min(left, old[0]), max(right, old[1])
        if len(apart) < _MOST_RANGES:
            self._sacked = sorted([*apart, (left, right)])

    def _look_for_losses(self) -> bool:
        """What was overtaken by three segments is lost (RFC 6675 section 4, RFC 5681).

        Whether this is the first loss of its window, which is repeated at once.
        """
        lost_to = self.una
        if self._sacked:
            above = count = 0
            for left, right in reversed(self._sacked):
                above, count = above + right - left, count + 1
                if count >= _DUPLICATES or above > (_DUPLICATES - 1) * self.mss:
                    lost_to = left
                    break
        elif self._duplicates >= _DUPLICATES and not self._recovering:
            lost_to = min(self.una + self.mss, self.nxt)
        if lost_to <= max(self.una, self._lost_to):
            return False
        begins = not self._recovering
        if begins:
            if self.una < self._recover:  # after a time-out (RFC 6675 section 5.1, RFC 6582)
                return False
            self._recovering, self._recover = True, self.nxt
            self._repeated_to = max(self._repeated_to, self.una)
            self._congestion.begin_recovery(self.nxt - self.una)
        self._lost_to = lost_to
        return begins

    def _next_lost(self) -> tuple[int, int] | None:
        """The next piece that is lost and was not repeated yet."""
        at, stop = max(self.una, self._repeated_to), self.nxt
        for left, right in self._sacked:
            if at < left:
                stop = left
                break
            at = max(at, right)
        return (at, min(at + self.mss, stop)) if at < self._lost_to else None

    def _under_way(self) -> int:
        """Bytes that may still be in the network ["pipe" of RFC 6675]."""
        gone = sum(right - left for left, right in self._sacked)
        begin, stop = max(self.una, self._repeated_to), self._lost_to
        if begin < stop:
            gone += stop - begin
            for left, right in self._sacked:
                gone -= max(min(right, stop) - max(left, begin), 0)
        if not self._sacked:
            gone += self._duplicates * self.mss
        return max(self.nxt - self.una - gone, 0)

    # Sending

    def push(self, *, at_once: bool = False) -> None:
        """Send what is lost and what is new, as far as both windows allow.

        at_once: the first piece goes out in any case, as it does when nothing is under way.
        """
        if self.una == self.nxt and self._clock.now() - self._sent_at > self._timeout.seconds:
            self._congestion.rest()
        most = self._congestion.limit
        under_way = self._under_way()
        while True:
            lost = self._next_lost()
            piece = lost or self._next_new()
            if piece is None:
                break
            size = piece[1] - piece[0]
            if under_way + size > most and under_way and not at_once:
                break
            at_once = False
            under_way += size
            if lost is None:
                self._extend(piece[1])
                self._put(*piece)
            else:
                self._repeat(*piece)
        self._arm()

    def _repeat(self, start: int, stop: int) -> None:
        self._counters["repeated"] += 1
        self._timed = None  # Karn's algorithm (RFC 6298 section 3)
        self._repeated_to = stop
        self._put(start, stop)

    def _next_new(self) -> tuple[int, int] | None:
        """The next piece, if it is worth a segment (RFC 9293 section 3.8.6.2.1)."""
        start, stop = self.nxt, self._stop
        if start == stop:
            return None
        end = stop if self._fin is None else self._fin
        size = min(self.mss, end - start, self._edge - start)
        if start + size == end < stop and start + size <= self._edge:
            return start, stop  # with the FIN, which needs no room
        all_of_it = start + size == end and self._small_may_go()
        worth = size >= self.mss or all_of_it or 2 * size >= self.widest
        return (start, start + size) if size > 0 and worth else None

    def _small_may_go(self) -> bool:
        """Whether all that there is may be sent, however little."""
        return True

    def _extend(self, stop: int) -> None:
        """Count what is sent for the first time, up to `stop`."""
        if self.una == self.nxt:  # the timer, if it runs, is not of this (RFC 6298 section 5.1)
            self._deadline = None
            if self._probing:
                self._forget_probes()
        self.nxt = stop
        if self._timed is None:
            self._timed = stop, self._clock.now()

    def _put(self, start: int, stop: int) -> None:
        payload = bytes(self._data[start - self.una : stop - self.una])
        fin = self._fin is not None and stop > self._fin
        self._sent_at = self._clock.now()
        self._send(start, payload, FIN if fin else 0)

    # Time

    def stop(self) -> None:
        """Send nothing more."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """See that the timer runs while there is anything to wait for."""
        if self.una == self._stop:
            self.stop()
            return
        now = self._clock.now()
        if self._deadline is None:
            self._deadline = now + self._timeout.seconds
        if self._timer is None or self._timer.due > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.call_later(self._deadline - now, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._clock.now() < self._deadline:  # something was acknowledged meanwhile
            self._arm()
            return
        self._deadline = None
        self._tries += 1
        self._timeout.back_off()
        if self._tries > _TRIES:
            self._give_up()
        elif self.una == self.nxt:
            self._probe()
        else:
            self._time_out()

    def _forget_probes(self) -> None:
        """Begin to wait anew, and no longer than for any segment [`tcp_ack_probe` of Linux]."""
        self._deadline = None
        self._probing = False
        self._tries = 0
        self._timeout.restart()

    def _probe(self) -> None:
        """The window is closed, or too small for a good segment (RFC 9293 section 3.8.6.1)."""
        self._probing = True
        size = min(self.mss, self._edge - self.una, len(self._data))
        if size > 0:
            self._extend(self.nxt + size)
            self._put(self.una, self.nxt)
        else:
            self._counters["probes"] += 1
            self._knock()
        self._arm()

    def _knock(self) -> None:
        """Ask for the window by a segment that is old, as Linux does."""
        self._send(self.una - 1, b"", 0)

    def _time_out(self) -> None:
        """All that was sent is lost, and is repeated in slow start (RFC 5681 section 3.1).

        What was SACKed too: the receiver may have discarded it again (RFC 2018 section 8).
        """
        self._congestion.time_out(self.nxt - self.una, again=self._tries > 1)
        self._lost_to, self._repeated_to = self.nxt, self.una
        self._recover, self._recovering = self.nxt, False
        self._sacked = []
        self._duplicates = 0
        self.push()


class HostSender(Sender):
    """The sender of a host: it collects small writes (RFC 9293 section 3.7.4), and asks for a
    closed window with the byte that lies beyond it (section 3.8.6.1)."""

    def _small_may_go(self) -> bool:
        return self.una == self.nxt

    def _knock(self) -> None:
        if self._data:
            self._probed = True
            self._put(self.una, self.una + 1)
        else:
            super()._knock()
