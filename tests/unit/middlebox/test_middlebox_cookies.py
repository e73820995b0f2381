"""The setup proxy with SYN cookies: nothing is remembered until a cookie has come back."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Dialogue, Seen
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.wire.checksum import adjust_checksum
from testbed.wire.craft import tcp_segment
from testbed.wire.edit import add_to_field
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

M = 0xFFFFFFFF
FIRST = (CLIENT_ISN + 1) & M


def cookies(**options: object) -> Bench:
    return Bench(("setup-proxy", {"cookies": True, **options}))


def counters(bench: Bench) -> dict[str, int]:
    function = bench.pipeline.functions["setup-proxy"]
    return dict(function.counters) | function.gauges()


def remembers_nothing(bench: Bench) -> bool:
    gauges = bench.pipeline.functions["setup-proxy"].gauges()
    return not any(gauges.values()) and bench.timers.timeout() is None


class Client(Dialogue):
    """One that echoes the time stamp of the answer, as hosts do."""

    answer: Seen

    def syn(self, isn: int = CLIENT_ISN, payload: bytes = b"", window: int = 64240) -> list[Seen]:
        seen = super().syn(isn, payload, window)
        self.answer = seen[0]
        return seen

    def stamps(self) -> bytes:
        if 8 not in self.answer.options:
            return b""
        (clock,) = struct.unpack("!I", self.answer.options[8][:4])
        return HandshakeOptions(timestamps=(1020, clock)).encode()

    def back(self, ahead: int = 0, flags: int = ACK, payload: bytes = b"") -> list[Seen]:
        """What acknowledges the answer; ahead: of the first sequence number."""
        return self.from_client(
            seq=FIRST + ahead,
            ack=self.proxy_isn + 1,
            flags=flags,
            window=502,
            options=self.stamps(),
            payload=payload,
        )


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def test_a_syn_is_answered_and_nothing_is_remembered(key):
    bench = cookies()
    talk = Client(bench, key)
    (answer,) = talk.syn()
    assert (answer.side, answer.flags, answer.ack) == (OUTSIDE, SYN | ACK, FIRST)
    assert answer.right and answer.window == 65535
    assert answer.options[3] == b"\x07" and 4 in answer.options
    assert remembers_nothing(bench) and bench.wait(100) == []


def test_the_acknowledgement_brings_back_what_the_server_is_asked_for(key):
    bench = cookies()
    talk = Client(bench, key)
    talk.syn()
    (call,) = talk.back()
    assert (call.side, call.flags, call.seq, call.key) == (INSIDE, SYN, CLIENT_ISN, key)
    assert call.right and call.window == min(502 << 7, 65535)
    assert call.options[3] == b"\x07" and 4 in call.options
    assert call.options[8] == struct.pack("!II", 1020, 0)
    assert struct.unpack("!H", call.options[2])[0] == (1460 if key is IPV4_KEY else 1440)
    assert counters(bench)["cookies-sent"] == counters(bench)["cookies-accepted"] == 1


@pytest.mark.parametrize("cookie_mode", [True, False])
def test_a_connection_is_translated_as_if_it_had_been_remembered(key, cookie_mode):
    talk = Client(cookies(cookies=cookie_mode, opening="serial"), key)
    talk.syn()
    clock = struct.unpack("!I", talk.answer.options[8][:4])[0]
    talk.back()
    (ack,) = talk.syn_ack()
    assert (ack.flags, ack.ack) == (ACK, SERVER_ISN + 1)
    (request,) = talk.back(payload=b"request")
    assert request.side is INSIDE and request.right and request.payload == b"request"
    assert (request.seq, request.ack) == (FIRST, SERVER_ISN + 1)
    assert request.options[8] == struct.pack("!II", 1020, 777000)
    stamps = HandshakeOptions(timestamps=(777005, 1020)).encode()
    (response,) = talk.from_server(
        seq=SERVER_ISN + 1, ack=FIRST + 7, flags=ACK, options=stamps, payload=b"response"
    )
    assert response.side is OUTSIDE and response.right and response.payload == b"response"
    assert response.seq == (talk.proxy_isn + 1) & M
    assert response.options[8] == struct.pack("!II", (clock + 5) & M, 1020)


@pytest.mark.parametrize("mode", ["drop", "hold"])
def test_data_that_comes_with_the_cookie_is_dropped_or_held(key, mode):
    bench = cookies(handshake_data=mode)
    talk = Client(bench, key)
    talk.syn()
    talk.back(flags=ACK | PSH, payload=b"request")
    payloads = [packet.payload for packet in talk.syn_ack()]
    assert payloads == ([b""] if mode == "drop" else [b"", b"request"])
    assert bench.dropped == ({"handshake-data": 1} if mode == "drop" else {})
    assert counters(bench)["now-held-bytes"] == 0


def test_a_fin_with_the_cookie_is_not_lost():
    talk = Client(cookies())
    talk.syn()
    talk.back(flags=FIN | ACK)
    assert [packet.flags for packet in talk.syn_ack()] == [ACK, FIN | ACK]


@pytest.mark.parametrize("why", ["the client has none", "the proxy grants none"])
def test_without_timestamps_window_scale_and_sack_are_given_up(key, why):
    """As with Linux's own cookies: there is no place to keep them."""
    bench, client = cookies(), HandshakeOptions(mss=1460, window_scale=7, sack=True)
    if why == "the proxy grants none":
        bench, client = cookies(timestamps=False), LINUX
    talk = Client(bench, key, client)
    talk.syn()
    assert set(talk.answer.options) == {2}
    (call,) = talk.back()
    assert set(call.options) == {2} and call.window == 502


