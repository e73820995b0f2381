"""What the firewall lets through, what it drops, and what it tells the sender."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Seen
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

FIRST, ANSWER = (CLIENT_ISN + 1) % (1 << 32), SERVER_ISN + 1


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


class Wall:
    """A firewall and two ends; the client is outside."""

    def __init__(self, key: bytes, **options: object) -> None:
        self.bench = Bench(("firewall", options))
        self.key = key

    def out(self, flags: int = ACK, **fields: Any) -> list[Seen]:
        known = {"seq": FIRST, "ack": ANSWER, "window": 500}
        return self.bench.put(OUTSIDE, tcp_segment(self.key, flags=flags, **{**known, **fields}))

    def back(self, flags: int = ACK, **fields: Any) -> list[Seen]:
        known = {"seq": ANSWER, "ack": FIRST, "window": 500}
        data = tcp_segment(reverse_key(self.key), flags=flags, **{**known, **fields})
        return self.bench.put(INSIDE, data)

    def syn(self) -> list[Seen]:
        return self.out(SYN, seq=CLIENT_ISN, ack=0, options=LINUX.encode(), window=64240)

    def syn_ack(self) -> list[Seen]:
        options = LINUX_SERVER.encode()
        return self.back(SYN | ACK, seq=SERVER_ISN, options=options, window=65160)

    def open(self) -> None:
        assert self.syn() and self.syn_ack() and self.out()

    @property
    def counters(self) -> dict[str, int]:
        function = self.bench.pipeline.functions["firewall"]
        return dict(function.counters) | function.gauges()

    def at_port(self, port: int) -> Wall:
        """Another client of the same firewall."""
        other = Wall.__new__(Wall)
        other.bench = self.bench
        other.key = self.key[:-4] + struct.pack("!HH", port, 80)
        return other


def test_a_connection_passes_both_ways_until_a_minute_after_its_end(key):
    wall = Wall(key)
    wall.open()
    assert wall.counters["now-open"] == 1 and wall.counters["now-half-open"] == 0
    assert wall.out(payload=b"request") and wall.back(payload=b"response")
    assert wall.out(FIN | ACK) and wall.back(FIN | ACK) and wall.out()
    wall.bench.wait(70)
    assert wall.counters["now-open"] == 0
    assert wall.back() == []
    assert wall.bench.dropped == {"no-connection": 1}


def test_segments_of_no_connection_are_dropped(key):
    wall = Wall(key)
    for flags in (ACK, SYN | ACK, FIN | ACK, RST, SYN | FIN, 0):
        assert wall.out(flags) == []
    assert wall.bench.dropped == {"no-connection": 6}


@pytest.mark.parametrize(
    ("allow", "from_outside", "from_inside"),
    [("both", 1, 1), ("inward", 1, 0), ("outward", 0, 1)],
)
def test_connections_are_opened_from_where_they_may_be(key, allow, from_outside, from_inside):
    wall = Wall(key, allow=allow)
    assert len(wall.syn()) == from_outside
    other = wall.at_port(41000)
    assert len(other.back(SYN, ack=0)) == from_inside
    if from_inside:
        assert other.out(SYN | ACK) and other.back() and other.out(payload=b"x")


def test_new_connections_per_second_are_limited_and_old_ones_unharmed(key):
    wall = Wall(key, syn_limit=2)
    wall.open()
    assert [len(wall.at_port(port).syn()) for port in range(41000, 41003)] == [1, 0, 0]
    assert wall.out(payload=b"x")
    assert wall.bench.dropped == {"syn-limit": 2}
    wall.bench.wait(0.5)
    assert [len(wall.at_port(port).syn()) for port in range(42000, 42002)] == [1, 0]
    wall.bench.wait(100)
    assert [len(wall.at_port(port).syn()) for port in range(43000, 43003)] == [1, 1, 0]


def test_half_open_connections_are_limited_and_time_out(key):
    wall = Wall(key, half_open_limit=2, half_open_timeout=10.0)
    wall.open()  # complete: it does not count
    assert [len(wall.at_port(port).syn()) for port in range(41000, 41003)] == [1, 1, 0]
    assert len(wall.at_port(41000).syn()) == 1  # a repeated SYN is no other connection
    assert wall.bench.dropped == {"half-open-limit": 1}
    wall.bench.wait(11)
    assert wall.counters["idle"] == 2
    assert wall.at_port(41002).syn()


def test_a_handshake_is_complete_only_with_an_answer(key):
    wall = Wall(key)
    wall.syn()
    wall.out()
    assert wall.counters["now-half-open"] == 1
    wall.syn_ack()
    wall.back()
    assert wall.counters["now-half-open"] == 1
    wall.out()
    assert wall.counters["now-open"] == 1 and wall.counters["established"] == 1


@pytest.mark.parametrize("reject", ["reset", "icmp", "silent"])
def test_an_idle_connection_is_forgotten_and_its_sender_told(key, reject):
    wall = Wall(key, idle_timeout=5.0, reject=reject)
    wall.open()
    wall.bench.wait(4)
    assert wall.out(payload=b"in time")
    wall.bench.wait(4)
    assert wall.out(payload=b"again")
    wall.bench.wait(6)
    told = wall.out(payload=b"too late")
    assert wall.bench.dropped == {"no-connection": 1}
    if reject == "silent":
        assert told == []
        return
    (answer,) = told
    assert answer.side is OUTSIDE and answer.right
    if reject == "reset":
        assert answer.flags == RST and answer.seq == ANSWER
    else:
        assert answer.transport[:2] == (b"\x03\x0d" if answer.version == 4 else b"\x01\x01")
    assert wall.counters["rejected"] == 1


def test_a_refused_syn_is_reset_and_a_reset_never(key):
    wall = Wall(key, allow="outward", reject="reset")
    (answer,) = wall.syn()
    assert answer.flags == RST | ACK and answer.ack == FIRST
    assert wall.out(RST) == []


def strict(key: bytes) -> Wall:
    wall = Wall(key, strict_windows=True)
    wall.open()  # either side announces 500 << 7 = 64000 bytes
    return wall


def _block(left: int, right: int) -> bytes:
    return struct.pack("!BBBBII", 1, 1, 5, 10, left, right)


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"seq": FIRST, "payload": bytes(1000)}, True),
        ({"seq": FIRST + 65160 - 100, "payload": bytes(100)}, True),
        ({"seq": FIRST + 65160, "payload": bytes(100)}, True),  # the last place to begin
        ({"seq": FIRST + 65161, "payload": bytes(100)}, False),
        ({"seq": FIRST - 65260, "payload": bytes(100)}, True),  # the last place to end
        ({"seq": FIRST - 65261, "payload": bytes(100)}, False),
        ({"seq": FIRST - 1}, True),  # a keepalive
        ({"seq": FIRST - 66_000}, False),
        ({"seq": FIRST + 200_000, "flags": RST}, False),
        ({"seq": FIRST, "flags": RST}, True),
        ({"ack": ANSWER + 1}, False),  # of what was not sent
        ({"ack": ANSWER - 60_000}, True),
        ({"ack": ANSWER - 70_000}, False),
        ({"ack": ANSWER, "options": _block(ANSWER, ANSWER + 1)}, False),  # SACK of the same
        ({"ack": ANSWER - 70_000, "options": _block(ANSWER - 9, ANSWER)}, True),
    ],
)
def test_strict_windows(key, fields, passes):
    numbers = {name: fields[name] % (1 << 32) for name in ("seq", "ack") if name in fields}
    wall = strict(key)
    assert bool(wall.out(**{**fields, **numbers})) is passes
    assert wall.bench.dropped == ({} if passes else {"out-of-window": 1})
    lax = Wall(key)
    lax.open()
    assert lax.out(**{**fields, **numbers})


def test_the_window_moves_with_what_is_acknowledged_and_is_scaled(key):
    wall = strict(key)
    beyond: dict[str, Any] = {"seq": (FIRST + 65161) % (1 << 32), "payload": bytes(1000)}
    assert wall.out(**beyond) == []
    for start in range(0, 65160, 1086):
        assert wall.out(seq=(FIRST + start) % (1 << 32), payload=bytes(1086))
    assert wall.back(ack=(FIRST + 65160) % (1 << 32), window=8)  # 1024 bytes more
    assert wall.out(**beyond)
    assert wall.out(seq=(FIRST + 66185) % (1 << 32), payload=bytes(25)) == []


def test_a_stray_syn_does_not_move_the_window(key):
    wall = strict(key)
    assert wall.out(SYN, seq=1 << 30, ack=0)  # the server has to be asked
    assert wall.out(payload=b"as before") and wall.back(payload=b"as before")
    assert wall.out(seq=(1 << 30) + 1) == [] and wall.back(SYN | ACK, seq=9, ack=1 << 30) == []


REBORN, AGAIN = 0x70000000, 0x31000000  # numbers of the client and the server after a loss of state


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("idle", [0, 100])
def test_a_half_open_connection_is_discovered_and_replaced(key, strict, idle):
    """RFC 9293 section 3.5.1, figure 9, whether the firewall knows the old connection or not."""
    wall = Wall(key, strict_windows=strict, idle_timeout=60.0)
    wall.open()
    wall.bench.wait(idle)
    assert wall.out(SYN, seq=REBORN, ack=0)
    assert wall.back()  # the challenge ACK, of the old connection
    assert wall.out(RST, seq=FIRST, ack=0)
    assert wall.out(SYN, seq=REBORN, ack=0) and wall.counters["now-half-open"] == 1
    assert wall.back(SYN | ACK, seq=AGAIN, ack=REBORN + 1)
    assert wall.out(seq=REBORN + 1, ack=AGAIN + 1, payload=b"request")
    assert wall.back(seq=AGAIN + 1, ack=REBORN + 8, payload=b"response")
    assert wall.counters["now-open"] == 1 and wall.bench.dropped == {}


def test_a_reset_that_answers_no_challenge_leaves_the_opening(key):
    wall = Wall(key)
    assert wall.syn() and wall.back(ack=77) and wall.out(RST, seq=78 + (1 << 30), ack=0)
    assert wall.counters["now-half-open"] == 1
    assert wall.out(RST, seq=77, ack=0) and wall.counters["now-half-open"] == 0


@pytest.mark.parametrize("strict", [False, True])
def test_a_server_that_has_lost_its_state_accepts_or_refuses_the_next_connection(key, strict):
    wall = Wall(key, strict_windows=strict)
    wall.open()
    assert wall.out(SYN, seq=REBORN, ack=0) and wall.back(RST | ACK, seq=0, ack=REBORN + 1)
    assert wall.out(SYN, seq=REBORN, ack=0)
    assert wall.back(SYN | ACK, seq=AGAIN, ack=REBORN + 1)
    assert wall.out(seq=REBORN + 1, ack=AGAIN + 1, payload=b"request")
    assert wall.back(seq=AGAIN + 1, ack=REBORN + 8, payload=b"response")
    assert wall.bench.dropped == {}


def test_strict_windows_let_a_refusal_pass(key):
    wall = Wall(key, strict_windows=True)
    assert wall.syn() and wall.back(RST | ACK, seq=0, ack=FIRST - 100_000) == []
    assert wall.back(RST | ACK, seq=0)
    assert wall.counters["now-half-open"] == 0


def test_sack_blocks_count_only_where_they_were_permitted(key):
    wall = Wall(key, strict_windows=True)
    assert wall.out(SYN, seq=CLIENT_ISN, ack=0) and wall.back(SYN | ACK, seq=SERVER_ISN)
    assert wall.out(ack=ANSWER, options=_block(ANSWER, ANSWER + 999))


def test_switched_off_it_lets_all_pass_and_set_it_obeys(key):
    wall = Wall(key, allow="outward")
    assert wall.syn() == []
    wall.bench.pipeline.set_options("firewall", {"allow": "both"})
    wall.open()
    wall.bench.pipeline.set_options("firewall", {"idle_timeout": 1.0})
    wall.bench.wait(2)
    assert wall.out() == []
    wall.bench.pipeline.switch("firewall", False)
    assert wall.out()


@pytest.mark.parametrize("strict", [False, True])
def test_where_the_answer_takes_another_way_nothing_gets_through(key, strict):
    wall = Wall(key, strict_windows=strict)
    assert wall.syn()
    assert wall.out() == [] and wall.out(payload=b"request") == []
    assert wall.back(FIN | ACK) == []
    assert wall.bench.dropped == {"unanswered": 3}
    assert wall.syn() and wall.syn_ack() and wall.out()  # the way may come back


def test_who_is_refused_is_not_half_open_any_more(key):
    wall = Wall(key, half_open_limit=1)
    for _ in range(3):
        assert wall.syn() and wall.counters["now-half-open"] == 1
        assert wall.back(RST | ACK, seq=0)
        assert wall.counters["now-half-open"] == wall.counters["now-open"] == 0
    assert wall.syn() and wall.back(RST | ACK, seq=0, ack=FIRST - 9)
    assert wall.counters["now-half-open"] == 1  # nobody believes that one
