"""File formats: what is read from a sound file, and how a damaged one is refused."""

from __future__ import annotations

import mmap
import os
import struct
import tracemalloc

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter

from testbed.errors import TraceError
from testbed.trace import read_trace
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


def test_lying_lengths_are_refused_with_file_and_offset_and_allocate_nothing(read, pcap, pcapng):
    record = struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    block = struct.pack("<II", 6, 0xFFFFFFFC) + bytes(40)
    section = pcapng().data
    tracemalloc.start()
    with pytest.raises(TraceError, match=r"a\.pcap: damaged at byte 24: .*4294967295 captured"):
        read(pcap([]) + record + bytes(100))
    with pytest.raises(TraceError, match=r"damaged at byte 28: .*claims 4294967292 bytes"):
        read(section + block)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


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
        with pytest.raises(TraceError, match=f"byte {offset}: .*{what}"):
            read(damaged)


def test_pcap_header_faults(read, pcap):
    data = pcap([])
    with pytest.raises(TraceError, match=r"byte 0: the pcap header has 24 bytes, found 10"):
        read(data[:10])
    with pytest.raises(TraceError, match=r"byte 4: expected pcap version 2\.4, found 9\.4"):
        read(_damage(data, 4, b"\x09\0"))


def test_files_that_are_no_captures(read, tmp_path):
    for content in (b"", b"abc", b"#!/bin/sh\n"):
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
    monkeypatch.setattr("testbed.trace.pcap._MAPPED_FROM", 0)
    mapped = read(pcap(frames))
    assert isinstance(CaptureFile(mapped.path).data, mmap.mmap)
    assert [(s.time, s.seq, s.payload, s.raw_options) for s in mapped.segments] == [
        (s.time, s.seq, s.payload, s.raw_options) for s in copied.segments
    ]


def test_an_empty_file_is_refused_whichever_way_it_is_read(read, monkeypatch):
    monkeypatch.setattr("testbed.trace.pcap._MAPPED_FROM", 0)
    with pytest.raises(TraceError):
        read(b"")
