"""TCP segments: what a capture shows of one, with everything else parsed on demand."""

from __future__ import annotations

import msgspec

from testbed.trace.source import Buffer
from testbed.wire.checksum import transport_checksum
from testbed.wire.flags import FIN, flag_names
from testbed.wire.ip import ECN_FIELD, TCP
from testbed.wire.options import Options, parse_options


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One end of a connection."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Flow(msgspec.Struct, frozen=True):
    """One direction between two endpoints; all its segments share the one object.

    around: the VLANs and tunnels that it is in, from the outside in; the same both ways,
    save for VLANs where only one direction has tags.
    """

    source: Endpoint
    destination: Endpoint
    around: tuple[str, ...] = ()


class Segment(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One TCP segment in a capture; two segments are equal only when they are the same one.

    number: position of its frame in the file, from 1 (tshark's frame.number).
    time: ns since the epoch.
    seq, ack, window: as in the header; the window is not scaled.
    flags: bits of the TCP header (FIN, SYN, RST, PSH, ACK, URG, ECE, CWR).
    length: payload bytes on the wire; fewer may have been captured.
    interface: where it was captured, as an index into the interfaces of the file.
    fragment: the first fragment of a larger IP packet; `length` counts this fragment only.
    """

    number: int
    time: int
    flow: Flow
    seq: int
    ack: int
    flags: int
    window: int
    length: int
    _data: Buffer
    _header: int
    _end: int
    interface: int = 0
    fragment: bool = False
    _network: int = -1

    @property
    def source(self) -> Endpoint:
        return self.flow.source

    @property
    def destination(self) -> Endpoint:
        return self.flow.destination

    @property
    def position(self) -> int:
        """Of the TCP header in the (decompressed) file, in bytes."""
        return self._header

    @property
    def ip_position(self) -> int:
        """Of the IP header; right before that of TCP unless something else was told."""
        return self._header - 20 if self._network < 0 else self._network

    @property
    def ip_identification(self) -> int | None:
        """The identification of its IPv4 packet; None for IPv6."""
        data, at = self._data, self.ip_position
        return data[at + 4] << 8 | data[at + 5] if data[at] >> 4 == 4 else None

    @property
    def hops_left(self) -> int:
        """Time to live (IPv4) or hop limit (IPv6)."""
        data, at = self._data, self.ip_position
        return data[at + (8 if data[at] >> 4 == 4 else 7)]

    @property
    def ecn(self) -> int:
        """The two bits of the IP header about congestion (RFC 3168 section 5)."""
        data, at = self._data, self.ip_position
        if data[at] >> 4 == 4:
            return data[at + 1] & ECN_FIELD
        return data[at + 1] >> 4 & ECN_FIELD

    @property
    def ip_header_length(self) -> int:
        """Bytes from the IP header to that of TCP, options and extension headers included."""
        return self._header - self.ip_position

    @property
    def checksum_holds(self) -> bool | None:
        """Whether the checksum of TCP is right; None where not all of the segment was captured."""
        data, at = self._data, self.ip_position
        if self.captured < self.length or self.fragment or self._end < self._header + 20:
            return None
        addresses = data[at + 12 : at + 20] if data[at] >> 4 == 4 else data[at + 8 : at + 40]
        return transport_checksum(TCP, addresses, data[self._header : self._end]) == 0

    @property
    def header_length(self) -> int:
        """Length of the TCP header in bytes, options included."""
        return self._data[self._header + 12] >> 2 & 0x3C

    @property
    def header_cut(self) -> int:
        """Bytes of the TCP header that the snap length cut."""
        return max(0, self._header + self.header_length - self._end)

    @property
    def captured(self) -> int:
        """Payload bytes that are in the file; fewer than `length` where the snap length cut."""
        return max(0, self._end - self._header - self.header_length)

    @property
    def payload(self) -> bytes:
        """The captured payload."""
        return self._data[self._header + self.header_length : self._end]

    @property
    def raw_options(self) -> bytes:
        """The option bytes as captured."""
        end = min(self._header + self.header_length, self._end)
        return self._data[self._header + 20 : end]

    @property
    def options(self) -> Options:
        """The TCP options, parsed anew at every call."""
        return parse_options(self.raw_options)

    @property
    def span(self) -> int:
        """Length in sequence space: payload, and one each for SYN and FIN (RFC 9293, 3.4)."""
        return self.length + (self.flags & FIN) + (self.flags >> 1 & FIN)

    @property
    def flag_names(self) -> str:
        """The flags in words: `SYN ACK`."""
        return flag_names(self.flags)

    def __repr__(self) -> str:
        return (
            f"<Segment {self.number} {self.source} > {self.destination} {self.flag_names} "
            f"seq={self.seq} ack={self.ack} len={self.length}>"
        )
