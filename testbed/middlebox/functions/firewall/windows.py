"""What each side of a connection may send, by what the other has said (netfilter's rules).

Source: G. van Rooij, Real Stateful TCP Packet Filtering in IP Filter (2000), as in the kernel's
nf_conntrack_proto_tcp.c, tcp_in_window(); the names there are in brackets. A segment may begin no
further than the window that was announced and end no further back than a window, and it
acknowledges nothing that was not sent and nothing that is long past.
"""

from __future__ import annotations

from typing import Final

from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import PLAIN_TIMESTAMPS, SACK, HandshakeOptions, sack_blocks
from testbed.wire.packet import Packet
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
    """

    __slots__ = ("begun", "end", "known", "most", "scale", "widest")

    def __init__(self) -> None:
        self.known = self.begun = False
        self.end = self.most = 0
        self.widest = 1
        self.scale: int | None = None


class Windows:
    """The windows of one connection, both ways. Every segment must be shown, in order."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders = (_Sender(), _Sender())

    def accepts(self, packet: Packet) -> bool:
        """Whether a TCP segment may be; what it says is taken in if so."""
        sender, receiver = self._senders[packet.side], self._senders[packet.side.other]
        flags, seq = packet.flags, packet.seq
        size = packet.end - packet.payload + bool(flags & SYN) + bool(flags & FIN)
        end = (seq + size) % MODULUS
        if flags & SYN and not sender.begun:
            sender.known, sender.end, sender.most = True, end, end
            sender.widest = max(packet.window, 1)
            sender.scale = HandshakeOptions.of(packet.options()).window_scale
        elif not sender.known:
            return False
        if not receiver.known:
            return True
        if not flags & ACK or (flags & RST and not packet.ack):
            latest = acked = receiver.end
        else:
            acked = packet.ack
            latest = _latest(packet, acked)
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
