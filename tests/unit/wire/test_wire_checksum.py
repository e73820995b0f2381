"""Checksums beside scapy, and followed wherever the data changes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import word_sum
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from testbed.wire.checksum import (
    adjust_checksum,
    adjust_udp_checksum,
    adjusted,
    difference_at,
    internet_checksum,
    ones_complement_sum,
    transport_checksum,
)

ADDRESSES = {IP: bytes((10, 0, 0, 1, 10, 0, 0, 2)), IPv6: bytes(15) + b"\1" + bytes(15) + b"\2"}


@given(st.binary(max_size=70))
def test_the_sum_is_that_of_the_words(data):
    assert ones_complement_sum(data) == word_sum(data)
    assert internet_checksum(data) == scapy_checksum(data)


@given(st.sampled_from([IP, IPv6]), st.binary(max_size=40))
def test_a_transport_checksum_is_that_of_scapy(version, payload):
    names = ("10.0.0.1", "10.0.0.2") if version is IP else ("::1", "::2")
    packet = version(src=names[0], dst=names[1]) / UDP(sport=9, dport=99) / Raw(payload)
    segment = bytearray(bytes(version(bytes(packet))[UDP]))
    (expected,) = struct.unpack_from("!H", segment, 6)
    assert transport_checksum(17, ADDRESSES[version], segment) in (0, 0xFFFF)
    segment[6:8] = bytes(2)
    assert (transport_checksum(17, ADDRESSES[version], segment) or 0xFFFF) == expected


def test_an_echo_reply_of_nothing_but_zeros_has_a_checksum():
    assert transport_checksum(1, b"", bytes(8)) == 0xFFFF == scapy_checksum(bytes(8))


@given(
    st.binary(min_size=22, max_size=60),
    st.integers(4, 50),
    st.binary(min_size=1, max_size=9),
)
def test_an_adjusted_checksum_is_the_computed_one(data, at, new):
    """At any distance and length; also where RFC 1141 went wrong (RFC 1624 section 3)."""
    buffer = bytearray(data[:2] + b"\0\0" + data[4:])
    struct.pack_into("!H", buffer, 2, internet_checksum(buffer))
    new = new[: max(len(buffer) - at, 0)]
    delta = difference_at(at, new, buffer[at : at + len(new)])
    buffer[at : at + len(new)] = new
    adjust_checksum(buffer, 2, delta)
    found = bytes(buffer)
    buffer[2:4] = b"\0\0"
    if any(buffer):
        struct.pack_into("!H", buffer, 2, internet_checksum(buffer))
        assert found == bytes(buffer)


@given(st.integers(0, 0xFFFF), st.integers(-(2**130), 2**130))
def test_a_change_and_its_opposite_leave_the_checksum_as_it_was(checksum, delta):
    back = adjusted(adjusted(checksum, delta), -delta)
    assert back == checksum % 0xFFFF


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0xFFFF), (7, 6)])
def test_no_udp_checksum_stays_none_and_none_comes_out_by_chance(before, after):
    buffer = bytearray(before.to_bytes(2, "big"))
    adjust_udp_checksum(buffer, 0, 1)
    assert int.from_bytes(buffer, "big") == after
