"""Frames read many at a time by numpy mean what they mean one by one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import PcapNgWriter

from testbed.trace import Trace, read_trace
from testbed.trace.frames import Frames
from testbed.trace.pcapng import Pcapng
from testbed.trace.table import SegmentTable, table_of
from testbed.trace.table.decoding import Decoder
from testbed.trace.table.flows import FlowCache, Flows

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
TIMESTAMPS = ("Timestamp", (5, 6))
OPTIONS = st.lists(
    st.sampled_from(
        [
            ("MSS", 1460), ("WScale", 14), ("SAckOK", b""), TIMESTAMPS, ("NOP", None),
            ("SAck", (1, 2)), ("SAck", (1, 2, 3, 4)), (34, b"cookie"), (30, b"ab"),
            ("EOL", None),
        ]
    ),
    max_size=4,
)  # fmt: skip


@st.composite
def frames(draw) -> bytes:
    """Common and odd packets, cut off and with bits flipped at times."""
    tcp = TCP(
        sport=draw(st.integers(1, 3)),
        dport=draw(st.integers(1, 3)),
        seq=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.sampled_from(["S", "SA", "A", "PA", "FA", "R", "SEC"])),
        options=draw(OPTIONS),
    )
    network: Packet = draw(
        st.sampled_from(
            [
                IP(src="10.0.0.1", dst="10.0.0.2"), IP(src="10.0.0.2", dst="10.0.0.1", tos=3),
                IP(src="10.0.0.1", dst="10.0.0.1"), IP(options=b"\x01\x01\x01\x00", id=7),
                IP(flags="MF"), IP(frag=9), IP(len=0), IPv6(src="::1", dst="::2", tc=2),
                IPv6(src="::2", dst="::1"), IPv6() / IPv6ExtHdrHopByHop(), IP() / IP(ttl=3),
                IP() / UDP(dport=4789) / (b"\x08" + bytes(7)) / Ether(**MACS) / IP(src="1.1.1.1"),
            ]
        )
    )  # fmt: skip
    tags = draw(st.sampled_from([(), (Dot1Q(vlan=5),), (Dot1Q(vlan=0),)]))
    packet: Packet = Ether(**MACS)
    for tag in tags:
        packet = packet / tag
    frame = bytearray(bytes(packet / network / tcp / bytes(draw(st.integers(0, 30)))))
    for _ in range(draw(st.integers(0, 2))):
        frame[draw(st.integers(12, min(len(frame) - 1, 90)))] ^= 1 << draw(st.integers(0, 7))
    return bytes(frame)


def carefully(source: Path) -> Trace:
    """The trace, with no frame and no block taken for a common one."""

    def find_none(_, some):
        count = len(some)
        return np.zeros(count, np.uint16), some.start, np.zeros(count, np.uint16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "_network_layer", find_none)
        patch.setattr(Pcapng, "_sound_packets", lambda _: Frames.of([]))
        return read_trace(source)


def assert_alike(one: SegmentTable, other: SegmentTable) -> None:
    for name, column in vars(one).items():
        if isinstance(column, np.ndarray):
            assert column.tolist() == getattr(other, name).tolist(), name
            assert column.dtype == getattr(other, name).dtype, name


def objects_of(trace: Trace) -> SegmentTable:
    """The table as its segments tell it, which parse what they are asked for themselves."""
    rows = ((one, each.number, each.is_outward(one)) for each in trace.connections for one in
            each.segments)  # fmt: skip
    return table_of(sorted(rows, key=lambda row: row[0].number))


def counts(trace: Trace) -> tuple[object, ...]:
    return (
        trace.packets, trace.others, trace.unread, trace.malformed, trace.cut, trace.damage,
        trace.start, trace.end, trace.back_in_time,
        [(one.outward, one.guessed, one.ordered, one.ended) for one in trace.connections],
    )  # fmt: skip


def written(path, packets: list[bytes], *, link: int, snap: int, swapped: bool) -> None:
    order = ">" if swapped else "<"
    data = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, link)
    for number, frame in enumerate(packets):
        head = number * 7919 % 10, number, min(snap, len(frame)), len(frame)
        data += struct.pack(f"{order}IIII", *head) + frame[:snap]
    path.write_bytes(data)


@settings(max_examples=100)
@given(
    st.lists(frames(), max_size=12),
    st.sampled_from([1, 101, 113, 276]),
    st.sampled_from([60, 74, 96, 200]),
    st.booleans(),
)
def test_all_frames_mean_the_same_in_both_ways(tmp_path_factory, packets, link, snap, swapped):
    path = tmp_path_factory.mktemp("alike") / "odd.pcap"
    if link != 1:
        packets = [
            frame[14:] if link == 101 else bytes(14) + frame[12:]
            if link == 113 else frame[12:14] + bytes(18) + frame[14:]
            for frame in packets
        ]  # fmt: skip
    written(path, packets, link=link, snap=snap, swapped=swapped)
    together, one_by_one = read_trace(path), carefully(path)
    assert_alike(together.table, one_by_one.table)
    assert_alike(together.table, objects_of(together))
    assert counts(together) == counts(one_by_one)


@settings(max_examples=60)
@given(st.data())
def test_damaged_files_are_read_alike_and_raise_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    packet = Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(options=[TIMESTAMPS])
    if data.draw(st.booleans()):
        written(folder / "a", [bytes(packet)] * 6, link=1, snap=99, swapped=False)
    else:
        with PcapNgWriter(str(folder / "a")) as writer:
            for _ in range(6):
                writer.write(packet)
    content = bytearray((folder / "a").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(48, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a").write_bytes(content[: data.draw(st.integers(60, len(content)))])
    together, one_by_one = read_trace(folder / "a"), carefully(folder / "a")
    assert_alike(together.table, one_by_one.table)
    assert_alike(together.table, objects_of(together))
    assert counts(together) == counts(one_by_one)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_flows_that_share_a_slot_keep_their_numbers(ports):
    flows = Flows()
    cache = FlowCache(flows, 2)
    cache._factors = [np.uint64(0)] * 2  # all flows in one slot
    for part in (ports[::2], ports):
        keys = [bytes(8) + bytes((0, port, 0, 80)) for port in part]
        words = (
            np.zeros(len(part), np.uint64),
            np.array([int.from_bytes(key[8:], "little") for key in keys], np.uint64),
        )
        found = cache.numbers(words, [(key, ()) for key in keys].__getitem__)
        assert found.tolist() == [flows.number(key) for key in keys]


def test_many_flows_find_their_numbers():
    flows = Flows()
    cache = FlowCache(flows, 2)
    numbers = np.arange(20_000, dtype=np.uint64)

    def key_of(row):
        return int(numbers[row % 20_000]).to_bytes(8, "little") + b"\0\1\0\2", ()

    found = cache.numbers((numbers, numbers), key_of)
    assert found.tolist() == [flows.number(*key_of(row)) for row in range(20_000)]
    asked: list[int] = []

    def ask(row):
        asked.append(row)
        return key_of(row)

    assert cache.numbers((numbers, numbers), ask).tolist() == found.tolist()
    assert len(asked) < 10_000  # those whose slot another one has
