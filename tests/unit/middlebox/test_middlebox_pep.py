"""The splitting accelerator: acknowledges at once, delivers in its own time."""

from __future__ import annotations

import struct

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Seen, size_of
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, loaded

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG
from testbed.wire.icmp import icmp_error
from testbed.wire.options import HandshakeOptions
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
    data, ack = split.out(payload=bytes(100))
    assert split.position(data) == 0 and len(data.payload) == 150
    assert ack.ack == (FIRST + 150) % MODULUS and 5 not in ack.options


def test_what_overlaps_is_delivered_once(key):
    split = Split(key).open()
    split.out(payload=b"abcd")
    data, _ = split.out(at=2, payload=b"cdef")
    assert split.position(data) == 4 and data.payload == b"ef"
    (ack,) = split.out(payload=b"abcd")
    assert ack.side is OUTSIDE and ack.ack == (FIRST + 6) % MODULUS


def block(*edges: int) -> bytes:
    """A SACK option with one block, given by positions."""
    return struct.pack("!BBBBII", 1, 1, 5, 10, *((FIRST + edge) % MODULUS for edge in edges))


def test_losses_behind_the_box_are_its_own(key):
    split = Split(key).open()
    split.out(payload=bytes(1000))
    split.bench.now += 0.1
    split.back(got=1000)  # a round trip measured
    for number in range(1, 6):
        split.out(at=1000 * number, payload=bytes(1000))
    split.bench.now += 0.1
    assert split.back(got=1000, options=block(2000, 2001)) == []  # may be reordering
    assert split.back(got=1000, options=block(2000, 4000)) == []
    (repeated,) = split.back(got=1000, options=block(2000, 5000))  # more than two segments ahead
    assert repeated.side is INSIDE and split.position(repeated) == 1000
    assert split.back(got=1000, options=block(2000, 5000)) == []  # not again so soon
    assert split.counters["repeated"] == 1
    mss = 1460 if len(key) == 12 else 1440
    all_of_it = [1000 + mss * number for number in range(4)]
    assert [split.position(seen) for seen in split.bench.wait(0.5)] == all_of_it  # timed out


def test_what_a_receiver_has_reneged_on_is_repeated_after_a_time_out(key):
    """RFC 2018 section 8: SACKed data may be discarded, at the left edge and beyond."""
    split = Split(key).open()
    for number in range(5):
        split.out(at=1000 * number, payload=bytes(1000))
    split.back(options=block(1000, 2000))
    split.back(options=block(3000, 5000))
    split.back(got=1000)  # no more than the hole was filled
    first, *_ = split.bench.wait(1)
    assert split.position(first) == 1000
    split.back(got=2000, options=block(4000, 5000))
    assert all(split.position(seen) < 4000 for seen in split.back(got=3000))
    first, *_ = split.bench.wait(3)
    assert split.position(first) == 3000


def without_sack(key: bytes, **options: object) -> Split:
    split = Split(key, **options)
    plain = HandshakeOptions(mss=1440).encode()
    split.out(SYN, seq=CLIENT_ISN, ack=0, options=plain, window=64240)
    split.back(SYN | ACK, seq=SERVER_ISN, options=plain, window=65160)
    split.out(window=64240)
    return split


def test_without_sack_three_duplicates_are_a_loss(key):
    """RFC 5681 section 3.2, RFC 6582."""
    split = without_sack(key)
    for number in range(6):
        split.out(at=1440 * number, payload=bytes(1440), window=64240)
    assert split.back(window=65160) == split.back(window=65160) == []
    (repeated,) = split.back(window=65160)
    assert split.position(repeated) == 0 and len(repeated.payload) == 1440
    assert split.back(window=65160) == []
    (next_lost,) = split.back(got=2880, window=65160)  # a partial acknowledgement
    assert split.position(next_lost) == 2880
    assert split.back(got=8640, window=65160) == []
    assert split.counters["repeated"] == 2


def test_an_end_that_makes_up_sack_blocks_costs_little(key):
    split = Split(key).open()
    for number in range(40):
        split.out(at=1460 * number, payload=bytes(1460))
    for at in range(2, 50_000, 2):
        split.back(options=block(at, at + 1))
    assert size_of(split.bench.pipeline.functions["pep"]) < 300_000


