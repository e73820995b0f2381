"""File formats: what is read from a sound file, and how a damaged one is refused."""

from __future__ import annotations

import gzip
import io
import mmap
import os
import re
import struct
import tracemalloc

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter

from testbed.errors import TraceError
from testbed.trace import read_trace
from testbed.trace.frames import MAX_FRAME
from testbed.trace.pcap import CaptureFile

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

FRAME = bytes(Ether(**MACS) / IP() / TCP(sport=1, dport=2, seq=7) / b"hello")
TIME = 1_700_000_000_123_456_789


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("nano", "expected"), [(True, TIME), (False, TIME // 1000 * 1000)])
def test_pcap_in_both_byte_orders_and_units(read, pcap, order, nano, expected):
    trace = read(pcap([(TIME, FRAME)], order=order, nano=nano))
    assert [(s.time, s.seq, s.payload) for s in trace.segments] == [(expected, 7, b"hello")]
    assert trace.capture.interfaces[0].ticks_per_second == (10**9 if nano else 10**6)
    assert (trace.start, trace.end, trace.packets, trace.truncated) == (
        expected,
        expected,
        1,
        False,
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("resolution", "offset", "ticks", "expected"),
    [
        (None, 0, TIME // 1000, TIME // 1000 * 1000),
        (9, 0, TIME, TIME),
        (3, 0, TIME // 10**6, TIME // 10**6 * 10**6),
        (0x80 | 10, 0, 1024 * 5 + 512, 5_500_000_000),
        (9, 1_600_000_000, 42, 1_600_000_000_000_000_042),
    ],
)
def test_pcapng_time_resolutions(read, pcapng, order, resolution, offset, ticks, expected):
    file = pcapng(order)
    file.interface(resolution=resolution, offset=offset)
    file.packet(ticks, FRAME)
    trace = read(file.data)
    assert [s.time for s in trace.segments] == [expected]
    assert trace.capture.format == "pcapng"
    assert trace.capture.interfaces[0].name == "eth0"


def test_pcapng_sections_interfaces_and_every_packet_block(read, pcapng):
    file = pcapng("<")
    file.block(0xBAD, b"unknown blocks are skipped")
    file.interface(resolution=6)
    file.interface(link=101, resolution=9)
    file.packet(1_000_000, FRAME)
    file.packet(2_000_000_000, FRAME[14:], interface=1)
    file.simple_packet(FRAME)
    file.section(">")
    file.interface(link=101, resolution=9)
    file.obsolete_packet(4_000_000_000, FRAME[14:])
    trace = read(file.data)
    # The simple packet has no time stamp of its own and takes the one before it.
    assert [s.time for s in trace.segments] == [10**9, 2 * 10**9, 2 * 10**9, 4 * 10**9]
    assert [s.payload for s in trace.segments] == [b"hello"] * 4
    assert [i.link_type for i in trace.capture.interfaces] == [1, 101, 101]


def test_pcapng_of_another_writer(tmp_path):
    path = tmp_path / "scapy.pcapng"
    with PcapNgWriter(str(path)) as writer:
        writer.write(Ether(FRAME))
    assert [s.payload for s in read_trace(path).segments] == [b"hello"]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_cut_off_end_keeps_the_good_part(read, pcap, pcapng, form):
    if form == "pcap":
        data = pcap([(TIME, FRAME)] * 3)
    else:
        file = pcapng()
        file.interface()
        for _ in range(3):
            file.packet(1, FRAME)
        data = file.data
    for missing in (1, 10, len(FRAME)):
        trace = read(data[:-missing])
        assert (len(trace.segments), trace.truncated) == (2, True)
    assert not read(data).truncated


def test_an_empty_capture_is_a_trace_without_segments(read, pcap):
    trace = read(pcap([]))
    assert (trace.segments, trace.connections, trace.start, trace.end) == ((), (), None, None)


def test_what_is_not_tcp_is_counted(read, pcap):
    trace = read(
        pcap([(TIME, bytes(Ether(**MACS) / IP() / UDP())), (TIME, b"\0" * 60), (TIME, b"")])
    )
    assert (trace.packets, trace.other, trace.malformed) == (3, 2, 1)
    assert (trace.others, trace.unread) == ({"LLC": 1, "UDP": 1}, {})


@pytest.mark.parametrize("claim", [0xFFFFFFFF, 4 << 20, MAX_FRAME + 1])
def test_lying_lengths_are_told_with_the_offset_and_allocate_nothing(read, pcap, pcapng, claim):
    record = struct.pack("<IIII", 0, 0, claim, claim)
    block = struct.pack("<II", 6, 0xFFFFFFFC) + bytes(40)
    whole = pcap([(TIME, FRAME)])
    file = pcapng()
    file.interface()
    file.packet(1, FRAME)
    tracemalloc.start()
    trace = read(whole + record + bytes(100))
    assert trace.damage == f"damaged at byte {len(whole)}: a record claims {claim} captured bytes"
    assert (len(trace.segments), trace.truncated) == (1, False)
    trace = read(file.data + block)
    assert trace.damage.startswith(f"damaged at byte {len(file.data)}: a block of type 0x6 claims")
    assert (len(trace.segments), trace.truncated) == (1, False)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_long_record_is_none_of_a_capture_with_a_larger_snap_length(read, pcap):
    jumbo = FRAME + bytes(MAX_FRAME)
    trace = read(pcap([(TIME, jumbo), (TIME, FRAME)], snap=2 * MAX_FRAME))
    assert (trace.packets, trace.damage) == (2, "")


def test_a_damaged_middle_keeps_what_is_before_it(read, pcap):
    data = bytearray(pcap([(TIME, FRAME)] * 9))
    at = 24 + 4 * (16 + len(FRAME))
    data[at : at + 200] = b"\xee" * 200
    trace = read(bytes(data))
    assert (len(trace.segments), trace.packets) == (4, 4)
    assert trace.damage.startswith(f"damaged at byte {at}: ")


def test_a_large_block_that_is_no_packet_is_no_damage(read, pcapng):
    file = pcapng()
    file.block(10, struct.pack("<II", 0x544C534B, 17 << 20) + bytes(17 << 20))  # TLS secrets
    file.interface()
    file.packet(1, FRAME)
    trace = read(file.data)
    assert (len(trace.segments), trace.damage) == (1, "")


@pytest.mark.parametrize("order", "<>")
def test_drop_counters_are_told(read, pcapng, order):
    def option(code, value):
        return struct.pack(f"{order}HHQ", code, 8, value)

    file = pcapng(order)
    file.interface()
    file.interface()
    numbers = 0, 0, 1, len(FRAME), len(FRAME)
    packet = struct.pack(f"{order}IIIII", *numbers) + FRAME + bytes(-len(FRAME) % 4)
    file.block(6, packet + struct.pack(f"{order}HHI", 2, 4, 1) + option(4, 20) + bytes(4))
    file.block(6, packet + option(4, 1) + bytes(4))
    for drops in (900, 1000):  # counted from the beginning each time
        file.block(5, struct.pack(f"{order}III", 1, 0, 1) + option(5, drops) + option(7, 3))
    trace = read(file.data)
    assert (len(trace.segments), trace.capture.lost, trace.damage) == (2, 21 + 1003, "")


def _damage(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_damaged_pcapng_structure_names_the_offset(read, pcapng):
    file = pcapng()
    file.interface()
    start = len(file.data)
    file.packet(1, FRAME)
    data = file.data
    cases = [
        (_damage(data, start + 4, b"\x09\0\0\0"), start, "claims 9 bytes"),
        (_damage(data, len(data) - 4, b"\0\0\0\0"), len(data) - 4, "does not end with its length"),
        (_damage(data, start + 8, b"\x05\0\0\0"), start, "interface 5, but only 1"),
        (_damage(data, start + 20, b"\xff\xff\xff\x7f"), start, "captured bytes"),
        (_damage(data, 8, b"\0\0\0\0"), 8, "byte order magic"),
        (_damage(data, 12, b"\x09\0"), 12, "version 1"),
    ]
    for damaged, offset, what in cases:
        if offset < 20:  # before anything that can be read
            with pytest.raises(TraceError, match=f"byte {offset}: .*{what}.*Nothing can be read"):
                read(damaged)
        else:
            assert re.match(f"damaged at byte {offset}: .*{what}", read(damaged).damage)


def test_pcap_header_faults(read, pcap):
    data = pcap([])
    with pytest.raises(TraceError, match=r"byte 0: the pcap header has 24 bytes, found 10"):
        read(data[:10])
    with pytest.raises(TraceError, match=r"byte 4: expected pcap version 2\.4, found 9\.4"):
        read(_damage(data, 4, b"\x09\0"))


def test_files_that_are_no_captures(read, tmp_path):
    for content in (gzip.compress(b""), b"abc", b"#!/bin/sh\n"):
        with pytest.raises(TraceError, match="not a capture file"):
            read(content)
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_trace(tmp_path / "absent.pcap")
    with pytest.raises(TraceError, match="expected a regular file"):
        read_trace(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceError, match="expected a regular file"):
        read_trace(tmp_path / "pipe")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace("a\0b")


def test_a_large_file_is_mapped_and_reads_the_same(read, pcap, monkeypatch):
    frames = [(TIME + number, FRAME) for number in range(3)]
    copied = read(pcap(frames))
    monkeypatch.setattr("testbed.trace.source._MAPPED_FROM", 0)
    mapped = read(pcap(frames))
    assert isinstance(CaptureFile(mapped.path).data, mmap.mmap)
    assert [(s.time, s.seq, s.payload, s.raw_options) for s in mapped.segments] == [
        (s.time, s.seq, s.payload, s.raw_options) for s in copied.segments
    ]


def test_an_empty_file_is_refused_whichever_way_it_is_read(read, monkeypatch):
    monkeypatch.setattr("testbed.trace.source._MAPPED_FROM", 0)
    with pytest.raises(TraceError, match=r"nothing is in it yet.*capture\.flush\(\)"):
        read(b"")
    with pytest.raises(TraceError, match="nothing is in it yet"):
        read_trace(io.BytesIO())
