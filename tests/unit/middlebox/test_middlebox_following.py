"""Boxes that follow connections: sequence numbers, resets, acknowledgements."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Seen
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, loaded

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

MODULUS = 1 << 32
STAMPS = HandshakeOptions(timestamps=(5, 6)).encode()


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


class Ends:
    """Two ends that know each other's numbers as they see them through the box."""

    def __init__(self, bench: Bench, key: bytes) -> None:
        self.bench, self.key = bench, key

    def out(self, seq: int, ack: int, flags: int = ACK, **fields: Any) -> list[Seen]:
        """From the client."""
        data = tcp_segment(
            self.key, **{"window": 500, **fields}, seq=seq % MODULUS, ack=ack % MODULUS, flags=flags
        )
        return self.bench.put(OUTSIDE, data)

    def back(self, seq: int, ack: int, flags: int = ACK, **fields: Any) -> list[Seen]:
        """From the server."""
        data = tcp_segment(
            reverse_key(self.key),
            **{"window": 500, **fields},
            seq=seq % MODULUS,
            ack=ack % MODULUS,
            flags=flags,
        )
        return self.bench.put(INSIDE, data)

    def open(self) -> tuple[int, int]:
        """A handshake; the client's ISN as the server sees it, the server's as the client does."""
        (syn,) = self.out(CLIENT_ISN, 0, SYN, options=LINUX.encode())
        (answer,) = self.back(
            SERVER_ISN, syn.seq + 1, SYN | ACK, options=LINUX_SERVER.encode(), window=65160
        )
        self.out(CLIENT_ISN + 1, answer.seq + 1)
        assert syn.right and answer.right and answer.ack == CLIENT_ISN + 1
        return syn.seq, answer.seq


def counters(bench: Bench, name: str) -> dict[str, int]:
    function = bench.pipeline.functions[name]
    return dict(function.counters) | function.gauges()


# The sequence randomiser


def test_both_ends_see_other_numbers_that_hang_together(key):
    ends = Ends(Bench(("sequence-randomiser", {})), key)
    client, server = ends.open()
    assert client != CLIENT_ISN and server != SERVER_ISN
    (data,) = ends.out(CLIENT_ISN + 1, server + 1, payload=b"abc", options=STAMPS)
    assert data.seq == (client + 1) % MODULUS and data.ack == SERVER_ISN + 1 and data.right
    (answer,) = ends.back(SERVER_ISN + 1, client + 4, payload=b"de")
    assert answer.seq == (server + 1) % MODULUS and answer.ack == (CLIENT_ISN + 4) % MODULUS
    (end,) = ends.back(SERVER_ISN + 3, client + 4, RST | ACK)
    assert end.seq == (server + 3) % MODULUS and end.right


@pytest.mark.parametrize("translates", [True, False])
def test_sack_blocks_are_translated_or_left(key, translates):
    bench = Bench(("sequence-randomiser", {"translate_sack": translates}))
    ends = Ends(bench, key)
    client, _ = ends.open()
    edges = [(client + distance) % MODULUS for distance in (10, 20, 30, 40)]
    block = b"\x01\x05\x12" + struct.pack("!4I", *edges) + b"\x01"  # an odd position
    (seen,) = ends.back(SERVER_ISN + 1, client + 5, options=block)
    expected = [(CLIENT_ISN + distance) % MODULUS for distance in (10, 20, 30, 40)]
    assert list(struct.unpack("!4I", seen.options[5])) == (expected if translates else edges)
    assert seen.right
    assert counters(bench, "sequence-randomiser").get("blocks-left", 0) == (not translates)


def test_only_the_side_asked_for_is_randomised(key):
    client, server = Ends(Bench(("sequence-randomiser", {"direction": "outward"})), key).open()
    assert client == CLIENT_ISN and server != SERVER_ISN


def test_errors_quote_what_their_receiver_has_sent(key):
    bench = Bench(("sequence-randomiser", {}))
    client, _ = Ends(bench, key).open()
    travelled = loaded(tcp_segment(key, seq=(client + 9) % MODULUS, ack=1, flags=ACK))
    source = bytes(range(1, 5)) if len(key) == 12 else bytes(range(1, 17))
    (error,) = bench.put(
        INSIDE, icmp_error(travelled, 3 if len(key) == 12 else 1, 1, source=source)
    )
    at = 8 + (20 if len(key) == 12 else 40) + 4
    assert struct.unpack_from("!I", error.transport, at) == ((CLIENT_ISN + 9) % MODULUS,)
    assert error.right


