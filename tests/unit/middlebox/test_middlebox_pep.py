"""The splitting accelerator: acknowledges at once, delivers in its own time."""

from __future__ import annotations

import struct

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Seen
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

MODULUS = 1 << 32
FIRST, ANSWER = (CLIENT_ISN + 1) % MODULUS, SERVER_ISN + 1


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


class Split:
    """A connection through an accelerator; the client is outside and sends."""

    def __init__(self, key: bytes, **options: object) -> None:
        self.bench = Bench(("pep", options))
        self.key = key

    def out(self, flags: int = ACK, at: int = 0, **fields: object) -> list[Seen]:
        known = {"seq": (FIRST + at) % MODULUS, "ack": ANSWER, "window": 500}
        return self._checked(OUTSIDE, self.key, flags, {**known, **fields})

    def back(self, flags: int = ACK, got: int = 0, **fields: object) -> list[Seen]:
        known = {"seq": ANSWER, "ack": (FIRST + got) % MODULUS, "window": 500}
        return self._checked(INSIDE, reverse_key(self.key), flags, {**known, **fields})

    def _checked(self, side, key, flags, fields) -> list[Seen]:
        seen = self.bench.put(side, tcp_segment(key, flags=flags, **fields))
        assert all(packet.right for packet in seen)
        return seen

    def open(self) -> Split:
        (syn,) = self.out(SYN, seq=CLIENT_ISN, ack=0, options=LINUX.encode(), window=64240)
        (answer,) = self.back(
            SYN | ACK, seq=SERVER_ISN, options=LINUX_SERVER.encode(), window=65160
        )
        assert set(syn.options) == set(answer.options) == {2, 3, 4}  # no timestamps
        (third,) = self.out()
        assert (third.side, third.flags, third.seq, third.ack) == (INSIDE, ACK, FIRST, ANSWER)
        return self

    def position(self, seen: Seen) -> int:
        return (seen.seq - FIRST) % MODULUS

    @property
    def counters(self) -> dict[str, int]:
        function = self.bench.pipeline.functions["pep"]
        return dict(function.counters) | function.gauges()


def test_data_is_sent_on_and_acknowledged_at_once(key):
    split = Split(key).open()
    data, ack = split.out(ACK | PSH, payload=b"request")
    assert (data.side, data.payload, data.seq, data.ack) == (INSIDE, b"request", FIRST, ANSWER)
    assert (ack.side, ack.flags, ack.ack) == (OUTSIDE, ACK, (FIRST + 7) % MODULUS)
    assert ack.window == (262_144 - 7) >> 7
    assert split.back(got=7) == []  # the server's acknowledgement ends here


def test_losses_before_the_box_are_the_senders_to_repair(key):
    split = Split(key).open()
    (ack,) = split.out(at=100, payload=bytes(50))
    assert ack.side is OUTSIDE and ack.ack == FIRST
    edges = struct.unpack("!II", ack.options[5])
    assert [(edge - FIRST) % MODULUS for edge in edges] == [100, 150]
    first, second, ack = split.out(payload=bytes(100))
    assert [split.position(first), split.position(second)] == [0, 100]
    assert ack.ack == (FIRST + 150) % MODULUS and 5 not in ack.options


def test_what_overlaps_is_delivered_once(key):
    split = Split(key).open()
    split.out(payload=b"abcd")
    data, _ = split.out(at=2, payload=b"cdef")
    assert split.position(data) == 4 and data.payload == b"ef"
    (ack,) = split.out(payload=b"abcd")
    assert ack.side is OUTSIDE and ack.ack == (FIRST + 6) % MODULUS


def test_losses_behind_the_box_are_its_own(key):
    split = Split(key).open()
    split.out(payload=bytes(1000))
    split.bench.now += 0.1
    split.back(got=1000)  # a round trip measured
    for number in range(1, 6):
        split.out(at=1000 * number, payload=bytes(1000))
    split.bench.now += 0.1
    block = struct.pack("!BBBBII", 1, 1, 5, 10, (FIRST + 2000) % MODULUS, (FIRST + 4000) % MODULUS)
    (repeated,) = split.back(got=1000, options=block)
    assert repeated.side is INSIDE and split.position(repeated) == 1000
    assert split.back(got=1000, options=block) == []  # not again so soon
    assert split.counters["repeated"] == 1
    # What nobody speaks of is repeated in the end, what has arrived is not.
    assert [split.position(seen) for seen in split.bench.wait(0.5)] == [1000, 4000, 5000]


