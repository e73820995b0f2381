"""One end of a TCP connection (RFC 9293), of which a program reads, and to which it writes."""

from __future__ import annotations

import errno
from typing import ClassVar, Final

from testbed.transport.keepalive import Keepalive
from testbed.transport.opening import TcpOpening
from testbed.transport.settings import LARGEST_WINDOW
from testbed.wire.craft import reset
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import Options
from testbed.wire.packet import Packet
from testbed.wire.sequence import MODULUS, difference

_KEEPALIVE: Final = (7200.0, 75.0, 9)  # as Linux has it
_OBJECTION_INTERVAL: Final = 0.5  # seconds: tcp_invalid_ratelimit of Linux
_DELAY: Final = 0.2  # seconds for which an acknowledgement may wait (less than 0.5)
_TIME_WAIT: Final = 60.0  # two maximum segment lifetimes, as Linux has them


class TcpConnection(TcpOpening):
    """A whole connection, from its opening to its end.

    ACK_EVERY: full segments that are acknowledged together at most (RFC 9293 section 3.8.6.3).
    """

    ACK_EVERY: ClassVar[int] = 2

    # The program's side

    def open(self) -> None:
        """Send a SYN."""
        self.phase = "syn-sent"
        self._knock()

    @property
    def readable(self) -> bool:
        """Whether `read` has something to say, be it the end."""
        return bool(self._inbox) or self._receiver.finished or self.phase in ("closed", "time-wait")

    @property
    def room(self) -> int:
        """Bytes that `write` would take."""
        if self._sender is None or self.phase != "synchronized":
            return 0
        return max(self.settings.send_buffer - self._sender.waiting, 0)

    @property
    def ending(self) -> bool:
        """Whether nothing more may be written."""
        return self._sender is not None and self._sender.ending

    @property
    def finished(self) -> bool:
        """Whether all that was written has arrived, the end of it too."""
        return self._sender is not None and self._sender.done

    def write(self, data: bytes | memoryview) -> int:
        """Take as much as there is room for, and send what may be sent."""
        taken = bytes(data[: self.room])
        if taken and self._sender is not None:
            self._sender.append(taken)
            self._sender.push()
        return len(taken)

    def read(self, limit: int) -> bytes:
        """What has arrived; empty if nothing has, and at the end."""
        data = bytes(self._inbox[:limit])
        del self._inbox[: len(data)]
        self._open_window()
        return data

    def finish(self) -> None:
        """There is nothing more to write."""
        if self._sender is not None and self.phase == "synchronized" and not self._sender.ending:
            self._closes_second = self._receiver.finished
            self._sender.finish()
            self._sender.push()

    def close(self) -> None:
        """The program goes. What it has not read, and what still comes, is answered by a reset
        (RFC 9293 section 3.10.4, RFC 1122 section 4.2.2.13)."""
        if self._closed:
            return
        self._closed = True
        if self._sender is None:
            self.abort()
        elif self._inbox and self.phase == "synchronized":
            self._close_unread()
        else:
            self.finish()
            self._review()

    def _close_unread(self) -> None:
        self.abort()

    def abort(self) -> None:
        """End it at once by a reset."""
        if self.phase in ("syn-received", "synchronized"):
            self._reset()
        self._end(0)

    def keep_alive(self) -> None:
        """Probe the other end as the settings say."""
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        wanted = self.settings
        if not wanted.keepalive or self.phase != "synchronized":
            return
        self._keepalive = Keepalive(
            self.host.clock,
            *self._patience(),
            lambda: self._sender is not None and self._sender.waiting > 0,
            lambda: self._emit(self._nxt - 1, ACK),
            self._give_up,
        )

    def _patience(self) -> tuple[float, float, int]:
        """Of keepalive: seconds before the first probe, seconds between probes, their number."""
        idle, interval, probes = _KEEPALIVE
        wanted = self.settings
        return (
            wanted.keepalive_idle or idle,
            wanted.keepalive_interval or interval,
            wanted.keepalive_probes or probes,
        )

    # Segments

    def hear(self, packet: Packet) -> None:
        """Take in a segment, in the order of RFC 9293 section 3.10.7."""
        options = packet.options()
        if self.phase == "syn-sent":
            self.hear_answer(packet)
        elif self.phase != "closed":
            self._hear_in_order(packet, options)
            self._review()

    def _hear_in_order(self, packet: Packet, options: Options) -> None:
        flags, receiver = packet.flags, self._receiver
        size, fin = packet.end - packet.payload, bool(flags & FIN)
        taken = receiver.taken
        start = taken + difference(packet.seq, (self._their_first + taken) % MODULUS)
        if self._keepalive is not None:
            self._keepalive.hear()
        if self._is_old(options) and not flags & RST:
            self._object(packet)
            return
        if not receiver.accepts(start, size + fin):
            self._refuse(packet, start)
            return
        if flags & RST and start == taken:
            refused = self.phase == "syn-received"
            self._end(errno.ECONNREFUSED if refused else errno.ECONNRESET)
            return
        if flags & (RST | SYN):
            self._object(packet)  # RFC 5961 sections 3.2 and 4.2
            return
        if not flags & ACK or not self._takes_acknowledgement(packet):
            return
        if options.timestamps is not None and start <= self._acknowledged:
            self._recent = options.timestamps[0]  # RFC 7323 section 4.3, before anything is sent
        if not self._hear_acknowledgement(packet, options, bare=not size + fin):
            return
        if size or fin:
            self._hear_data(start, bytes(packet.buffer[packet.payload : packet.end]), fin)

    def _is_old(self, options: Options) -> bool:
        """Whether its time stamp is older than what has come already (RFC 7323 section 5.3)."""
        if self._agreed is None or not self._agreed.timestamps or options.timestamps is None:
            return False
        return difference(options.timestamps[0], self._recent) < 0

    def _refuse(self, packet: Packet, start: int) -> None:
        """Answer a segment outside the window."""
        flags = packet.flags
        if flags & RST:
            return
        if self.phase == "syn-received" and flags & SYN and start == -1:
            if flags & ACK and packet.ack == self._first:  # both have opened at once
                self._establish(packet.window)
                self._acknowledge()
            else:
                self._knock()  # our answer was lost
            return
        if flags & FIN and self.phase == "time-wait":
            self._wait_out()
        self._object(packet)

    def _object(self, packet: Packet) -> None:
        """Say where we are to who seems to be elsewhere; not often where neither data nor a FIN
        asks for it, or both would go on for ever (RFC 5961 section 7)."""
        now = self.host.clock.now()
        sent_again = packet.end > packet.payload or packet.flags & FIN
        loops = not sent_again or packet.flags & SYN
        if not loops or now - self._objected_at >= _OBJECTION_INTERVAL:
            self._objected_at = now
            self._acknowledge()

    def _takes_acknowledgement(self, packet: Packet) -> bool:
        """Whether it acknowledges what was sent, and not all too long ago (RFC 5961 section 5.2);
        an answer says so otherwise."""
        sender = self._sender
        if sender is None:
            if packet.ack != self._first:
                self.host.transmit(reset(self.key, seq=packet.ack))
            return packet.ack == self._first
        una = sender.una
        position = una + difference(packet.ack, (self._first + una) % MODULUS)
        if una - sender.widest <= position <= sender.highest:
            return True
        self._object(packet)
        return False

    def _hear_acknowledgement(self, packet: Packet, options: Options, *, bare: bool) -> bool:
        """Whether the rest of the segment may be looked at."""
        assert self._agreed is not None
        window = packet.window << self._agreed.their_scale
        if self._sender is None:
            self._establish(window)
        sender = self._sender
        assert sender is not None
        una = sender.una
        position = una + difference(packet.ack, (self._first + una) % MODULUS)
        if position >= una:
            base = (self._first + una) % MODULUS
            blocks = [
                (una + difference(left, base), una + difference(right, base))
                for left, right in (options.sack if self._agreed.sack else ())
            ]
            before = sender.waiting
            sender.hear(position, window, blocks, bare=bare)
            if sender.waiting < before or sender.done:
                self.changed()
        return self.phase != "closed"

    def _hear_data(self, start: int, payload: bytes, fin: bool) -> None:
        receiver = self._receiver
        before = receiver.taken
        if payload and start + len(payload) > before and not self._takes_data():
            self._reset()
            self._end(errno.ECONNRESET)
            return
        if payload and not receiver.window and start == before and self._buffer > len(self._inbox):
            receiver.take_probe()
        gaps = bool(receiver.blocks())
        self._inbox += receiver.take(start, payload, fin)
        taken = receiver.taken - before
        self._largest = max(self._largest, len(payload))
        if taken:
            self.changed()
        self._open_window(told=False)
        self._pending += taken
        if fin or gaps or not taken or self._pending >= self.ACK_EVERY * self._largest:
            self._acknowledge()
        elif self._delayed is None:
            self._delayed = self.host.clock.call_later(_DELAY, self._acknowledge)

    def _takes_data(self) -> bool:
        """Whether somebody may still read it (RFC 1122 section 4.2.2.13)."""
        return not self._closed

    @property
    def _buffer(self) -> int:
        """Bytes that are kept for the program, as far as windows can tell of them."""
        assert self._agreed is not None
        return min(self.settings.receive_buffer, LARGEST_WINDOW << self._agreed.own_scale)

    def _open_window(self, *, told: bool = True) -> None:
        """Promise the room that a program has made, in steps that are worth a segment (RFC 9293
        section 3.8.6.2.2); told: and tell the other end."""
        if self._agreed is None:
            return
        receiver, buffer = self._receiver, self._buffer
        edge = receiver.taken + buffer - len(self._inbox)
        step = min(self._largest_mss, buffer // 2)
        if edge - receiver.edge >= step:
            receiver.edge = edge
        narrow = self._told - receiver.taken < 2 * step
        if told and receiver.edge - self._told >= (step if narrow else buffer // 2):
            self._acknowledge()

    # The end

    def _review(self) -> None:
        """See whether the connection is over, or nearly."""
        sender = self._sender
        if self.phase != "synchronized" or sender is None or not sender.done:
            return
        if self._receiver.finished:
            if self._closes_second:
                self._end(0)
            else:
                self.phase = "time-wait"
                if self._keepalive is not None:
                    self._keepalive.stop()
                self._wait_out()
                self.changed()
        elif self._closed and self._last is None:  # nobody is there to wait for its end
            self._wait_out()

    def _wait_out(self) -> None:
        if self._last is not None:
            self._last.cancel()
        self._last = self.host.clock.call_later(_TIME_WAIT, lambda: self._end(0))

    def replaceable_by(self, opening: Packet) -> bool:
        """Whether it is over, and this SYN begins another (RFC 9293 section 3.10.7.4, MAY-2)."""
        beyond = difference(opening.seq, (self._their_first + self._receiver.taken) % MODULUS)
        return self.phase == "time-wait" and beyond > 0
