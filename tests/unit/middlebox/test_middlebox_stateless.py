"""Boxes that know nothing but the packet in hand: black holes and bleach."""

from __future__ import annotations

import struct

import pytest
from box_bench import Bench
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.wire.craft import tcp_segment
from testbed.wire.edit import set_traffic_class
from testbed.wire.flags import ACK, CWR, ECE, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, reverse_key

CE, ECT = 3, 2


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def sized(key: bytes, size: int) -> bytearray:
    head = 40 if len(key) == 12 else 60
    return tcp_segment(key, seq=1, ack=2, flags=ACK, window=3, payload=bytes(size - head))


def ecn(data: bytearray, bits: int) -> bytearray:
    packet = Packet()
    assert packet.load(data, len(data), OUTSIDE)
    set_traffic_class(packet.buffer, 0xB8 | bits)
    return data


def bits_of(data: bytes | bytearray) -> int:
    return data[1] & 3 if data[0] >> 4 == 4 else data[1] >> 4 & 3


# The narrow path


def test_what_fits_passes_and_what_does_not_vanishes(key):
    bench = Bench(("pmtu-black-hole", {"mtu": 1400}))
    assert len(bench.put(OUTSIDE, sized(key, 1400))) == 1
    assert bench.put(OUTSIDE, sized(key, 1401)) == []
    assert bench.put(INSIDE, sized(reverse_key(key), 1500)) == []
    assert bench.dropped == {"too-big": 2}


def test_the_sender_is_told_the_mtu(key):
    bench = Bench(("pmtu-black-hole", {"mtu": 1300, "icmp": "send"}))
    big = sized(key, 1500)
    (error,) = bench.put(OUTSIDE, big)
    assert error.side is OUTSIDE and error.right
    kind, code, _, mtu = struct.unpack_from("!BBHI", error.transport)
    assert (kind, code) == ((3, 4) if error.version == 4 else (2, 0))
    assert mtu == 1300
    quoted = error.transport[8:]
    transport = 20 if error.version == 4 else 40
    assert quoted[transport : transport + 8] == big[transport : transport + 8]
    width = (len(key) - 4) // 2
    assert error.key[:width] == key[width : 2 * width]  # from where the packet was going
    assert error.key[width : 2 * width] == key[:width]


def test_what_may_be_fragmented_passes():
    bench = Bench(("pmtu-black-hole", {}))
    data = sized(IPV4_KEY, 1500)
    data[6] &= ~0x40
    assert len(bench.put(OUTSIDE, data)) == 1
    assert bench.pipeline.functions["pmtu-black-hole"].counters == {"fragmentable": 1}


def test_no_error_about_an_error_or_to_nobody():
    bench = Bench(("pmtu-black-hole", {"mtu": 68, "icmp": "send"}))
    packet = Packet()
    data = sized(IPV4_KEY, 500)
    assert packet.load(data, len(data), OUTSIDE)
    assert bench.put(OUTSIDE, icmp_error(packet, 3, 1, source=bytes((10, 0, 0, 9)))) == []
    assert bench.put(OUTSIDE, sized(bytes(4) + IPV4_KEY[4:], 500)) == []
    assert len(bench.put(OUTSIDE, sized(IPV4_KEY, 500))) == 1
    assert bench.dropped == {"too-big": 3}


def test_the_mtu_is_set_while_traffic_runs(key):
    bench = Bench(("pmtu-black-hole", {"mtu": 1400}))
    assert bench.put(OUTSIDE, sized(key, 1450)) == []
    bench.pipeline.set_options("pmtu-black-hole", {"mtu": 1450})
    assert len(bench.put(OUTSIDE, sized(key, 1450))) == 1
    bench.pipeline.switch("pmtu-black-hole", False)
    assert len(bench.put(OUTSIDE, sized(key, 1500))) == 1


# Bleach


@pytest.mark.parametrize(
    ("bits", "field", "flags"),
    [("ip", 0, SYN | ECE | CWR), ("tcp", CE, SYN), ("both", 0, SYN)],
)
def test_only_the_bits_asked_for_are_cleared(key, bits, field, flags):
    bench = Bench(("ecn-bleach", {"bits": bits}))
    data = ecn(tcp_segment(key, seq=1, flags=SYN | ECE | CWR, options=LINUX.encode()), CE)
    (seen,) = bench.put(OUTSIDE, data)
    assert seen.right and seen.flags == flags and bits_of(seen.data) == field
    dscp = Packet()
    assert dscp.load(seen.data, len(seen.data), OUTSIDE)
    assert (seen.data[0] << 8 | seen.data[1]) & 0xF0 << (4 if seen.version == 6 else 0)


def test_marks_and_capability_are_counted_apart(key):
    bench = Bench(("ecn-bleach", {}))
    for bits in (0, 1, ECT, CE):
        (seen,) = bench.put(OUTSIDE, ecn(sized(key, 100), bits))
        assert bits_of(seen.data) == 0 and seen.right
    assert bench.pipeline.functions["ecn-bleach"].counters == {"capable": 2, "marks": 1}


def test_the_accurate_ecn_flag_goes_too(key):
    bench = Bench(("ecn-bleach", {"bits": "tcp"}))
    data = tcp_segment(key, seq=1, flags=SYN)
    packet = Packet()
    assert packet.load(data, len(data), OUTSIDE)
    data[packet.transport + 12] |= 1
    packet.fill_checksum()
    (seen,) = bench.put(OUTSIDE, data)
    assert seen.transport[12] & 1 == 0 and seen.flags == SYN and seen.right


def test_it_bleaches_one_direction_only(key):
    bench = Bench(("ecn-bleach", {"direction": "outward"}))
    (there,) = bench.put(OUTSIDE, ecn(sized(key, 100), ECT))
    (back,) = bench.put(INSIDE, ecn(sized(reverse_key(key), 100), ECT))
    assert (bits_of(there.data), bits_of(back.data)) == (ECT, 0)


def test_a_syn_that_asks_for_ecn_is_lost_and_no_other(key):
    bench = Bench(("ecn-black-hole", {}))
    for flags, passes in (
        (SYN | ECE | CWR, False),
        (SYN, True),
        (SYN | ECE, True),
        (SYN | ACK | ECE, True),
        (ACK | ECE | CWR, True),
    ):
        data = ecn(tcp_segment(key, seq=1, ack=1, flags=flags), ECT)
        assert bool(bench.put(OUTSIDE, data)) is passes
    assert bench.dropped == {"ecn-setup": 1}


def test_all_that_is_ecn_capable_is_lost(key):
    bench = Bench(("ecn-black-hole", {"drop": "capable"}))
    passed = [bool(bench.put(OUTSIDE, ecn(sized(key, 100), bits))) for bits in range(4)]
    assert passed == [True, False, False, False]
    bench.pipeline.set_options("ecn-black-hole", {"drop": "none"})
    assert bench.put(OUTSIDE, ecn(sized(key, 100), CE))