@pytest.mark.parametrize("scale", [None, 0, 7, 14])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("offer", ["mirror", "none", 3])
def test_scale_and_sack_travel_in_the_time_stamp(scale, sack, offer):
    client = HandshakeOptions(mss=1460, window_scale=scale, sack=sack, timestamps=(5, 0))
    talk = Client(cookies(window_scale=offer), client=client)
    talk.syn()
    offered = {"mirror": scale, "none": None, 3: 3}[offer] if scale is not None else None
    assert talk.answer.options.get(3) == (None if offered is None else bytes((offered,)))
    (call,) = talk.back()
    expected = None if scale is None or offer == "none" else bytes((scale,))
    assert call.options.get(3) == expected
    assert (4 in call.options) == (4 in talk.answer.options) == sack


@pytest.mark.parametrize(
    ("key", "mss", "told"),
    [
        (IPV4_KEY, None, 536),
        (IPV4_KEY, 300, 536),
        (IPV4_KEY, 1299, 536),
        (IPV4_KEY, 1300, 1300),
        (IPV4_KEY, 1459, 1440),
        (IPV4_KEY, 8960, 1460),
        (IPV6_KEY, None, 1220),
        (IPV6_KEY, 1430, 1420),
        (IPV6_KEY, 1440, 1440),
    ],
)
def test_the_servers_segments_fit_the_client(key, mss, told):
    talk = Client(cookies(), key, HandshakeOptions(mss=mss))
    talk.syn()
    (call,) = talk.back()
    assert struct.unpack("!H", call.options[2])[0] == told


def test_an_answer_repeated_within_a_minute_is_the_same(key):
    bench = cookies()
    bench.now = 6000.0
    talk = Client(bench, key)
    (first,) = talk.syn()
    bench.now += 59
    (second,) = talk.syn()
    bench.now += 2
    (third,) = talk.syn()
    assert first.data == second.data
    assert third.seq != second.seq and third.options[8] != second.options[8]


@pytest.mark.parametrize(
    ("later", "becomes"), [(59, "accepted"), (119, "accepted"), (121, "stale"), (6000, "stale")]
)
def test_a_cookie_is_good_for_one_to_two_minutes(key, later, becomes):
    bench = cookies()
    bench.now = 6000.0
    talk = Client(bench, key)
    talk.syn()
    bench.now += later
    seen = talk.back()
    assert counters(bench)[f"cookies-{becomes}"] == 1
    if becomes == "stale":
        assert seen == [] and bench.dropped == {"cookie-stale": 1} and remembers_nothing(bench)


