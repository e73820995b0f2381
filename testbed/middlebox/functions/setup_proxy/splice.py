"""Two TCP handshakes made into one connection: what differs between them is translated.

The client's sequence numbers are used on both legs. The server's differ by a constant, because
the proxy answered the client before it knew the server's: in segments from the server the
sequence number moves, in segments from the client the acknowledgement and every SACK block. The
two legs may also differ in timestamp clock, window scale, MSS and in the options agreed on.
"""

from __future__ import annotations

import struct
from typing import Final

from testbed.wire.checksum import adjusted
from testbed.wire.edit import add_to_field, replace_bytes, set_length
from testbed.wire.flags import ACK, FIN, PSH, SYN, URG
from testbed.wire.options import (
    LEAST_MSS,
    NOP,
    PLAIN_TIMESTAMPS,
    SACK,
    TIMESTAMPS,
    HandshakeOptions,
)
from testbed.wire.packet import Packet
from testbed.wire.sequence import MASK, MODULUS

_LARGEST_WINDOW: Final = 0xFFFF
_NO_OPTIONS: Final = 0x50  # the data offset byte of a header of 20 bytes
_TIMESTAMPS_ONLY: Final = 0x80

_fields = struct.Struct("!IIBBHH")  # from the sequence number to the checksum
_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")


