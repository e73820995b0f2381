"""TCP options beside scapy, at every damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, LINUX, loaded
from scapy.layers.inet import TCP

from testbed.wire.craft import syn, tcp_segment
from testbed.wire.flags import SYN
from testbed.wire.options import (
    HandshakeOptions,
    Options,
    option_name,
    parse_options,
    sack_blocks,
    walk,
)

U32 = st.integers(0, 2**32 - 1)
KNOWN = st.one_of(
    st.tuples(st.just("MSS"), st.integers(0, 65535)),
    st.tuples(st.just("WScale"), st.integers(0, 255)),
    st.just(("SAckOK", b"")),
    st.tuples(st.just("Timestamp"), st.tuples(U32, U32)),
    st.tuples(st.just("SAck"), st.tuples(U32, U32)),
    st.just(("NOP", None)),
    st.tuples(st.integers(35, 250), st.binary(max_size=4)),
)


@given(st.lists(KNOWN, max_size=4))
def test_options_are_read_as_scapy_wrote_them(options):
    header = bytes(TCP(options=options))
    found, wrote = parse_options(header, 20, len(header)), dict(options)
    assert found.mss == wrote.get("MSS")
    assert found.window_scale == wrote.get("WScale")
    assert found.timestamps == wrote.get("Timestamp")
    assert found.sack_permitted == ("SAckOK" in wrote)
    assert found.sack == ((wrote["SAck"],) if "SAck" in wrote else ())
    assert found.unknown == tuple((k, v) for k, v in options if isinstance(k, int))
    assert not found.malformed


@given(st.binary(max_size=45), st.integers(0, 5))
def test_any_bytes_are_walked_through_and_parsed_without_failing(raw, start):
    at = start
    for kind, position, size in walk(raw, start, len(raw)):
        assert kind == raw[position] and position >= at and size >= 2
        at = position + size
        assert at <= len(raw)
        assert 8 * len(list(sack_blocks(raw, position, size))) <= size
    assert parse_options(raw, start) == parse_options(raw[start:])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", Options()),
        (b"\x02\x04\x05\xb4", Options(mss=1460)),
        (b"\x02\x03\x05", Options(unknown=((2, b"\x05"),))),
        (b"\x01\x00\x02\x04\x05\xb4", Options()),
        (b"\x22\x02", Options(fast_open=b"")),
        (b"\x03\x03\x07\x08", Options(window_scale=7, malformed=True)),
        (b"\x08\x00", Options(malformed=True)),
        (b"\x01\x01\x08", Options(malformed=True)),
        (b"\x05\x0b\0\0\0\0\0\0\0\0\0", Options(unknown=((5, bytes(9)),))),
        (b"\x05\x02", Options(unknown=((5, b""),))),
    ],
)
def test_odd_option_lists(raw, expected):
    assert parse_options(raw) == expected


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"\x01\x01\x02\x04\x05\xb4", [2]),
        (b"\x04\x02\x00\x03\x03\x07", [4]),
        (b"\x02\x00\x04\x02", []),
        (b"\x02\x01\x04\x02", []),
        (b"\x04\x02\x02\x28", [4]),
        (b"\x04\x02\x01\x05", [4]),
        (b"\xff\x04\x00\x00\x04\x02", [255, 4]),
    ],
)
def test_options_are_walked_up_to_the_first_impossible_one(data, seen):
    assert [kind for kind, _, _ in walk(data, 0, len(data))] == seen


def test_a_packet_ends_its_options_with_its_header():
    packet = loaded(tcp_segment(IPV4_KEY, seq=0, flags=SYN, options=b"\1\1\4\2", payload=b"\4\2"))
    assert [kind for kind, _, _ in packet.walk_options()] == [4]
    assert packet.options() == Options(sack_permitted=True)


def test_handshake_options_survive_encoding():
    for options in (
        LINUX,
        HandshakeOptions(),
        HandshakeOptions(mss=536, sack=True),
        HandshakeOptions(window_scale=0, timestamps=(1, 2)),
    ):
        data = syn(IPV4_KEY, seq=1, window=1, options=options)
        assert HandshakeOptions.of(loaded(data).options()) == options
    assert HandshakeOptions.of(Options(window_scale=255)).window_scale == 14  # RFC 7323 2.3


def test_options_of_a_wrong_length_count_as_missing():
    data = b"\x02\x03\x05\x03\x04\x07\x00\x08\x04\x00\x00\x04\x03\x00\x01\x01"
    assert HandshakeOptions.of(parse_options(data)) == HandshakeOptions()


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (b"\x02\x04\x05\xb4", "mss"),
        (b"\x03\x03\x07\x01", "window-scale"),
        (b"\x04\x02\x01\x01", "sack"),
        (b"\x05\x0a" + bytes(10), "sack"),
        (b"\x08\x0a" + bytes(10), "timestamps"),
        (b"\x22\x02\x01\x01", "tfo"),
        (b"\xfe\x04\xf9\x89", "tfo"),
        (b"\xfd\x04\xf9\x89", "tfo"),
        (b"\xfe\x04\x12\x34", "unknown"),
        (b"\xfe\x02\x01\x01", "unknown"),
        (b"\x1e\x04\x00\x00", "mptcp"),
        (b"\x13\x04\x00\x00", "unknown"),
    ],
)
def test_options_have_names(option, name):
    assert option_name(option, *next(walk(option, 0, len(option)))) == name
