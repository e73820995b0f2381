"""Each translation on its own: take one away and its test fails."""

from __future__ import annotations

import struct

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Dialogue
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, checksums_are_right, loaded

from testbed.middlebox.functions.setup_proxy.splice import Splice
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN, URG
from testbed.wire.icmp import icmp_error
from testbed.wire.ip import TCP
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

M = 0xFFFFFFFF
FIRST = (CLIENT_ISN + 1) & M


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def spliced(
    key: bytes = IPV4_KEY,
    client: HandshakeOptions = LINUX,
    server: HandshakeOptions = LINUX_SERVER,
    **options: object,
) -> Dialogue:
    talk = Dialogue(Bench(("setup-proxy", options)), key, client)
    talk.open(server)
    return talk


def timestamps(value: int, echo: int) -> bytes:
    return b"\x01\x01\x08\x0a" + struct.pack("!II", value & M, echo & M)


def test_sequence_numbers_of_the_server_move_and_its_acknowledgements_stay(key):
    talk = spliced(key)
    (packet,) = talk.from_server(seq=SERVER_ISN + 101, ack=FIRST + 9, flags=ACK, payload=b"abc")
    assert packet.side is OUTSIDE and packet.right and packet.payload == b"abc"
    assert packet.seq == (talk.proxy_isn + 101) & M
    assert packet.ack == (FIRST + 9) & M


def test_acknowledgements_of_the_client_move_and_its_sequence_numbers_stay(key):
    talk = spliced(key)
    (packet,) = talk.from_client(seq=FIRST + 7, ack=talk.proxy_isn + 50, flags=ACK, payload=b"x")
    assert packet.side is INSIDE and packet.right
    assert (packet.seq, packet.ack) == ((FIRST + 7) & M, SERVER_ISN + 50)


def test_a_reset_of_the_client_without_acknowledgement_stays_as_it_is():
    talk = spliced()
    (packet,) = talk.from_client(seq=FIRST, flags=RST)
    assert packet.ack == 0 and packet.right


@pytest.mark.parametrize("flags", [RST, RST | ACK, FIN | ACK])
def test_resets_and_ends_of_the_server_are_translated(key, flags):
    talk = spliced(key)
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=flags)
    assert packet.flags == flags and packet.seq == (talk.proxy_isn + 1) & M and packet.right


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_sack_blocks_of_the_client_move(key, padding):
    talk = spliced(key)
    edges = [10, 20, 30, 45]
    options = b"\x01" * padding + b"\x05\x12"
    options += b"".join(struct.pack("!I", (talk.proxy_isn + edge) & M) for edge in edges)
    options += b"\0" * (-len(options) % 4)
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, options=options)
    assert struct.unpack("!4I", packet.options[5]) == tuple(SERVER_ISN + edge for edge in edges)
    assert packet.right


def test_sack_blocks_beside_timestamps_move():
    talk = spliced()
    block = struct.pack("!II", (talk.proxy_isn + 10) & M, (talk.proxy_isn + 20) & M)
    clock = talk._proxy_clock()
    options = timestamps(2000, clock + 5) + b"\x01\x01\x05\x0a" + block
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, options=options)
    assert struct.unpack("!II", packet.options[5]) == (SERVER_ISN + 10, SERVER_ISN + 20)
    assert struct.unpack("!II", packet.options[8]) == (2000, 777005)
    assert packet.right


def test_sack_blocks_of_the_server_stay():
    talk = spliced()
    options = b"\x01\x01\x05\x0a" + struct.pack("!II", 5, 6)
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, options=options)
    assert struct.unpack("!II", packet.options[5]) == (5, 6)


@pytest.mark.parametrize("layout", ["plain", "odd", "last"])
def test_timestamps_of_the_server_move_to_the_proxys_clock_and_back(key, layout):
    talk = spliced(key)
    clock = int(1000.0 * 1000) & M
    places = {
        "plain": lambda stamps: b"\x01\x01\x08\x0a" + stamps,
        "odd": lambda stamps: b"\x01\x08\x0a" + stamps + b"\x01",
        "last": lambda stamps: b"\x08\x0a" + stamps + b"\x00\x00",
    }
    stamps = places[layout](struct.pack("!II", 777000 + 30, 1234))
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, options=stamps)
    assert struct.unpack("!II", packet.options[8]) == (clock + 30, 1234)
    assert packet.right
    stamps = places[layout](struct.pack("!II", 1300, clock + 30))
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, options=stamps)
    assert struct.unpack("!II", packet.options[8]) == (1300, 777000 + 30)
    assert packet.right