def test_a_silent_receiver_is_given_up_and_nothing_is_left(key):
    split = Split(key).open()
    split.out(payload=b"anyone?")
    repeated = split.bench.wait(200)
    assert len(repeated) == 10 and {seen.payload for seen in repeated} == {b"anyone?"}
    assert split.counters["given-up"] == 1 and split.counters["now-split"] == 0
    assert len(split.bench.timers) == 0 or split.bench.wait(8000) == []


def test_the_receivers_window_is_kept_and_its_opening_seen(key):
    split = Split(key).open()
    split.back(window=10)  # 1280 bytes: less than it said before does not count back
    for number in range(66):
        split.out(at=1000 * number, payload=bytes(1000))
    assert split.counters["now-split"] == 1
    # 65160 of the SYN/ACK's window: 65 segments went, one waits.
    seen = split.back(got=65_000, window=500)
    assert [split.position(packet) for packet in seen] == [65_000]


def test_a_closed_window_is_probed(key):
    split = Split(key).open()
    for number in range(65):
        split.out(at=1000 * number, payload=bytes(1000))
    assert split.back(got=65_000, window=0) == []
    (ack,) = split.out(at=65_000, payload=bytes(1000))
    assert ack.side is OUTSIDE
    (probe, *_) = split.bench.wait(3)
    assert probe.side is INSIDE and split.position(probe) == 64_999 and probe.payload == b""
    for _ in range(20):  # it is not given up as long as it answers
        split.back(got=65_000, window=0)
        assert split.bench.wait(10)
    (data,) = split.back(got=65_000, window=500)
    assert split.position(data) == 65_000


def test_the_sender_is_stopped_by_a_full_buffer_and_called_when_it_empties(key):
    split = Split(key, buffer=4096).open()
    windows = [split.out(at=1024 * number, payload=bytes(1024))[-1].window for number in range(4)]
    assert windows == [3072 >> 7, 2048 >> 7, 1024 >> 7, 0]
    beyond = split.out(at=4096, payload=bytes(10))
    assert [seen.side for seen in beyond] == [OUTSIDE] and beyond[0].window == 0
    (update,) = split.back(got=4096)
    assert update.side is OUTSIDE and update.window == 4096 >> 7


def test_the_end_goes_through_both_ways(key):
    split = Split(key).open()
    data, fin, ack = split.out(FIN | ACK, payload=b"bye")
    assert data.payload == b"bye" and not data.flags & FIN
    assert fin.flags & FIN and split.position(fin) == 3
    assert ack.ack == (FIRST + 4) % MODULUS
    fin, ack = split.back(FIN | ACK, got=4)
    assert fin.side is OUTSIDE and fin.flags & FIN and ack.side is INSIDE
    assert split.out(at=4, ack=ANSWER + 1) == []
    split.bench.wait(70)
    assert split.counters["now-split"] == 0 and split.bench.wait(8000) == []


def test_a_reset_is_passed_on_at_the_number_expected(key):
    split = Split(key).open()
    split.out(payload=bytes(100))  # not acknowledged by the server yet
    assert split.out(RST, at=1 << 30) == []
    assert split.bench.dropped == {"reset-outside-window": 1}
    (reset,) = split.out(RST, at=100)
    assert reset.side is INSIDE and reset.flags == RST and split.position(reset) == 0
    assert split.counters["now-split"] == 0


def test_a_repeated_syn_ack_is_acknowledged_again(key):
    split = Split(key).open()
    (ack,) = split.back(SYN | ACK, seq=SERVER_ISN)
    assert (ack.side, ack.flags, ack.ack) == (INSIDE, ACK, ANSWER)


def test_a_damaged_segment_is_not_acknowledged(key):
    split = Split(key).open()
    data = tcp_segment(key, seq=FIRST, ack=ANSWER, flags=ACK, window=1, payload=b"x")
    data[-1] ^= 1
    assert split.bench.put(OUTSIDE, data) == []
    assert split.bench.dropped == {"bad-checksum": 1}


def test_switched_off_it_serves_those_it_has_and_takes_no_others(key):
    split = Split(key).open()
    split.bench.pipeline.switch("pep", False)
    assert len(split.out(payload=b"x")) == 2
    other = Split.__new__(Split)
    other.bench, other.key = split.bench, key[:-4] + struct.pack("!HH", 41000, 80)
    (syn,) = other.out(SYN, seq=CLIENT_ISN, ack=0, options=LINUX.encode())
    assert 8 in syn.options