@pytest.mark.parametrize("reaction", ["drop", "reset"])
def test_a_wrong_cookie_opens_nothing(key, reaction):
    bench = cookies(bad_cookie=reaction)
    talk = Client(bench, key)
    talk.syn()
    talk.proxy_isn += 1
    seen = talk.back(payload=b"request")
    assert bench.dropped == {"cookie-invalid": 1} and counters(bench)["cookies-invalid"] == 1
    assert remembers_nothing(bench)
    if reaction == "drop":
        assert seen == []
    else:
        (reset,) = seen
        assert (reset.side, reset.flags, reset.seq) == (OUTSIDE, RST, (talk.proxy_isn + 1) & M)


def test_a_cookie_is_good_for_its_own_connection_and_box_only():
    bench = cookies()
    talk = Client(bench)
    talk.syn()
    other = Client(bench, IPV4_KEY[:8] + b"\x01\x01\x00\x50")
    other.answer, other.proxy_isn = talk.answer, talk.proxy_isn
    elsewhere = Client(cookies())
    elsewhere.answer, elsewhere.proxy_isn = talk.answer, talk.proxy_isn
    for stranger in (other, elsewhere):
        assert stranger.back() == []
        assert stranger.bench.dropped == {"cookie-invalid": 1}
    assert len(talk.back()) == 1


@pytest.mark.parametrize("harm", ["other clock", "no time stamp"])
def test_time_stamps_belong_to_the_cookie(harm):
    """Whoever strips them in between would leave the two ends with different ideas of scaling."""
    bench = cookies()
    talk = Client(bench)
    talk.syn()
    if harm == "no time stamp":
        talk.answer.options.pop(8)
    else:
        clock = struct.unpack("!I", talk.answer.options[8][:4])[0]
        talk.answer.options[8] = struct.pack("!II", clock + 64, 0)
    assert talk.back() == []
    assert bench.dropped == {"cookie-invalid": 1}


def test_guessing_is_hopeless():
    bench = cookies()
    rng = random.Random(4987)
    for _ in range(5000):
        numbers: dict[str, Any] = {"seq": rng.randrange(1 << 32), "ack": rng.randrange(1 << 32)}
        assert bench.put(OUTSIDE, tcp_segment(IPV4_KEY, flags=ACK, **numbers)) == []
    assert bench.dropped["cookie-invalid"] + bench.dropped.get("cookie-stale", 0) == 5000


def test_data_behind_what_was_lost_waits_for_its_repetition():
    """Only the first sequence number fits the cookie; silence makes the client send it again."""
    bench = cookies()
    talk = Client(bench)
    talk.syn()
    assert talk.back(ahead=100, payload=b"late") == []
    assert bench.dropped == {"cookie-invalid": 1}
    talk.back(payload=b"first")
    assert [packet.payload for packet in talk.syn_ack()] == [b"", b"first"]


@pytest.mark.parametrize("window", [0, 65535])
def test_a_probe_brings_the_cookie_back_too(window):
    """All that a client sends whose acknowledgement was lost and who was given no window."""
    bench = cookies(answer_window=window)
    talk = Client(bench)
    talk.syn()
    (call,) = talk.back(ahead=-1)
    assert (call.side, call.flags, call.seq) == (INSIDE, SYN, CLIENT_ISN)
    seen = talk.syn_ack()
    updates = [packet.window for packet in seen if packet.side is OUTSIDE]
    assert updates == ([] if window else [65160 >> 7])
    assert [packet.payload for packet in talk.back(payload=b"request")] == [b"request"]


def test_a_refusing_server_resets_the_client(key):
    bench = cookies()
    talk = Client(bench, key)
    talk.syn()
    talk.back(payload=b"request")
    (reset,) = talk.from_server(seq=0, ack=FIRST, flags=RST | ACK)
    assert reset.side is OUTSIDE and reset.seq == (talk.proxy_isn + 1) & M
    assert bench.dropped == {"refused": 1} and remembers_nothing(bench)