def test_sack_blocks_are_for_those_who_have_permitted_them_and_the_newest_comes_first(key):
    (ack,) = without_sack(key).out(at=100, payload=bytes(50), window=64240)
    assert ack.options == {}
    split = Split(key).open()
    for number in range(1, 7):
        (ack,) = split.out(at=2000 * number, payload=bytes(100))
    (ack,) = split.out(at=4100, payload=bytes(10))
    edges = [(edge - FIRST) % MODULUS for edge in struct.unpack("!8I", ack.options[5])]
    assert edges == [4000, 4110, 12000, 12100, 10000, 10100, 8000, 8100]


def test_a_silent_receiver_is_given_up_and_both_ends_are_told(key):
    split = Split(key).open()
    split.out(payload=b"anyone?")
    *repeated, one, other = split.bench.wait(600)
    assert len(repeated) == 10 and {seen.payload for seen in repeated} == {b"anyone?"}
    assert {(seen.side, seen.flags) for seen in (one, other)} == {(OUTSIDE, RST), (INSIDE, RST)}
    assert split.counters["given-up"] == 1 and split.counters["now-split"] == 0
    assert len(split.bench.timers) == 0 or split.bench.wait(8000) == []


def test_a_window_below_one_segment_is_used(key):
    """RFC 9293 section 3.8.6.2.1: half of the widest window is worth a segment."""
    split = Split(key)
    plain = HandshakeOptions(mss=1460).encode()
    split.out(SYN, seq=CLIENT_ISN, ack=0, options=plain, window=64240)
    split.back(SYN | ACK, seq=SERVER_ISN, options=plain, window=1152)
    split.out(window=64240)
    data, _ = split.out(payload=bytes(1448), window=64240)
    assert len(data.payload) == 1152
    (rest,) = split.back(got=1152, window=1152)
    assert (split.position(rest), len(rest.payload)) == (1152, 296)
    split.back(got=1448, window=856)
    data, _ = split.out(at=1448, payload=bytes(1000), window=64240)
    assert len(data.payload) == 856
    assert split.back(got=2304, window=100) == []  # not worth one
    (forced,) = split.bench.wait(0.25)
    assert len(forced.payload) == 100


def test_segments_are_cut_to_what_the_receiver_takes(key):
    split = Split(key)
    small = HandshakeOptions(mss=500, sack=True).encode()
    split.out(SYN, seq=CLIENT_ISN, ack=0, options=LINUX.encode(), window=64240)
    split.back(SYN | ACK, seq=SERVER_ISN, options=small, window=65160)
    split.out(window=64240)
    seen = split.out(payload=bytes(1448), window=64240)
    assert [len(one.payload) for one in seen if one.side is INSIDE] == [500, 500, 448]


@pytest.mark.parametrize("sound", [True, False])
def test_a_path_that_is_too_narrow_is_learnt_of(key, sound):
    split = Split(key).open()
    data, _ = split.out(payload=bytes(1440))
    if not sound:
        data.data[data.data.index(struct.pack("!I", data.seq)) + 1] ^= 1
    version_4 = len(key) == 12
    kind, code = (3, 4) if version_4 else (2, 0)
    error = icmp_error(
        loaded(data.data), kind, code, source=bytes(4 if version_4 else 16), value=1000
    )
    seen = split.bench.put(INSIDE, error)
    if sound:
        assert [len(one.payload) for one in seen] == [960, 480] if version_4 else [940, 500]
        assert all(one.side is INSIDE and one.right for one in seen)
    else:
        assert [one.protocol for one in seen] in ([1], [58])  # it passes


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
    (last,) = split.bench.wait(0.25)
    assert split.position(last) == 65_000 and len(last.payload) == 160  # it filled the window
    split.back(got=65_160, window=0)
    (probe, *_) = split.bench.wait(3)
    assert probe.side is INSIDE and split.position(probe) == 65_159 and probe.payload == b""
    for _ in range(20):  # it is not given up as long as it answers
        split.back(got=65_160, window=0)
        assert split.bench.wait(61)
    (data,) = split.back(got=65_160, window=500)
    assert split.position(data) == 65_160


