"""A text log as a capture: the headers that its lines tell of, in a pcap file in memory.

What the text leaves out is filled in as follows. An acknowledgment without a sequence number has
the sender's next one. A missing acknowledgment is of all that the other side has sent. A missing
window is the one before, or 65,535. Names of hosts become addresses of documentation (RFC 5737),
services their ports. Payload is not there, as behind a short snap length, unless the log has it in
hexadecimal.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

import msgspec

from testbed.errors import TraceError
from testbed.trace.pcap_writing import pcap_header, pcap_record
from testbed.trace.text.line import Name, TextLine
from testbed.trace.text.reading import packets
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.ip import DONT_FRAGMENT, LARGEST, MORE_FRAGMENTS, TCP
from testbed.wire.options import NOP, SACK
from testbed.wire.sequence import MASK, difference

LARGEST_LOG = 64 << 20
"""Bytes of text; a log takes some 20 times that much time and room as a capture of its packets."""

_UNKNOWN_WINDOW = 0xFFFF
_TICK = 1_000  # ns between the packets of a log without times
_RAW = 101  # link type: IP without anything before it
_FIRST_NAMED, _MOST_NAMED = 0xC0000201, 254  # 192.0.2.1


class Transcript(msgspec.Struct, frozen=True):
    """What is to be known of a capture that was made from text.

    names: of hosts, by the address that each has got.
    skipped: lines that are no TCP packets, or not understood.
    timed: the log has times; else packets are a microsecond apart.
    """

    names: Mapping[str, str]
    skipped: int
    timed: bool


def transcribe(text: str) -> tuple[bytes, Transcript]:
    """A pcap file with the packets of a text. Raises TraceError where it has too many hosts."""
    lines: list[TextLine] = []
    skipped = 0
    for one in packets(text):
        if isinstance(one, str):
            skipped += 1
        else:
            lines.append(one)
    writing = _Writing(lines)
    timed = all(line.time is not None for line in lines)
    records = [pcap_header(_RAW)]
    for index, line in enumerate(lines):
        head, size = writing.packet(line)
        time = line.time if timed and line.time is not None else index * _TICK
        records.append(pcap_record(time, head, size))
    return b"".join(records), Transcript(writing.hosts.names, skipped, timed)


class _Hosts:
    """The addresses and ports of names."""

    def __init__(self, lines: Iterable[TextLine]) -> None:
        self._addresses: dict[str, bytes] = {}
        self._ports: dict[str, int] = {}
        self.names: dict[str, str] = {}
        for line in lines:
            if len(line.packet) >= 24 and line.packet[0] == 0x45:  # the bytes tell them
                for name, at in ((line.source, 12), (line.destination, 16)):
                    self._set(name.host, line.packet[at : at + 4])
                ports = struct.unpack_from("!HH", line.packet, 20)
                for name, port in zip((line.source, line.destination), ports, strict=True):
                    self._ports.setdefault(_port_key(name), port)

    def _set(self, host: str, address: bytes) -> bytes:
        known = self._addresses.setdefault(host, address)
        written = str(ip_address(known))
        if written != host:
            self.names[written] = host
        return known

    def address(self, name: Name) -> bytes:
        known = self._addresses.get(name.host)
        if known is not None:
            return known
        try:
            return self._set(name.host, ip_address(name.host.partition("%")[0]).packed)
        except ValueError:
            if len(self.names) >= _MOST_NAMED:
                raise TraceError(
                    f"A text log with more than {_MOST_NAMED} names of hosts cannot be read: print "
                    "it with addresses (tcpdump -n)."
                ) from None
            number = _FIRST_NAMED + len(self.names)
            return self._set(name.host, number.to_bytes(4, "big"))

    def port(self, name: Name) -> int:
        """The number; 0 where none is told."""
        if name.port.isdecimal():
            return int(name.port[:6]) & 0xFFFF
        key = _port_key(name)
        if key not in self._ports:
            self._ports[key] = _service(name.port)
        return self._ports[key]


def _port_key(name: Name) -> str:
    return name.port or f"{name.host}."


def _service(name: str) -> int:
    try:
        return socket.getservbyname(name, "tcp") if name else 0
    except OSError:
        return 0


class _Way:
    """One direction: how its numbers are printed, and where it stands.

    base: what is to be added to printed numbers.
    """

    def __init__(self) -> None:
        self.isn: int | None = None
        self.base: int | None = None
        self.next: int | None = None
        self.window = _UNKNOWN_WINDOW

    def absolute(self, printed: int, *, alone: bool = False) -> int:
        """A printed number as in the header.

        Relative and absolute numbers are told apart by the first one after the SYN; alone: by this
        one, as tcpdump prints resets without ACK always as they are.
        """
        if self.isn is None:
            return printed + (self.base or 0) & MASK
        base = 0 if (printed - self.isn & MASK) < printed else self.isn
        if alone:
            return printed + base & MASK
        if self.base is None:
            self.base = base
        return printed + self.base & MASK

    def reach(self, end: int) -> None:
        if self.next is None or difference(end, self.next) > 0:
            self.next = end


class _Writing:
    """Packets of lines, one after the other."""

    def __init__(self, lines: list[TextLine]) -> None:
        self.hosts = _Hosts(lines)
        self._ways: dict[tuple[Name, Name], _Way] = {}
        for line in lines:
            self._look_ahead(line)
        for line in lines:
            self._find_starts(line)

    def _way(self, source: Name, destination: Name) -> _Way:
        return self._ways.setdefault((source, destination), _Way())

    def _look_ahead(self, line: TextLine) -> None:
        """Initial sequence numbers, and the difference between printed and real numbers."""
        way = self._way(line.source, line.destination)
        if line.packet[:1] == b"\x45" and len(line.packet) >= 40 and line.seq is not None:
            if way.base is None and way.isn is None:
                way.base = struct.unpack_from("!I", line.packet, 24)[0] - line.seq & MASK
        elif line.flags is not None and line.flags & SYN and way.isn is None:
            way.isn = line.seq

    def _find_starts(self, line: TextLine) -> None:
        """Where each direction stands before its first packet with a sequence number."""
        if line.flags is None or line.flags & RST:
            return
        way = self._way(line.source, line.destination)
        back = self._way(line.destination, line.source)
        if way.next is None and line.seq is not None:
            way.next = line.seq if line.flags & SYN else way.absolute(line.seq)
        if back.next is None and line.ack is not None:
            back.next = line.ack if line.flags & SYN else back.absolute(line.ack)

    def packet(self, line: TextLine) -> tuple[bytes, int]:
        """The bytes of a line's packet that are known, and its length on the wire."""
        if line.packet:
            return line.packet, max(len(line.packet), _total_length(line.packet))
        source, destination = self.hosts.address(line.source), self.hosts.address(line.destination)
        if len(source) != len(destination):
            raise TraceError("A packet of a text log has addresses of IPv4 and of IPv6.")
        header = b"" if line.flags is None else self._tcp(line, line.flags)
        payload = line.length if line.fragment is None else line.fragment.size - len(header)
        size = len(header) + max(0, payload)
        if len(source) == 16:
            ip = struct.pack("!IHBB", 6 << 28, min(size, LARGEST), TCP, line.ttl)
            return ip + source + destination + header, 40 + size
        ip = _ipv4(line, size) + source + destination + line.ip_options
        return ip + header, len(ip) + size

    def _tcp(self, line: TextLine, flags: int) -> bytes:
        way = self._way(line.source, line.destination)
        back = self._way(line.destination, line.source)
        seq = way.next or 0
        if line.seq is not None:
            alone = bool(flags & RST)
            seq = line.seq & MASK if flags & SYN else way.absolute(line.seq, alone=alone)
        ack = 0
        if flags & ACK:
            ack = back.next or 0
            if line.ack is not None:
                ack = line.ack & MASK if flags & SYN else back.absolute(line.ack)
        if not flags & RST:
            way.reach(seq + line.length + (flags & FIN) + (flags >> 1 & 1) & MASK)
        if line.window is not None:
            way.window = line.window
        options = line.options
        if line.sack:
            blocks = [back.absolute(edge) for block in line.sack[:4] for edge in block]
            options += bytes((SACK, 2 + 4 * len(blocks)))
            options += struct.pack(f"!{len(blocks)}I", *blocks)
        options = options[:40].ljust(len(options[:40]) + 3 & ~3, bytes([NOP]))
        return (
            struct.pack("!HH", self.hosts.port(line.source), self.hosts.port(line.destination))
            + struct.pack("!IIBBH", seq, ack, 20 + len(options) << 2, flags & 0xFF,
                          min(way.window, 0xFFFF))
            + bytes(4)
            + options
        )  # fmt: skip


def _ipv4(line: TextLine, size: int) -> bytes:
    """The first 12 bytes of the header."""
    length = 20 + len(line.ip_options)
    identification, place = line.identification, 0
    if line.fragment is not None:
        identification = line.fragment.identification
        place = line.fragment.offset // 8 | (MORE_FRAGMENTS if line.fragment.more else 0)
    place |= DONT_FRAGMENT if line.dont_fragment else 0
    return struct.pack(
        "!BBHHHBBH", 0x40 | length // 4, 0, min(length + size, LARGEST), identification, place,
        line.ttl, TCP, 0,
    )  # fmt: skip


def _total_length(packet: bytes) -> int:
    """As an IPv4 header tells it; 0 for another one."""
    return int.from_bytes(packet[2:4], "big") if packet[0] >> 4 == 4 else 0
