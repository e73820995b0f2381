"""What each side of a connection may send, by what the other has said (netfilter's rules).

Source: G. van Rooij, Real Stateful TCP Packet Filtering in IP Filter (2000), as in the kernel's
nf_conntrack_proto_tcp.c, tcp_in_window(); the names there are in brackets. A segment may begin no
further than the window that was announced and end no further back than a window, and it
acknowledges nothing that was not sent and nothing that is long past.

A SYN on a known connection passes untested, since the client may have lost its state (RFC 9293
section 3.5.1): the answer tells which end is wrong. A SYN/ACK or reset that acknowledges the SYN
passes too, and the SYN/ACK begins the windows anew.

Different from the kernel on purpose: what the kernel since 6.1 lets pass without taking it in
(data up to one window too far, segments and acknowledgements that are too old) is dropped, as by
kernels before; another SYN before the first data begins anew whatever its number; connections
whose handshake was not seen do not get here; resets are tested like other segments, and not
against the highest acknowledgement [td_maxack].
"""

from __future__ import annotations

from typing import Final

from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import PLAIN_TIMESTAMPS, SACK, HandshakeOptions, sack_blocks
from testbed.wire.packet import Packet, Side
from testbed.wire.sequence import MODULUS, is_after

_LEAST_ACK_WINDOW: Final = 66000  # how far back an old acknowledgement may lie (MAXACKWINCONST)


class _Sender:
    """One side.

    known: whether it has sent a SYN.
    begun: whether it has sent anything else.
    end: behind the last byte sent [td_end].
    most: where the window ends that it may fill [td_maxend].
    widest: the widest window that it has announced itself, in bytes [td_maxwin].
    scale: its window scale, None where it named none [td_scale].
    takes_sack: whether it permits SACK [IP_CT_TCP_FLAG_SACK_PERM].
    """

    __slots__ = ("begun", "end", "known", "most", "scale", "takes_sack", "widest")

    def __init__(self) -> None:
        self.known = self.begun = False
        self.end = self.most = 0
        self.widest = 1
        self.scale: int | None = None
        self.takes_sack = False

    def begin(self, packet: Packet, end: int) -> None:
        """Start with a SYN that ends before the sequence number `end` [tcp_init_sender]."""
        options = HandshakeOptions.of(packet.options())
        self.known, self.end, self.most = True, end, end
        self.widest = max(packet.window, 1)
        self.scale, self.takes_sack = options.window_scale, options.sack


class Windows:
    """The windows of one connection, both ways. Every segment must be shown, in order.

    _renewed: a sender as its newest untested SYN describes it, and its side.
    """

    __slots__ = ("_renewed", "_senders")

    def __init__(self) -> None:
        self._senders = [_Sender(), _Sender()]
        self._renewed: tuple[Side, _Sender] | None = None

    def accepts(self, packet: Packet) -> bool:
        """Whether a TCP segment may be; what it says is taken in if so."""
        flags, seq = packet.flags, packet.seq
        if flags & (SYN | RST) and self._answers_renewal(packet, flags):
            return True
        sender, receiver = self._senders[packet.side], self._senders[packet.side.other]
        size = packet.end - packet.payload + bool(flags & SYN) + bool(flags & FIN)
        end = (seq + size) % MODULUS
        if flags & SYN and not sender.begun:
            sender.begin(packet, end)
        elif flags & (SYN | ACK) == SYN:
            renewed = _Sender()
            renewed.begin(packet, end)
            self._renewed = packet.side, renewed
            return True
        elif not sender.known:
            if not flags & RST:
                return False
            sender.end = sender.most = end  # a refusal is as good as what it acknowledges
        if not receiver.known:
            return True
        if not flags & ACK or (flags & RST and not packet.ack):
            latest = acked = receiver.end
        else:
            acked = packet.ack
            latest = _latest(packet, acked) if receiver.takes_sack else acked
        if (
            is_after(seq, sender.most)
            or is_after(latest, receiver.end)
            or is_after(sender.end - receiver.widest, end)
            or is_after(receiver.end - max(_LEAST_ACK_WINDOW, sender.widest), latest)
        ):
            return False
        sender.begun = sender.begun or not flags & SYN
        window = packet.window
        if sender.scale and receiver.scale is not None and not flags & SYN:
            window <<= sender.scale
        sender.widest = max(sender.widest, window + (latest - acked) % MODULUS)
        if is_after(end, sender.end):
            sender.end = end
        if is_after(end, sender.most):
            receiver.widest += (end - sender.most) % MODULUS
        most = (latest + max(window, 1)) % MODULUS
        if is_after(most, receiver.most):
            receiver.most = most
        return True

    def _answers_renewal(self, packet: Packet, flags: int) -> bool:
        """Whether the untested SYN is acknowledged; if by a SYN/ACK, the windows begin anew."""
        if self._renewed is None or not flags & ACK:
            return False
        side, renewed = self._renewed
        if packet.side is side or packet.ack != renewed.end:
            return False
        if flags & RST:
            return True
        self._renewed = None
        self._senders[side] = renewed
        self._senders[side.other] = answering = _Sender()
        answering.begin(packet, (packet.seq + 1 + packet.end - packet.payload) % MODULUS)
        renewed.most = (renewed.end + max(packet.window, 1)) % MODULUS
        return True


def _latest(packet: Packet, acked: int) -> int:
    """The highest number that an acknowledgement speaks of, SACK blocks included [tcp_sack]."""
    latest, at = acked, packet.transport + 20
    if packet.buffer[at : at + 4] == PLAIN_TIMESTAMPS and packet.payload == at + 12:
        return latest
    for kind, at, size in packet.walk_options():
        if kind == SACK:
            for _, right in sack_blocks(packet.buffer, at, size):
                latest = right if is_after(right, latest) else latest
    return latest