@pytest.mark.parametrize("shrunk", [0, 160], ids=["kept", "shrunk"])
@pytest.mark.parametrize("window", [1, 500], ids=["a little", "all"])
def test_when_a_window_opens_the_time_out_is_that_of_any_segment(key, shrunk, window):
    """RFC 6298 section 5.1. Shrunk: data that was sent into the window is refused."""
    split = Split(key).open()
    split.out(payload=bytes(1000))
    split.bench.now += 0.02
    split.back(got=1000)
    for number in range(1, 80):
        split.out(at=1000 * number, payload=bytes(1000))
    split.back(got=65_000, window=0)
    split.bench.wait(0.3)  # the last 160 bytes of the window are filled
    taken = 65_160 - shrunk
    for _ in range(200):
        split.back(got=taken, window=0)
        split.bench.wait(1)
    assert split.counters["now-split"] == 1
    sent = split.back(got=taken, window=window)
    sent += split.bench.wait(0.7)
    assert [split.position(seen) for seen in sent].count(taken) >= 2 - bool(shrunk)


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
    data, ack = split.out(FIN | ACK, payload=b"bye")
    assert data.payload == b"bye" and data.flags & FIN
    assert ack.ack == (FIRST + 4) % MODULUS
    fin, ack = split.back(FIN | ACK, got=4)
    assert fin.side is OUTSIDE and fin.flags & FIN and ack.side is INSIDE
    assert split.out(at=4, ack=ANSWER + 1) == []
    split.bench.wait(70)
    assert split.counters["now-split"] == 0 and split.bench.wait(8000) == []


def test_a_reset_is_passed_on_only_where_it_is_due(key):
    """RFC 5961 section 3.2."""
    split = Split(key).open()
    split.out(payload=bytes(100))  # not acknowledged by the server yet
    assert split.out(RST, at=1 << 30) == split.out(RST, at=99) == []
    assert split.bench.dropped == {"reset-outside-window": 2}
    (challenge,) = split.out(RST, at=5000)
    assert (challenge.side, challenge.flags) == (OUTSIDE, ACK)
    assert challenge.ack == (FIRST + 100) % MODULUS and split.counters["now-split"] == 1
    (reset,) = split.out(RST, at=100)
    assert reset.side is INSIDE and reset.flags == RST and split.position(reset) == 100
    assert split.counters["now-split"] == 0


@pytest.mark.parametrize("at", [-50_000, 1 << 30, 300_000])
def test_an_end_outside_the_window_ends_nothing(key, at):
    split = Split(key).open()
    split.out(payload=bytes(100))
    (ack,) = split.out(FIN | ACK, at=at)
    assert ack.side is OUTSIDE and ack.ack == (FIRST + 100) % MODULUS
    data, ack = split.out(at=100, payload=b"goes on")
    assert data.payload == b"goes on" and ack.ack == (FIRST + 107) % MODULUS


def test_the_buffer_bounds_what_is_kept(key):
    split = Split(key, buffer=65_536).open()
    for start in range(1, 60_000, 1):
        split.out(at=start, payload=bytes(1400)) if start % 97 == 0 else None
    for start in range(2, 65_000, 2):
        split.out(at=start, payload=b"x")
    assert size_of(split.bench.pipeline.functions["pep"]) < 3 * 65_536


def test_the_syns_promise_no_more_than_the_buffer(key):
    split = Split(key, buffer=4096)
    (syn,) = split.out(SYN, seq=CLIENT_ISN, ack=0, options=LINUX.encode(), window=64240)
    (answer,) = split.back(SYN | ACK, seq=SERVER_ISN, options=LINUX_SERVER.encode(), window=65160)
    assert (syn.window, answer.window) == (4096, 4096)


@pytest.mark.parametrize("scale", [0, 7, 10, 12, 13, 14])
def test_a_buffer_is_never_too_small_for_the_window_scale(key, scale):
    """RFC 7323 section 2.2: a window below one unit is announced as closed."""
    split = Split(key, buffer=4096)
    options = HandshakeOptions(mss=1460, window_scale=scale, sack=True).encode()
    split.out(SYN, seq=CLIENT_ISN, ack=0, options=options, window=64240)
    split.back(SYN | ACK, seq=SERVER_ISN, options=options, window=65160)
    split.out()
    seen = split.out(payload=bytes(4096))  # all that the SYN/ACK has promised
    seen += split.back(got=4096)
    assert seen[-1].side is OUTSIDE and seen[-1].window << scale >= 4096