def test_timestamps_the_server_did_not_agree_to_are_blanked():
    talk = spliced(server=HandshakeOptions(mss=1460, window_scale=7, sack=True))
    (packet,) = talk.from_client(
        seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, options=timestamps(1, 2), payload=b"x"
    )
    assert packet.options == {} and packet.payload == b"x" and packet.right


def test_sack_the_server_did_not_agree_to_is_blanked():
    talk = spliced(server=HandshakeOptions(mss=1460, window_scale=7, timestamps=(777000, 1000)))
    options = timestamps(1, 2) + b"\x01\x01\x05\x0a" + bytes(8)
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, options=options)
    assert set(packet.options) == {8} and packet.right


@pytest.mark.parametrize(
    ("servers", "sent", "seen"),
    [
        (7, 500, 500),
        (9, 500, 2000),
        (9, 60000, 65535),
        (2, 65535, 65535 >> 5),
        (None, 65535, 65535 >> 7),
    ],
)
def test_windows_of_the_server_are_scaled_as_the_client_was_told(servers, sent, seen):
    talk = spliced(
        server=HandshakeOptions(
            mss=1460, window_scale=servers, sack=True, timestamps=(777000, 1000)
        )
    )
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, window=sent)
    assert packet.window == seen and packet.right


def test_windows_of_the_server_without_scaling_towards_the_client():
    talk = spliced(client=HandshakeOptions(mss=1460))
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, window=4321)
    assert packet.window == 4321


@pytest.mark.parametrize(("servers", "seen"), [(7, 300), (9, 300), (None, 300 << 7)])
def test_windows_of_the_client_are_scaled_as_the_server_was_told(servers, seen):
    talk = spliced(server=HandshakeOptions(mss=1460, window_scale=servers))
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, window=300)
    assert packet.window == seen and packet.right


def test_window_of_the_acknowledgement_where_the_server_does_not_scale():
    talk = Dialogue(Bench(("setup-proxy", {})))
    talk.syn()
    talk.third(window=400)
    (ack,) = talk.syn_ack(HandshakeOptions(mss=1460))
    assert ack.window == 400 << 7 and ack.options == {}


@pytest.mark.parametrize("key", [IPV4_KEY, IPV6_KEY])
def test_segments_above_the_servers_mss_are_cut(key):
    talk = spliced(key, server=HandshakeOptions(mss=500, timestamps=(777000, 1000)))
    payload = bytes(range(256)) * 5
    seen = talk.from_client(
        seq=FIRST,
        ack=talk.proxy_isn + 1,
        flags=ACK | PSH | FIN,
        options=timestamps(1, talk._proxy_clock()),
        payload=payload,
    )
    assert [len(packet.payload) for packet in seen] == [488, 488, 1280 - 976]
    assert b"".join(packet.payload for packet in seen) == payload
    assert [packet.seq for packet in seen] == [(FIRST + at) & M for at in (0, 488, 976)]
    assert [packet.flags for packet in seen] == [ACK, ACK, ACK | PSH | FIN]
    for packet in seen:
        assert packet.right and packet.side is INSIDE and packet.ack == SERVER_ISN + 1
        assert struct.unpack("!II", packet.options[8]) == (1, 777000)


@pytest.mark.parametrize("urgent", [1, 536, 537, 1400, 3000])
def test_every_piece_points_at_the_same_urgent_byte_until_that_is_past(urgent):
    """RFC 9293 section 3.8.5: the pointer counts from the segment's sequence number."""
    talk = Dialogue(Bench(("setup-proxy", {})), client=HandshakeOptions(mss=1460))
    talk.open(HandshakeOptions(mss=536))
    data = tcp_segment(
        talk.key, seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK | URG, payload=bytes(1400)
    )
    struct.pack_into("!H", data, 38, urgent)
    packet = loaded(data)
    packet.fill_checksum()
    pieces = talk.bench.put(OUTSIDE, packet.copy())
    assert [len(piece.payload) for piece in pieces] == [536, 536, 328]
    for piece, at in zip(pieces, (0, 536, 1072), strict=True):
        (pointer,) = struct.unpack_from("!H", piece.transport, 18)
        assert piece.right and bool(piece.flags & URG) is (urgent > at)
        assert pointer == max(urgent - at, 0)


