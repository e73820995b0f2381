"""What each side of a connection may send, by what the other has said (netfilter's rules).

Source: G. van Rooij, Real Stateful TCP Packet Filtering in IP Filter (2000), as in the kernel's
nf_conntrack_proto_tcp.c, tcp_in_window(): a segment lies within the window that was announced,
not further back than a window, and acknowledges nothing that was not sent.
"""

from __future__ import annotations

from typing import Final

from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import Packet
from testbed.wire.sequence import MODULUS, is_after

_LEAST_ACK_WINDOW: Final = 66000  # how far back an old acknowledgement may lie (MAXACKWINCONST)


class _Sender:
    """One side. end: after the last byte sent. most: where the window ends that it may fill.
    widest: the widest window that it has announced itself, in bytes."""

    __slots__ = ("end", "known", "most", "scale", "scales", "widest")

    def __init__(self) -> None:
        self.known = False
        self.end = self.most = 0
        self.widest = 1
        self.scale = 0
        self.scales = False


class Windows:
    """The windows of one connection, both ways. Every segment must be shown, in order."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders = (_Sender(), _Sender())

    def accepts(self, packet: Packet) -> bool:
        """Whether a TCP segment may be; what it says is taken in if so."""
        sender, receiver = self._senders[packet.side], self._senders[packet.side.other]
        flags = packet.flags
        size = packet.end - packet.payload + bool(flags & SYN) + bool(flags & FIN)
        start, end = packet.seq, (packet.seq + size) % MODULUS
        if flags & SYN:
            self._take_scale(sender, packet)
            sender.known, sender.end = True, end
            if not receiver.known:
                sender.most = end
        elif not sender.known or not _within(sender, receiver, packet, start, end):
            return False
        if is_after(end, sender.end):
            sender.end = end
        if flags & ACK and not flags & RST:
            self._take_window(sender, receiver, packet)
        return True

    def _take_scale(self, sender: _Sender, packet: Packet) -> None:
        scale = HandshakeOptions.of(packet.options()).window_scale
        sender.scales, sender.scale = scale is not None, scale or 0

    def _take_window(self, sender: _Sender, receiver: _Sender, packet: Packet) -> None:
        scaled = sender.scales and receiver.scales and not packet.flags & SYN
        window = packet.window << (sender.scale if scaled else 0)
        sender.widest = max(sender.widest, window)
        most = (packet.ack + max(window, 1)) % MODULUS
        if is_after(most, receiver.most) or packet.flags & SYN:
            receiver.most = most


def _within(sender: _Sender, receiver: _Sender, packet: Packet, start: int, end: int) -> bool:
    if receiver.known and (
        is_after(end, sender.most) or is_after((sender.end - receiver.widest) % MODULUS, start)
    ):
        return False
    if not packet.flags & ACK or not receiver.known:
        return True
    oldest = receiver.end - max(_LEAST_ACK_WINDOW, sender.widest)
    return not is_after(packet.ack, receiver.end) and not is_after(oldest % MODULUS, packet.ack)