def test_no_ecn_is_agreed_on_through_the_box(key):
    """RFC 3168 section 6.1.1, RFC 9768 section 3.1."""
    split = Split(key)
    request = tcp_segment(key, seq=CLIENT_ISN, flags=SYN | ECE | CWR, options=LINUX.encode())
    at = len(request) - len(LINUX.encode()) - 8
    request[at] |= AE
    sums = at + 4
    total = struct.unpack_from("!H", request, sums)[0] - (AE << 8)
    struct.pack_into("!H", request, sums, total % 0xFFFF)
    for seen in (
        split.bench.put(OUTSIDE, request),
        split.back(SYN | ACK | ECE, seq=SERVER_ISN, options=LINUX_SERVER.encode()),
    ):
        (syn,) = seen
        assert syn.right and not syn.flags & (ECE | CWR) and not syn.transport[12] & AE
    split.out()
    assert not any(seen.flags & (ECE | CWR) for seen in split.out(ACK | CWR | ECE, payload=b"x"))


def test_a_port_used_again_gets_nothing_of_the_old_connection(key):
    split = Split(key).open()
    split.out(FIN | ACK, payload=b"old")
    split.back(FIN | ACK)
    (challenge,) = split.out(SYN, seq=5000, ack=0, options=LINUX.encode())
    assert challenge.side is OUTSIDE and challenge.flags == ACK  # it has not the FIN yet
    split.out(at=4, ack=ANSWER + 1)
    reset, syn = split.out(SYN, seq=5000, ack=0, options=LINUX.encode())
    assert (reset.side, reset.flags, split.position(reset)) == (INSIDE, RST, 4)
    assert (syn.side, syn.flags, syn.seq) == (INSIDE, SYN, 5000)
    assert split.bench.wait(100) == []


def test_urgent_data_stays_urgent(key):
    split = Split(key).open()
    data = tcp_segment(key, seq=FIRST, ack=ANSWER, flags=ACK | URG, urgent=3, payload=b"abcde")
    sent, _ = split.bench.put(OUTSIDE, data)
    assert sent.flags & URG and struct.unpack_from("!H", sent.transport, 18) == (3,)
    sent, _ = split.out(at=5, payload=b"later")
    assert not sent.flags & URG


def test_reno_begins_with_ten_segments_and_slows_down():
    """RFC 6928, RFC 5681, RFC 6675."""
    split = Split(IPV4_KEY, congestion_control="reno").open()
    sent = [split.out(at=1460 * number, payload=bytes(1460)) for number in range(30)]
    assert [len(seen) for seen in sent] == [2] * 10 + [1] * 20  # the rest is only acknowledged
    sent = [split.back(got=1460 * number) for number in range(1, 11)]
    assert [len(seen) for seen in sent] == [2] * 10  # slow start: two for each that has arrived
    (lost,) = split.back(got=14600, options=block(16060, 24820))
    assert split.position(lost) == 14600  # of 20 segments under way
    assert split.back(got=14600, options=block(16060, 30660)) == []
    assert split.counters["repeated"] == 1
    for number in range(30, 40):
        split.out(at=1460 * number, payload=bytes(1460))
    assert len(split.back(got=14600, options=block(16060, 33580))) == 2  # ten are, from now on


def test_a_partial_acknowledgement_has_the_next_lost_segment_repeated_at_once():
    """RFC 6582 section 3.2: whatever is under way."""
    split = without_sack(IPV4_KEY, congestion_control="reno")
    for number in range(10):
        split.out(at=1440 * number, payload=bytes(1440), window=64240)
    assert [len(split.back(window=65160)) for _ in range(3)] == [0, 0, 1]
    (repeated,) = split.back(got=2880, window=65160)  # seven are under way, and five are allowed
    assert split.position(repeated) == 2880


@pytest.mark.parametrize("size", [900, 1000, 1460])
@pytest.mark.parametrize("options", [{"congestion_control": "reno"}, {"in_flight": 14_600}])
def test_no_segment_exceeds_what_may_be_under_way(options, size):
    """RFC 5681 section 2."""
    split = Split(IPV4_KEY, **options).open()
    seen = [one for at in range(0, 40_000, size) for one in split.out(at=at, payload=bytes(size))]
    flight = sum(len(one.payload) for one in seen if one.side is INSIDE)
    assert 14_600 - size < flight <= 14_600


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