def test_what_it_has_begun_it_carries_on_when_switched_off(key):
    bench = Bench(("sequence-randomiser", {}))
    ends = Ends(bench, key)
    client, server = ends.open()
    bench.pipeline.switch("sequence-randomiser", False)
    (data,) = ends.out(CLIENT_ISN + 1, server + 1, payload=b"abc")
    assert data.seq == (client + 1) % MODULUS
    other = Ends(bench, key[:-4] + struct.pack("!HH", 41000, 80))
    assert other.open() == (CLIENT_ISN, SERVER_ISN)


def test_the_ports_of_a_closed_connection_are_used_again_with_other_numbers(key):
    bench = Bench(("sequence-randomiser", {}))
    ends = Ends(bench, key)
    client, server = ends.open()
    ends.out(CLIENT_ISN + 1, server + 1, FIN | ACK)
    assert ends.open()[0] == client  # half closed: still the same
    ends.back(SERVER_ISN + 1, client + 2, FIN | ACK)
    again, _ = ends.open()
    assert again != client
    bench.wait(10_000)
    assert counters(bench, "sequence-randomiser")["now-randomised"] == 0
    assert len(bench.timers) == 0


def test_closed_connections_are_forgotten_after_a_minute(key):
    bench = Bench(("sequence-randomiser", {}))
    ends = Ends(bench, key)
    client, server = ends.open()
    ends.out(CLIENT_ISN + 1, server + 1, RST)
    bench.wait(50)
    assert ends.back(SERVER_ISN + 1, client + 1)[0].seq == (server + 1) % MODULUS  # not believed
    bench.wait(100)
    assert counters(bench, "sequence-randomiser")["now-randomised"] == 1  # so it goes on
    ends.out(CLIENT_ISN + 1, server + 1, RST)
    bench.wait(65)
    assert counters(bench, "sequence-randomiser")["now-randomised"] == 0
    assert "idle" not in counters(bench, "sequence-randomiser")


# The reset injector


@pytest.mark.parametrize(
    ("sequence", "away"), [("exact", 0), ("in-window", 1), ("outside-window", -(1 << 30))]
)
def test_both_ends_are_reset_before_the_data_arrives(key, sequence, away):
    bench = Bench(("reset-injector", {"sequence": sequence}))
    ends = Ends(bench, key)
    ends.open()
    seen = ends.out(CLIENT_ISN + 1, SERVER_ISN + 1, payload=b"request")
    to_server, to_client, data = seen
    assert (to_server.side, to_client.side, data.side) == (INSIDE, OUTSIDE, INSIDE)
    assert to_server.flags == to_client.flags == RST and to_server.right and to_client.right
    assert to_server.key == key and to_server.seq == (CLIENT_ISN + 1 + away) % MODULUS
    assert to_client.key == reverse_key(key) and to_client.seq == (SERVER_ISN + 1 + away) % MODULUS
    assert data.payload == b"request"
    assert len(ends.out(CLIENT_ISN + 8, SERVER_ISN + 1, payload=b"more")) == 1  # strikes once


@pytest.mark.parametrize(("toward", "side"), [("inward", INSIDE), ("outward", OUTSIDE)])
def test_one_end_alone_is_reset(key, toward, side):
    ends = Ends(Bench(("reset-injector", {"toward": toward})), key)
    ends.open()
    strike, _ = ends.back(SERVER_ISN + 1, CLIENT_ISN + 1, payload=b"x")
    assert strike.flags == RST and strike.side is side
    expected = CLIENT_ISN + 1 if side is INSIDE else SERVER_ISN + 1
    assert strike.seq == expected % MODULUS


def test_it_waits_for_its_segment_and_its_word(key):
    bench = Bench(("reset-injector", {"after": 2, "match": "geheim"}))
    ends = Ends(bench, key)
    ends.open()
    for payload, count in ((b"geheim", 1), (b"other", 1), (b"so geheim!", 3)):
        assert len(ends.out(CLIENT_ISN + 1, SERVER_ISN + 1, payload=payload)) == count
    assert counters(bench, "reset-injector") == {"struck": 1, "now-watched": 1}


# The ACK thinner


def thinned(key: bytes, **options: object) -> tuple[Bench, Ends]:
    bench = Bench(("ack-thinner", options))
    ends = Ends(bench, key)
    ends.open()
    return bench, ends