class Splice:
    """The translation of one connection, for packets whose transport is TCP.

    shift: what the client sees added to the server's sequence numbers, modulo 2**32.
    clients_scale: the client's own window scale. offered: what the proxy's SYN/ACK promised the
    client. agreed: what the server's SYN/ACK promised the proxy. Both hold no option that was not
    asked for, and an MSS each. `cuts` tells whether the client's segments may need `pieces`.
    """

    __slots__ = (
        "_clock_shift",
        "_drop_sack",
        "_drop_timestamps",
        "_options_matter",
        "_room",
        "_scale_down",
        "_scale_up",
        "cuts",
        "shift",
    )

    def __init__(
        self,
        shift: int,
        clients_scale: int | None,
        offered: HandshakeOptions,
        agreed: HandshakeOptions,
    ) -> None:
        self.shift = shift % MODULUS
        self._clock_shift = 0
        if offered.timestamps and agreed.timestamps:
            self._clock_shift = (offered.timestamps[0] - agreed.timestamps[0]) % MODULUS
        self._drop_timestamps = bool(offered.timestamps and not agreed.timestamps)
        self._drop_sack = offered.sack and not agreed.sack
        self._options_matter = bool(self._clock_shift or self._drop_timestamps or offered.sack)
        # By how much a window is shifted left on its way down to the client and up to the server.
        # A leg on which no scale was agreed has scale 0, both ways (RFC 7323 section 2.2).
        self._scale_down = (agreed.window_scale or 0) - (offered.window_scale or 0)
        self._scale_up = 0
        if offered.window_scale is not None and agreed.window_scale is None:
            self._scale_up = clients_scale or 0
        offered_mss, agreed_mss = offered.mss or 0, max(agreed.mss or 0, LEAST_MSS)
        self._room = agreed_mss
        self.cuts = offered_mss > agreed_mss

    def to_client(self, packet: Packet) -> None:
        """Translate a segment of the server in place."""
        buffer, tcp = packet.buffer, packet.transport
        seq, ack, offset, flags, window, checksum = _fields.unpack_from(buffer, tcp + 4)
        moved = (seq + self.shift) & MASK
        delta = moved - seq
        if self._scale_down and not flags & SYN:
            scaled = _scaled(window, self._scale_down)
            delta += scaled - window
            window = scaled
        if self._clock_shift and offset > _NO_OPTIONS:
            at = self._timestamps_at(packet, offset)
            if at:
                delta += add_to_field(buffer, at + 2, self._clock_shift, tcp)
        checksum = adjusted(checksum, delta)
        _fields.pack_into(buffer, tcp + 4, moved, ack, offset, flags, window, checksum)

    def to_server(self, packet: Packet) -> None:
        """Translate a segment of the client in place."""
        buffer, tcp = packet.buffer, packet.transport
        seq, ack, offset, flags, window, checksum = _fields.unpack_from(buffer, tcp + 4)
        delta = 0
        if flags & ACK:
            moved = (ack - self.shift) & MASK
            delta = moved - ack
            ack = moved
        if self._scale_up and not flags & SYN:
            scaled = _scaled(window, self._scale_up)
            delta += scaled - window
            window = scaled
        if self._options_matter and offset > _NO_OPTIONS:
            delta += self._options_to_server(packet, offset, flags)
        checksum = adjusted(checksum, delta)
        _fields.pack_into(buffer, tcp + 4, seq, ack, offset, flags, window, checksum)

    def _timestamps_at(self, packet: Packet, offset: int) -> int:
        """Where the timestamps option is; 0 where there is none."""
        at = packet.transport + 20
        if offset == _TIMESTAMPS_ONLY and packet.buffer[at : at + 4] == PLAIN_TIMESTAMPS:
            return at + 2
        for kind, at, size in packet.walk_options():
            if kind == TIMESTAMPS and size == 10:
                return at
        return 0

    def _options_to_server(self, packet: Packet, offset: int, flags: int) -> int:
        """Translate timestamps and SACK blocks; what that adds to the checksummed words."""
        buffer, tcp = packet.buffer, packet.transport
        echoes = flags & ACK
        plain = offset == _TIMESTAMPS_ONLY and not self._drop_timestamps
        if plain and buffer[tcp + 20 : tcp + 24] == PLAIN_TIMESTAMPS:
            return add_to_field(buffer, tcp + 28, -self._clock_shift, tcp) if echoes else 0
        delta = 0
        for kind, at, size in packet.walk_options():
            if kind == TIMESTAMPS:
                if self._drop_timestamps:
                    delta += replace_bytes(buffer, at, bytes((NOP,)) * size, tcp)
                elif size == 10 and echoes:
                    delta += add_to_field(buffer, at + 6, -self._clock_shift, tcp)
            elif kind == SACK:
                if self._drop_sack:
                    delta += replace_bytes(buffer, at, bytes((NOP,)) * size, tcp)
                    continue
                for edge in range(at + 2, at + size - 3, 4):
                    delta += add_to_field(buffer, edge, -self.shift, tcp)
        return delta

    def pieces(self, packet: Packet) -> list[bytearray]:
        """The segment cut to the server's MSS; nothing where it fits.

        The client was promised an MSS before the server had named its own. The checksum must be
        right: the pieces get new ones.
        """
        if not self.cuts:
            return []
        start, end = packet.payload, packet.end
        room = self._room - (start - packet.transport - 20)
        if end - start <= room:
            return []
        return [_piece(packet, at, min(at + room, end)) for at in range(start, end, room)]


def _scaled(window: int, by: int) -> int:
    """The window shifted left by `by`, never more than the field holds, never a promise more."""
    return min(window << by, _LARGEST_WINDOW) if by >= 0 else window >> -by


def _piece(packet: Packet, start: int, end: int) -> bytearray:
    """The headers of `packet` with the part `buffer[start:end]` of its payload."""
    piece = packet.buffer[: packet.payload] + packet.buffer[start:end]
    tcp = packet.transport
    _u32.pack_into(piece, tcp + 4, (packet.seq + start - packet.payload) & MASK)
    if end < packet.end:
        piece[tcp + 13] &= ~(FIN | PSH)
    if piece[tcp + 13] & URG:  # the pointer counts from the sequence number
        urgent = _u16.unpack_from(piece, tcp + 18)[0] - (start - packet.payload)
        _u16.pack_into(piece, tcp + 18, max(urgent, 0))
        if urgent <= 0:
            piece[tcp + 13] &= ~URG
    set_length(piece, len(piece))
    view = Packet()
    view.load(piece, len(piece), packet.side)
    view.fill_checksum()
    return piece
