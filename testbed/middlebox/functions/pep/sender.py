"""Sees data to one end of a split connection: a TCP sender.

It has the parts that RFC 9293 section 3.8 asks for: segments of the receiver's size within its
window, probes of a closed one, retransmission by time-out (RFC 6298), by duplicate acknowledgements
(RFC 5681, RFC 6582) and by SACK blocks (RFC 6675), and a congestion window if asked for.

Positions are distances from the first byte, and do not wrap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from testbed.middlebox import Box, Timer
from testbed.wire.flags import FIN

_FIRST_WAIT: Final = 1.0  # seconds until the first repetition (RFC 6298 section 2.1)
_LEAST_WAIT: Final = 0.2  # TCP_RTO_MIN of Linux
_MOST_WAIT: Final = 60.0
_GRANULARITY: Final = 0.001
_TRIES: Final = 10  # without any answer
_DUPLICATES: Final = 3  # DupThresh of RFC 5681
_MOST_RANGES: Final = 256  # of SACKed data that are remembered: an end may make up any number
_INITIAL_WINDOW: Final = 10  # segments (RFC 6928)

Send = Callable[[int, bytes, int], None]
"""Puts a segment out to the end: position, payload, flags beside ACK."""


class Policy(Protocol):
    """The options of the function that a sender obeys."""

    @property
    def in_flight(self) -> int: ...

    @property
    def congestion_control(self) -> str: ...


class Sender:
    """policy: tells the options in force. edge: how far the end's window reaches at first.

    mss: the most payload of a segment.
    una: up to where the end has acknowledged.
    nxt: up to where was sent.
    give_up: is called when the end does not answer any more.
    """

    def __init__(
        self,
        box: Box,
        counters: Counter[str],
        policy: Callable[[], Policy],
        send: Send,
        give_up: Callable[[], None],
        *,
        mss: int,
        edge: int,
    ) -> None:
        self._box = box
        self._counters = counters
        self._policy = policy
        self._send = send
        self._give_up = give_up
        self.mss = mss
        self.una = self.nxt = 0
        self._data = bytearray()  # from `una` on
        self._fin: int | None = None
        self._edge = self._widest = edge
        self._closed = False  # whether the window was when last heard of
        # What is known of losses
        self._sacked: list[tuple[int, int]] = []  # beyond `una`, in order
        self._duplicates = 0
        self._lost_to = 0  # what was not SACKed before here is lost
        self._repeated_to = 0  # and was repeated up to here [HighRxt]
        self._recover = 0  # losses before here are one event of congestion
        self._recovering = False
        # Congestion
        self._cwnd = 0
        self._ssthresh = 1 << 62
        self._restart()
        # Time
        self._timer: Timer | None = None
        self._deadline: float | None = None
        self._timed: tuple[int, float] | None = None  # a position, and when it was sent
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._tries = 0  # without an answer
        self._backoff = 0

    @property
    def done(self) -> bool:
        """Whether all has arrived, the FIN too."""
        return self._fin is not None and self.una > self._fin

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
        self._edge, self._widest = max(self._edge, edge), max(self._widest, window)
        partial = False
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
            self.mss = mss
            self._lost_to, self._repeated_to = self.nxt, self.una
            self.push()

    def _advance(self, position: int) -> bool:
        """Forget what was acknowledged; whether the first piece behind is lost (RFC 6582)."""
        acknowledged = position - self.una
        del self._data[:acknowledged]
        self.una = position
        self._sacked = [
            (max(left, position), right) for left, right in self._sacked if right > position
        ]
        if self._timed is not None and position >= self._timed[0]:
            self._measure(self._box.now() - self._timed[1])
            self._timed = None
        self._duplicates = self._tries = self._backoff = 0
        self._deadline = None
        if self._recovering and position >= self._recover:
            self._recovering = False
        elif self._recovering and not self._sacked:  # a partial one (RFC 6582 section 3.2)
            self._repeated_to = position
            self._lost_to = min(position + self.mss, self.nxt)
            return True
        elif self._cwnd < self._ssthresh:
            self._cwnd += min(acknowledged, self.mss)
        else:
            self._cwnd += max(self.mss * self.mss // self._cwnd, 1)
        return False

    def _measure(self, sample: float) -> None:
        """RFC 6298 section 2."""
        if self._srtt is None:
            self._srtt, self._rttvar = sample, sample / 2
        else:
            self._rttvar += (abs(self._srtt - sample) - self._rttvar) / 4
            self._srtt += (sample - self._srtt) / 8

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
            if self.una < self._recover and not self._sacked:
                return False  # duplicates of what was repeated after a time-out
            self._recovering, self._recover = True, self.nxt
            self._repeated_to = max(self._repeated_to, self.una)
            self._slow_down()
            self._cwnd = self._ssthresh
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

    # Congestion

    @property
    def _controls(self) -> bool:
        return self._policy().congestion_control == "reno"

    def _restart(self) -> None:
        """The congestion window of a connection that begins."""
        self._cwnd = _INITIAL_WINDOW * self.mss if self._controls else self._policy().in_flight

    def _slow_down(self) -> None:
        if self._controls:
            self._ssthresh = max((self.nxt - self.una) // 2, 2 * self.mss)
        else:
            self._ssthresh = self._policy().in_flight

    # Sending

    def push(self, *, at_once: bool = False) -> None:
        """Send what is lost and what is new, as far as both windows allow.

        at_once: the first piece goes out in any case, as it does when nothing is under way.
        """
        most = min(self._cwnd, self._policy().in_flight)
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
            else:
                self._counters["repeated"] += 1
                self._timed = None  # Karn's algorithm (RFC 6298 section 3)
                self._repeated_to = piece[1]
            self._put(*piece)
        self._arm()

    def _next_new(self) -> tuple[int, int] | None:
        """The next piece, if it is worth a segment (RFC 9293 section 3.8.6.2.1)."""
        start, stop = self.nxt, self._stop
        if start == stop:
            return None
        end = stop if self._fin is None else self._fin
        size = min(self.mss, end - start, self._edge - start)
        if start + size == end < stop and start + size <= self._edge:
            return start, stop  # with the FIN, which needs no room
        worth = size >= self.mss or start + size == end or 2 * size >= self._widest
        return (start, start + size) if size > 0 and worth else None

    def _extend(self, stop: int) -> None:
        """Count what is sent for the first time, up to `stop`."""
        if self.una == self.nxt:  # the timer, if it runs, is of probes (RFC 6298 section 5.1)
            self._forget_probes()
        self.nxt = stop
        if self._timed is None:
            self._timed = stop, self._box.now()

    def _put(self, start: int, stop: int) -> None:
        payload = bytes(self._data[start - self.una : stop - self.una])
        fin = self._fin is not None and stop > self._fin
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
        now = self._box.now()
        if self._deadline is None:
            self._deadline = now + self._patience()
        if self._timer is None or self._timer.due > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._box.call_later(self._deadline - now, self._wake)

    def _patience(self) -> float:
        wait = _FIRST_WAIT
        if self._srtt is not None:
            wait = max(self._srtt + max(_GRANULARITY, 4 * self._rttvar), _LEAST_WAIT)
        return min(wait * 2.0**self._backoff, _MOST_WAIT)

    def _wake(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._box.now() < self._deadline:  # something was acknowledged meanwhile
            self._arm()
            return
        self._deadline = None
        self._tries += 1
        self._backoff += 1
        if self._tries > _TRIES:
            self._give_up()
        elif self.una == self.nxt:
            self._probe()
        else:
            self._time_out()

    def _forget_probes(self) -> None:
        """Begin to wait anew, and no longer than for any segment [`tcp_ack_probe` of Linux]."""
        self._deadline = None
        self._tries = self._backoff = 0

    def _probe(self) -> None:
        """The window is closed, or too small for a good segment (RFC 9293 section 3.8.6.1)."""
        size = min(self.mss, self._edge - self.una, len(self._data))
        if size > 0:
            self._extend(self.nxt + size)
            self._put(self.una, self.nxt)
        else:
            self._counters["probes"] += 1
            self._send(self.una - 1, b"", 0)
        self._arm()

    def _time_out(self) -> None:
        """All that was sent is lost, and is repeated in slow start (RFC 5681 section 3.1).

        What was SACKed too: the receiver may have discarded it again (RFC 2018 section 8).
        """
        if self._tries == 1:
            self._slow_down()
        self._cwnd = self.mss if self._controls else _INITIAL_WINDOW * self.mss
        self._lost_to, self._repeated_to = self.nxt, self.una
        self._recover, self._recovering = self.nxt, False
        self._sacked = []
        self._duplicates = 0
        self.push()