def test_one_of_four_is_let_through_and_it_is_the_newest(key):
    bench, ends = thinned(key)
    passed = [
        seen.ack
        for number in range(1, 13)
        for seen in ends.out(CLIENT_ISN + 1, SERVER_ISN + 1 + 1000 * number, options=STAMPS)
    ]
    assert passed == [SERVER_ISN + 1 + 1000 * number for number in (4, 8, 12)]
    assert bench.dropped == {"thinned": 9}


def test_the_last_one_waits_no_longer_than_it_may(key):
    bench, ends = thinned(key, delay=0.05)
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1001) == []
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 2001) == []
    assert bench.wait(0.04) == []
    (late,) = bench.wait(0.02)
    assert late.ack == SERVER_ISN + 2001 and late.right and late.side is INSIDE
    assert counters(bench, "ack-thinner")["late"] == 1 and bench.dropped == {"thinned": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": b"data"},
        {"flags": FIN | ACK},
        {"flags": ACK | 0x40},
        {"options": b"\x01\x01\x05\x0a" + bytes(8)},
        {"ack": SERVER_ISN + 1001},  # a duplicate
        {"ack": SERVER_ISN + 1001, "window": 900},  # a window update
        {"ack": SERVER_ISN + 1},  # an old one
    ],
    ids=["data", "fin", "ece", "sack", "duplicate", "window", "old"],
)
def test_what_says_more_passes_behind_what_was_held(key, fields):
    bench, ends = thinned(key)
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1001) == []
    held, other = ends.out(**{"seq": CLIENT_ISN + 1, "ack": SERVER_ISN + 2001} | fields)
    assert held.ack == SERVER_ISN + 1001
    assert other.ack == fields.get("ack", SERVER_ISN + 2001)
    assert bench.wait(1) == [] and bench.dropped == {}


def test_a_damaged_one_takes_nobodys_place(key):
    bench, ends = thinned(key)
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1001) == []
    damaged = tcp_segment(key, seq=CLIENT_ISN + 1, ack=SERVER_ISN + 5001, flags=ACK)
    damaged[-2] ^= 1
    assert len(bench.put(OUTSIDE, damaged)) == 1
    assert bench.wait(1)[0].ack == SERVER_ISN + 1001


def test_a_forged_one_takes_nobodys_place(key):
    """RFC 5961 section 5: the other end has sent nothing that far ahead."""
    bench, ends = thinned(key)
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1001) == []  # begins to be followed
    ends.back(SERVER_ISN + 1001, CLIENT_ISN + 1, payload=bytes(1000))
    assert len(ends.out(CLIENT_ISN + 1, SERVER_ISN + (1 << 30))) == 2
    for number in range(3):
        assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1100 + number) == []  # thinned as before
    assert bench.dropped == {"thinned": 2}


def test_only_one_direction_is_thinned_and_switching_off_lets_go(key):
    bench, ends = thinned(key, direction="inward", keep="1/2")
    assert len(ends.back(SERVER_ISN + 1, CLIENT_ISN + 101, flags=ACK)) == 1
    assert len(ends.back(SERVER_ISN + 1, CLIENT_ISN + 201, flags=ACK)) == 1
    assert ends.out(CLIENT_ISN + 1, SERVER_ISN + 1001, flags=ACK | PSH) == []
    bench.pipeline.switch("ack-thinner", False)
    assert [seen.ack - SERVER_ISN for seen in ends.out(CLIENT_ISN + 1, SERVER_ISN + 2001)] == [
        1001,
        2001,
    ]
    bench.pipeline.switch("ack-thinner", True)
    bench.pipeline.set_options("ack-thinner", {"keep": "1/1"})
    assert len(ends.out(CLIENT_ISN + 1, SERVER_ISN + 3001)) == 1


@pytest.mark.parametrize("isn", [0x10000000, 0x90000000, SERVER_ISN + 1000])
def test_a_port_that_is_used_again_is_thinned_as_before(key, isn):
    """Only one direction is seen, so that the old connection never looks closed."""
    _, ends = thinned(key, keep="1/4", direction="inward")
    for number in range(9):
        ends.out(CLIENT_ISN + 1, SERVER_ISN + 1000 * number)
    ends.out(CLIENT_ISN + 1, SERVER_ISN + 8000, FIN | ACK)
    held = ends.out(CLIENT_ISN + 2, SERVER_ISN + 9001)
    assert held == []
    assert [seen.flags for seen in ends.out(77, 0, SYN)] == [ACK, SYN]
    passed = [ends.out(78, isn + 1000 * number) for number in range(401)]
    assert sum(map(len, passed)) == 101
