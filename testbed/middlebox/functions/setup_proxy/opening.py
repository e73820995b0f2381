"""A connection that a setup proxy is opening: what it knows, and the segments it sends.

The client leg is the proxy's handshake with the client, the server leg the one with the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from testbed.middlebox import (
    Flow,
    Timer,
)
from testbed.middlebox.functions.setup_proxy.splice import Splice
from testbed.wire.craft import bare_ack, reset, syn, syn_ack
from testbed.wire.flags import FIN
from testbed.wire.options import ASSUMED_MSS, HandshakeOptions
from testbed.wire.packet import OUTSIDE, Packet, address_length, reverse_key
from testbed.wire.sequence import MODULUS

ANSWER_WINDOW = 65535  # the most that the proxy's SYN/ACK can offer, in bytes


@dataclass(eq=False, slots=True, kw_only=True)
class Opening(Flow):
    """Both legs until they are up.

    key: of packets from the client.
    client_isn: the client's first sequence number, used on both legs.
    proxy_isn: the proxy's own on the client leg.
    client: the options of the client's SYN.
    offered: those of the answer to it.
    window: the client's, in bytes.
    serial: whether the server is called when the client leg is up.
    deadline: when both legs have to be up, in seconds of the box's clock.
    answer_window: the window of the answer, in bytes.
    client_up: whether the client has acknowledged the answer.
    server_called: whether the server was sent a SYN.
    server_isn: the server's first sequence number.
    server_window: the window of the server's answer, as it stands in the header.
    server_sent: bytes of the server that went through to the client already.
    server_ended: whether the server has sent a FIN already.
    agreed: the options of the server's answer, as far as they were asked for.
    splice: the translation, once the server leg is up.
    held: whole packets of the client that wait for that, by sequence number.
    held_bytes: their size.
    interval: seconds until the next retransmission.
    timer: what waits for it.
    """

    key: bytes
    client_isn: int
    proxy_isn: int
    client: HandshakeOptions
    offered: HandshakeOptions
    window: int
    serial: bool
    deadline: float
    answer_window: int = ANSWER_WINDOW
    client_up: bool = False
    server_called: bool = False
    server_isn: int | None = None
    server_window: int = 0
    server_sent: int = 0
    server_ended: bool = False
    agreed: HandshakeOptions = field(default_factory=HandshakeOptions)
    splice: Splice | None = None
    held: dict[int, bytearray] = field(default_factory=dict)
    held_bytes: int = 0
    interval: float = 1.0
    timer: Timer | None = None

    @property
    def server_key(self) -> bytes:
        return reverse_key(self.key)

    @property
    def first_data(self) -> int:
        """The sequence number of the client's first byte."""
        return (self.client_isn + 1) % MODULUS

    def answer(self) -> bytearray:
        """The SYN/ACK for the client, the same every time: a later one must not look newer."""
        return syn_ack(
            self.server_key,
            seq=self.proxy_isn,
            ack=self.first_data,
            window=self.answer_window,
            options=self.offered,
        )

    def call(self, mss: int) -> bytearray:
        """The SYN for the server, with what both the client and the proxy can do.

        mss: the largest that the path to the client carries.
        """
        stamp = self.client.timestamps if self.offered.timestamps else None
        scale = self.client.window_scale if self.offered.window_scale is not None else None
        return syn(
            self.key,
            seq=self.client_isn,
            window=min(self.window, 0xFFFF),
            options=HandshakeOptions(
                mss=min(mss, self.clients_mss),
                window_scale=scale,
                sack=self.offered.sack,
                timestamps=(stamp[0], 0) if stamp else None,
            ),
        )

    @property
    def clients_mss(self) -> int:
        return self.client.mss if self.client.mss is not None else ASSUMED_MSS[self.version]

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if address_length(self.key) == 4 else 6

    def server_answered(self, packet: Packet) -> None:
        """Take in the server's SYN/ACK: from now on the legs can be spliced."""
        found, asked = HandshakeOptions.of(packet.options()), self.offered
        self.server_isn = packet.seq
        self.server_window = packet.window
        self.agreed = HandshakeOptions(
            mss=found.mss if found.mss is not None else ASSUMED_MSS[self.version],
            window_scale=found.window_scale if asked.window_scale is not None else None,
            sack=found.sack and asked.sack,
            timestamps=found.timestamps if asked.timestamps else None,
        )
        self.splice = Splice(
            self.proxy_isn - self.server_isn, self.client.window_scale, asked, self.agreed
        )

    def acknowledgement(self) -> bytearray:
        """The ACK that completes the server leg."""
        assert self.server_isn is not None
        scale = (self.client.window_scale or 0) if self.agreed.window_scale is not None else 0
        stamps = None
        if self.agreed.timestamps and self.client.timestamps:
            stamps = (self.client.timestamps[0], self.agreed.timestamps[0])
        return bare_ack(
            self.key,
            seq=self.first_data,
            ack=self.server_isn + 1,
            window=min(self.window >> scale, 0xFFFF),
            timestamps=stamps,
        )

    def window_update(self) -> bytearray:
        """The ACK that opens for the client the window that the server has offered."""
        return self._for_client(self.server_window)

    def challenge(self) -> bytearray:
        """The ACK for a reset that is not exactly where it should be (RFC 5961 section 3.2)."""
        return self._for_client(self.answer_window)

    def _for_client(self, window: int) -> bytearray:
        """An ACK with a window, given in bytes."""
        stamps = None
        if self.offered.timestamps and self.client.timestamps:
            stamps = (self.offered.timestamps[0], self.client.timestamps[0])
        return bare_ack(
            self.server_key,
            seq=self.proxy_isn + 1,
            ack=self.first_data,
            window=window >> (self.offered.window_scale or 0),
            timestamps=stamps,
        )

    def reset_for_client(self) -> bytearray:
        """Refuses the client whether or not it has seen the proxy's SYN/ACK."""
        return reset(self.server_key, seq=self.proxy_isn + 1, ack=self.first_data)

    def reset_for_server(self) -> bytearray:
        """Takes the call back; only before the server was sent any data."""
        ack = None if self.server_isn is None else self.server_isn + 1
        return reset(self.key, seq=self.first_data, ack=ack)

    @property
    def next_data(self) -> int:
        """The sequence number behind what the client has sent without a gap, as far as held."""
        at = self.first_data
        while at in self.held:
            at = (at + segment_size(self.held[at])) % MODULUS
        return at

    def server_says(self, packet: Packet) -> bool:
        """Take in a segment of the server; whether it begins at most where the last one ended."""
        assert self.server_isn is not None
        start = (packet.seq - self.server_isn - 1) % MODULUS
        if start > self.server_sent:
            return False
        self.server_sent = max(self.server_sent, start + packet.end - packet.payload)
        return True

    def client_said(self, packet: Packet) -> None:
        """Remember the window and the clock of a segment of the client other than its SYN."""
        scale = (self.client.window_scale or 0) if self.offered.window_scale is not None else 0
        self.window = packet.window << scale
        found = HandshakeOptions.of(packet.options())
        if found.timestamps:
            self.client = msgspec.structs.replace(self.client, timestamps=found.timestamps)


def segment_size(data: bytearray) -> int:
    """The bytes of sequence space of a whole packet's data and FIN."""
    packet = Packet()
    packet.load(data, len(data), OUTSIDE)
    return packet.end - packet.payload + (packet.flags & FIN)