def test_held_segments_above_the_servers_mss_are_cut():
    talk = Dialogue(Bench(("setup-proxy", {})), client=HandshakeOptions(mss=1460))
    talk.syn()
    talk.third(payload=bytes(1000))
    seen = talk.syn_ack(HandshakeOptions(mss=400))
    assert [len(packet.payload) for packet in seen] == [0, 400, 400, 200]
    assert all(packet.right for packet in seen)


def test_a_segment_that_was_damaged_is_not_cut_into_sound_pieces():
    talk = spliced(server=HandshakeOptions(mss=500))
    segment = tcp_segment(
        IPV4_KEY, seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, payload=bytes(1000)
    )
    segment[-1] ^= 1
    assert talk.bench.put(OUTSIDE, segment) == []
    assert talk.bench.dropped == {"bad-checksum": 1}


@pytest.mark.parametrize("key", [IPV4_KEY, IPV6_KEY])
def test_an_icmp_error_to_the_server_quotes_what_the_server_has_sent(key):
    """Without this, path MTU discovery of the server fails: it ignores what it never sent."""
    talk = spliced(key)
    (segment,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, payload=bytes(1200))
    kind = (3, 4) if key is IPV4_KEY else (2, 0)
    source = segment.key[-20:-4] if key is IPV6_KEY else segment.key[4:8]
    error = icmp_error(loaded(segment.data, INSIDE), *kind, source=source, value=1300)
    (packet,) = talk.bench.put(OUTSIDE, error)
    quoted = packet.transport[8 + (20 if key is IPV4_KEY else 40) :]
    assert packet.side is INSIDE and packet.right
    assert struct.unpack_from("!I", quoted, 4)[0] == SERVER_ISN + 1


def test_an_icmp_error_to_the_client_stays_as_it_is():
    talk = spliced()
    (segment,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, payload=b"x")
    error = icmp_error(loaded(segment.data), 3, 4, source=IPV4_KEY[4:8], value=1300)
    (packet,) = talk.bench.put(INSIDE, error)
    assert packet.side is OUTSIDE and packet.transport == bytes(error[20:])


options_strategy = st.builds(
    HandshakeOptions,
    mss=st.integers(0, 65535),
    window_scale=st.none() | st.integers(0, 14),
    sack=st.booleans(),
    timestamps=st.none() | st.tuples(st.integers(0, M), st.integers(0, M)),
)


@given(
    shift=st.integers(0, M),
    scale=st.integers(0, 14),
    offered=options_strategy,
    agreed=options_strategy,
    seq=st.integers(0, M),
    ack=st.integers(0, M),
    flags=st.sampled_from([ACK, ACK | PSH, RST, RST | ACK, FIN | ACK, 0, SYN]),
    window=st.integers(0, 65535),
    options=st.binary(max_size=40),
    payload=st.binary(max_size=20),
    damage=st.booleans(),
    six=st.booleans(),
)
def test_a_checksum_stays_right_or_wrong(
    shift, scale, offered, agreed, seq, ack, flags, window, options, payload, damage, six
):
    splice = Splice(shift, scale, offered, agreed)
    options = options[: len(options) // 4 * 4]
    for key, side, translate in (
        (IPV6_KEY if six else IPV4_KEY, OUTSIDE, splice.to_server),
        (reverse_key(IPV6_KEY if six else IPV4_KEY), INSIDE, splice.to_client),
    ):
        data = tcp_segment(
            key, seq=seq, ack=ack, flags=flags, window=window, options=options, payload=payload
        )
        if damage:
            data[41 if six else 21] ^= 1  # a port
        packet = loaded(data, side)
        assert packet.protocol == TCP
        translate(packet)
        assert checksums_are_right(packet.buffer) is not damage