@pytest.mark.parametrize("flags", [RST, RST | ACK, FIN, 0, SYN | ACK])
def test_what_belongs_to_no_connection_does_not_reach_the_inside(key, flags):
    bench = cookies()
    talk = Client(bench, key)
    talk.syn()
    assert talk.back(flags=flags) == []
    assert bench.dropped == {"no-connection": 1} and remembers_nothing(bench)


def test_connections_from_inside_pass(key):
    bench = cookies()
    talk = Client(bench, key)
    assert len(talk.from_server(seq=1, flags=SYN)) == 1
    assert len(talk.from_client(seq=9, ack=2, flags=SYN | ACK)) == 1
    assert len(talk.from_server(seq=2, ack=10, flags=ACK, payload=b"x")) == 1
    (answer,) = talk.from_client(seq=10, ack=3, flags=ACK, payload=b"y")
    assert answer.side is INSIDE and answer.payload == b"y"
    assert counters(bench)["now-from-inside"] == 1 and bench.dropped == {}


def test_connections_that_the_box_has_let_pass_before_are_carried_on():
    bench = Bench(("setup-proxy", {}))
    bench.pipeline.switch("setup-proxy", False)
    talk = Client(bench)
    talk.syn()
    bench.pipeline.switch("setup-proxy", True)
    bench.pipeline.set_options("setup-proxy", {"cookies": True})
    assert len(talk.syn_ack()) == 1
    (third,) = talk.from_client(seq=FIRST, ack=SERVER_ISN + 1, flags=ACK)
    assert third.side is INSIDE and third.ack == SERVER_ISN + 1


@pytest.mark.parametrize("how", ["disabled", "without cookies"])
def test_a_cookie_given_out_is_honoured_later(how):
    bench = cookies()
    talk = Client(bench)
    talk.syn()
    if how == "disabled":
        bench.pipeline.switch("setup-proxy", False)
    else:
        bench.pipeline.set_options("setup-proxy", {"cookies": False})
    stray = tcp_segment(IPV4_KEY[:8] + b"\x01\x01\x00\x50", seq=1, ack=2, flags=ACK)
    assert len(bench.put(OUTSIDE, stray)) == 1  # nothing else is held up any more
    talk.back(payload=b"request")
    assert [packet.payload for packet in talk.syn_ack()] == [b"", b"request"]


def test_a_closed_connection_makes_room_for_another_one():
    bench = cookies()
    talk = Client(bench)
    talk.syn()
    talk.back()
    talk.syn_ack(LINUX_SERVER)
    talk.back(flags=FIN | ACK)
    talk.from_server(seq=SERVER_ISN + 1, ack=FIRST + 1, flags=FIN | ACK)
    assert [packet.side for packet in talk.syn()] == [OUTSIDE]
    assert [packet.flags for packet in talk.back()] == [SYN]


def test_a_hundred_thousand_spoofed_syns_leave_no_state():
    bench = cookies(half_open_limit=1)
    template = tcp_segment(IPV4_KEY, seq=1, flags=SYN, options=LINUX.encode())

    def flood(first: int, count: int) -> None:
        for number in range(first, first + count):
            buffer = bytearray(template)
            adjust_checksum(buffer, 36, add_to_field(buffer, 12, number, 0))
            bench.pipeline.receive(OUTSIDE, buffer, len(buffer))
            bench.sent.clear()

    flood(0, 1000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flood(1000, 1000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    flood(2000, 98_000)
    assert after - before < 10_000  # a hundred bytes each would be ten times as much
    assert remembers_nothing(bench)
    assert counters(bench) == {
        "cookies-sent": 100_000,
        **dict.fromkeys(bench.pipeline.functions["setup-proxy"].gauges(), 0),
    }
    talk = Client(bench)
    talk.syn()
    assert len(talk.back()) == 1  # and it still serves


def test_a_server_of_an_older_connection_is_reset():
    talk = Client(cookies())
    talk.syn()
    talk.back()
    (reset,) = talk.from_server(seq=5, ack=99, flags=ACK)
    assert reset.side is INSIDE and reset.flags == RST and reset.seq == 99
    assert reset.key == IPV4_KEY and reverse_key(reset.key) == talk.answer.key
