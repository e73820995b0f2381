"""The setup proxy's handshakes: who is answered, called, reset, and when."""

from __future__ import annotations

import struct

import pytest
from box_bench import CLIENT_ISN, LINUX_SERVER, SERVER_ISN, Bench, Dialogue
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, loaded

from testbed.middlebox.functions.setup_proxy import openings
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

FIRST = (CLIENT_ISN + 1) & 0xFFFFFFFF


def proxy(**options: object) -> Bench:
    return Bench(("setup-proxy", options))


def counters(bench: Bench) -> dict[str, int]:
    function = bench.pipeline.functions["setup-proxy"]
    return dict(function.counters) | function.gauges()


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def test_a_syn_is_answered_and_the_server_called_at_once(key):
    answer, call = Dialogue(proxy(), key).syn()
    assert answer.side is OUTSIDE and answer.flags == SYN | ACK and answer.ack == FIRST
    assert answer.key == reverse_key(key) and answer.window == 65535 and answer.right
    assert call.side is INSIDE and call.flags == SYN and call.seq == CLIENT_ISN
    assert call.key == key and call.window == 64240 and call.right
    assert set(answer.options) == set(call.options) == {2, 3, 4, 8}
    assert call.options[3] == answer.options[3] == b"\x07"
    assert call.options[8] == struct.pack("!II", 1000, 0)
    assert answer.options[8][4:] == struct.pack("!I", 1000)


def test_serial_opening_calls_after_the_clients_handshake(key):
    talk = Dialogue(proxy(opening="serial"), key)
    assert [packet.side for packet in talk.syn()] == [OUTSIDE]
    (call,) = talk.third()
    assert call.side is INSIDE and call.flags == SYN and call.seq == CLIENT_ISN
    assert call.options[8] == struct.pack("!II", 1020, 0)
    (ack,) = talk.syn_ack()
    assert ack.flags == ACK and ack.ack == SERVER_ISN + 1


def test_the_server_leg_is_completed_without_waiting_for_the_client(key):
    talk = Dialogue(proxy(), key)
    talk.syn()
    (ack,) = talk.syn_ack()
    assert (ack.side, ack.flags, ack.seq, ack.ack) == (INSIDE, ACK, FIRST, SERVER_ISN + 1)
    assert ack.window == 64240 >> 7
    assert ack.options[8] == struct.pack("!II", 1000, 777000)
    assert ack.right
    assert talk.third() == []  # the server has its acknowledgement already


@pytest.mark.parametrize("server_first", [True, False])
def test_drop_throws_the_handshake_payload_away_and_hold_delivers_it(key, server_first):
    for mode in ("drop", "hold"):
        bench = proxy(handshake_data=mode)
        talk = Dialogue(bench, key)
        talk.syn()
        seen = talk.syn_ack() if server_first else []
        seen += talk.third(payload=b"request")
        seen += [] if server_first else talk.syn_ack()
        data = [packet for packet in seen if packet.side is INSIDE and packet.payload]
        if mode == "drop":
            assert data == []
            assert bench.dropped == {"handshake-data": 1}
        else:
            (packet,) = data
            assert packet.payload == b"request" and packet.right
            assert packet.ack == SERVER_ISN + 1 and packet.seq == FIRST
            assert bench.dropped == {}
        assert counters(bench)["now-held-bytes"] == 0


@pytest.mark.parametrize("opening", ["simultaneous", "serial"])
def test_an_answer_without_window_is_followed_by_a_window_update(key, opening):
    bench = proxy(answer_window=0, opening=opening)
    talk = Dialogue(bench, key)
    answer = talk.syn()[0]
    assert answer.flags == SYN | ACK and answer.window == 0 and answer.right
    first = talk.third()
    assert [packet for packet in first if packet.side is OUTSIDE] == []
    (update,) = [packet for packet in talk.syn_ack() if packet.side is OUTSIDE]
    assert update.flags == ACK and update.payload == b"" and update.right
    assert update.key == reverse_key(key)
    assert (update.seq, update.ack) == ((talk.proxy_isn + 1) & 0xFFFFFFFF, FIRST)
    assert update.window == 65160 >> 7
    assert update.options[8] == answer.options[8][:4] + struct.pack("!I", 1020)
    assert counters(bench)["windows-opened"] == 1
    (data,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK, payload=b"request")
    assert data.payload == b"request" and data.ack == SERVER_ISN + 1


def test_the_window_update_waits_for_the_clients_handshake_and_knows_its_scaling():
    talk = Dialogue(proxy(answer_window=0), client=HandshakeOptions(mss=1460))
    talk.syn()
    assert [packet.side for packet in talk.syn_ack(HandshakeOptions(mss=1460))] == [INSIDE]
    (update,) = talk.third()
    assert update.side is OUTSIDE and update.window == 65160 and update.options == {}


def test_only_an_answer_without_window_is_followed_by_an_update():
    bench = proxy(answer_window=1000)
    talk = Dialogue(bench)
    assert talk.syn()[0].window == 1000
    talk.third()
    assert [packet.side for packet in talk.syn_ack()] == [INSIDE]
    assert "windows-opened" not in counters(bench)


def test_what_is_dropped_with_the_handshake_goes_through_when_sent_again():
    talk = Dialogue(proxy(handshake_data="drop"))
    talk.syn()
    talk.syn_ack()
    assert talk.third(payload=b"request") == []
    (again,) = talk.third(payload=b"request")
    assert again.payload == b"request"


def test_without_the_bare_acknowledgement_the_first_data_completes_the_handshake():
    bench = proxy(handshake_data="drop")
    talk = Dialogue(bench)
    talk.syn()
    talk.syn_ack()
    later = {"seq": FIRST + 100, "ack": talk.proxy_isn + 1, "flags": ACK, "payload": b"late"}
    assert talk.from_client(**later) == []
    assert bench.dropped == {"handshake-data": 1}


def test_handshake_data_can_be_switched_between_two_connections():
    bench = proxy(handshake_data="drop")
    first, second = Dialogue(bench), Dialogue(bench, IPV4_KEY[:8] + b"\x99\x99\x00\x50")
    for talk in (first, second):
        talk.syn()
        talk.syn_ack()
    assert first.third(payload=b"request") == []
    bench.pipeline.set_options("setup-proxy", {"handshake_data": "hold"})
    assert [packet.payload for packet in second.third(payload=b"request")] == [b"request"]


@pytest.mark.parametrize("mode", ["hold", "drop"])
def test_early_data_waits_for_the_server_or_is_dropped(mode):
    bench = proxy(early_data=mode)
    talk = Dialogue(bench)
    talk.syn()
    talk.third()
    for at, payload in ((0, b"first"), (5, b"second")):
        assert not talk.from_client(
            seq=FIRST + at, ack=talk.proxy_isn + 1, flags=ACK | PSH, payload=payload
        )
    assert bench.pipeline.counters().held == (2 if mode == "hold" else 0)
    payloads = [packet.payload for packet in talk.syn_ack()]
    assert payloads == ([b"", b"first", b"second"] if mode == "hold" else [b""])
    assert bench.dropped == ({} if mode == "hold" else {"early-data": 2})


def test_data_that_is_sent_again_is_held_once():
    bench = proxy()
    talk = Dialogue(bench)
    talk.syn()
    talk.third(payload=b"re")
    talk.third(payload=b"re")
    talk.third(payload=b"request")
    talk.third(payload=b"re")
    assert [packet.payload for packet in talk.syn_ack()] == [b"", b"request"]
    assert bench.dropped == {"held-already": 3}


def test_held_data_is_bounded():
    bench = proxy()
    talk = Dialogue(bench)
    talk.syn()
    talk.third()
    for at in range(0, 200_000, 1000):
        talk.from_client(seq=FIRST + at, ack=talk.proxy_isn + 1, flags=ACK, payload=bytes(1000))
    assert counters(bench)["now-held-bytes"] <= 2 * 65535
    assert bench.dropped["held-too-much"] > 0


def test_what_all_connections_hold_together_is_bounded(monkeypatch):
    monkeypatch.setattr(openings, "_HELD_BY_ALL", 500)
    bench = proxy()
    for port in range(10):
        talk = Dialogue(bench, IPV4_KEY[:8] + bytes((1, port, 0, 80)))
        talk.syn()
        talk.third(payload=bytes(100))
    assert 300 < counters(bench)["now-held-bytes"] <= 500
    assert bench.dropped["held-too-much"] == 7


def test_only_what_comes_with_the_handshake_is_dropped_by_a_dropping_proxy():
    bench = proxy(handshake_data="drop")
    talk = Dialogue(bench)
    talk.syn()
    talk.third(payload=b"lost")
    talk.from_client(seq=FIRST + 4, ack=talk.proxy_isn + 1, flags=ACK, payload=b"kept")
    assert [packet.payload for packet in talk.syn_ack()] == [b"", b"kept"]
    assert bench.dropped == {"handshake-data": 1}


def test_a_fin_before_the_server_answers_is_not_lost():
    talk = Dialogue(proxy(handshake_data="drop"))
    talk.syn()
    talk.third(fin=True)
    assert [packet.flags for packet in talk.syn_ack()] == [ACK, ACK | FIN]


def test_data_on_the_syn_is_not_accepted(key):
    """As towards any TCP Fast Open SYN without a valid cookie (RFC 7413 section 4.2.2)."""
    talk = Dialogue(proxy(), key)
    answer, call = talk.syn(payload=b"fast open")
    assert answer.ack == FIRST
    assert call.payload == b"" and 34 not in call.options


def test_lost_answers_and_calls_are_repeated_with_backoff():
    talk = Dialogue(proxy())
    talk.syn()
    times = []
    for _ in range(200):
        seen = talk.bench.wait(0.1)
        if seen:
            assert [(p.side, p.flags) for p in seen] == [(OUTSIDE, SYN | ACK), (INSIDE, SYN)]
            times.append(round(talk.bench.now - 1000, 1))
    assert times == [1.0, 3.0, 7.0, 15.0]


def test_only_the_leg_that_is_not_up_is_repeated():
    client_up, server_up = Dialogue(proxy()), Dialogue(proxy())
    client_up.syn()
    client_up.third()
    assert [packet.side for packet in client_up.bench.wait(1.5)] == [INSIDE]
    server_up.syn()
    server_up.syn_ack()
    assert [packet.side for packet in server_up.bench.wait(1.5)] == [OUTSIDE]


def test_a_repeated_answer_is_the_same(key):
    talk = Dialogue(proxy(), key)
    first, _ = talk.syn()
    talk.bench.now += 0.5
    (second,) = talk.syn()
    assert first.data == second.data


def test_a_repeated_syn_ack_of_the_server_is_acknowledged_again(key):
    talk = Dialogue(proxy(), key)
    talk.syn()
    (first,) = talk.syn_ack()
    assert [packet.data for packet in talk.syn_ack()] == [first.data]
    talk.third()
    (later,) = talk.syn_ack()
    assert later.side is INSIDE and later.ack == SERVER_ISN + 1 and later.right


@pytest.mark.parametrize("mode", ["simultaneous", "serial"])
def test_a_refusing_server_resets_the_client(key, mode):
    bench = proxy(opening=mode)
    talk = Dialogue(bench, key)
    talk.syn()
    talk.third(payload=b"request")
    (packet,) = talk.from_server(seq=0, ack=FIRST, flags=RST | ACK)
    assert packet.side is OUTSIDE and packet.flags == RST | ACK and packet.right
    assert (packet.seq, packet.ack) == ((talk.proxy_isn + 1) & 0xFFFFFFFF, FIRST)
    assert bench.dropped == {"refused": 1}
    assert counters(bench)["now-opening"] == counters(bench)["now-held-bytes"] == 0
    assert bench.wait(100) == []


def test_a_reset_with_a_wrong_acknowledgement_does_not_refuse():
    talk = Dialogue(proxy())
    talk.syn()
    assert talk.from_server(seq=0, ack=FIRST + 1, flags=RST | ACK) == []
    assert counters(talk.bench)["now-opening"] == 1


@pytest.mark.parametrize("action", ["reset", "silent"])
def test_a_silent_server_times_out(action):
    bench = proxy(half_open_timeout=5, on_timeout=action)
    talk = Dialogue(bench)
    talk.syn()
    talk.third(payload=b"request")
    seen = [packet for packet in bench.wait(6) if packet.flags != SYN]
    if action == "silent":
        assert seen == []
    else:
        to_client, to_server = seen
        assert to_client.side is OUTSIDE and to_client.flags == RST | ACK
        assert to_client.seq == (talk.proxy_isn + 1) & 0xFFFFFFFF
        assert to_server.side is INSIDE and to_server.flags == RST and to_server.seq == FIRST
    assert bench.dropped == {"timed-out": 1}
    assert counters(bench)["timed-out"] == 1 and counters(bench)["now-opening"] == 0


def test_a_client_that_never_completes_times_out_and_the_server_is_let_go():
    bench = proxy(half_open_timeout=5)
    talk = Dialogue(bench)
    talk.syn()
    talk.syn_ack()
    *_, to_client, to_server = bench.wait(6)
    assert to_client.flags & RST and to_client.side is OUTSIDE
    assert to_server.flags == RST | ACK and to_server.side is INSIDE
    assert (to_server.seq, to_server.ack) == (FIRST, SERVER_ISN + 1)


def test_the_time_out_ends_with_the_handshake():
    bench = proxy(half_open_timeout=5)
    Dialogue(bench).open()
    assert bench.wait(60) == []
    assert counters(bench)["now-spliced"] == 1


def test_a_client_that_resets_while_opening_takes_the_call_back(key):
    talk = Dialogue(proxy(), key)
    talk.syn()
    (packet,) = talk.from_client(seq=FIRST, flags=RST)
    assert packet.side is INSIDE and packet.flags == RST and packet.seq == FIRST
    assert talk.bench.wait(100) == []


def test_a_reset_out_of_window_is_ignored():
    talk = Dialogue(proxy())
    talk.syn()
    assert talk.from_client(seq=FIRST + 1_000_000, flags=RST) == []
    assert counters(talk.bench)["now-opening"] == 1


@pytest.mark.parametrize("window", [0, 1000])
def test_a_reset_within_the_window_is_asked_back(key, window):
    """RFC 5961 section 3.2; the client knows where it stands and resets there."""
    dialogue = Dialogue(Bench(("setup-proxy", {"answer_window": window})), key)
    dialogue.syn()
    asked = dialogue.from_client(seq=CLIENT_ISN + 500, flags=RST)
    assert len(asked) == (window > 0)
    for challenge in asked:
        assert (challenge.side, challenge.flags, challenge.right) == (OUTSIDE, ACK, True)
        assert challenge.ack == (CLIENT_ISN + 1) % (1 << 32)
    assert dialogue.from_client(seq=CLIENT_ISN + 1001, flags=RST) == []
    assert dialogue.bench.dropped == {"unacceptable-segment": 2}
    (taken_back,) = dialogue.from_client(seq=CLIENT_ISN + 1, flags=RST)
    assert (taken_back.side, taken_back.flags) == (INSIDE, RST)


def test_a_reset_behind_what_was_held_ends_the_opening(key):
    dialogue = Dialogue(Bench(("setup-proxy", {})), key)
    dialogue.syn()
    dialogue.third(payload=b"x" * 100)
    (taken_back,) = dialogue.from_client(seq=CLIENT_ISN + 101, flags=RST)
    assert taken_back.side is INSIDE


@pytest.mark.parametrize(("away", "ends"), [(0, True), (5, True), (6, False), (-1, False)])
def test_a_server_that_is_ahead_resets_where_it_stands(key, away, ends):
    bench = Bench(("setup-proxy", {}))
    dialogue = Dialogue(bench, key)
    dialogue.syn()
    dialogue.syn_ack()
    dialogue.from_server(seq=SERVER_ISN + 1, ack=CLIENT_ISN + 1, flags=ACK, payload=b"hello")
    assert dialogue.from_server(seq=SERVER_ISN + 1 + away, flags=RST)  # the client's to judge
    assert (bench.pipeline.functions["setup-proxy"].gauges()["now-opening"] == 0) is ends


def test_an_unacceptable_acknowledgement_is_answered_with_a_reset():
    """RFC 9293 section 3.10.7.4, SYN-RECEIVED STATE."""
    talk = Dialogue(proxy())
    talk.syn()
    (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 5, flags=ACK)
    assert packet.side is OUTSIDE and packet.flags == RST
    assert packet.seq == (talk.proxy_isn + 5) & 0xFFFFFFFF
    assert counters(talk.bench)["now-opening"] == 1


def test_an_old_connection_of_the_server_is_reset():
    """RFC 9293 section 3.5.1, half-open connections."""
    talk = Dialogue(proxy())
    talk.syn()
    (packet,) = talk.from_server(seq=5, ack=99, flags=ACK)
    assert packet.side is INSIDE and packet.flags == RST and packet.seq == 99


def test_the_server_may_speak_first(key):
    talk = Dialogue(proxy(), key)
    talk.syn()
    talk.syn_ack()
    (greeting,) = talk.from_server(
        seq=SERVER_ISN + 1, ack=FIRST, flags=ACK | PSH, payload=b"220 hello"
    )
    assert greeting.side is OUTSIDE and greeting.payload == b"220 hello" and greeting.right
    assert greeting.seq == (talk.proxy_isn + 1) & 0xFFFFFFFF
    # The client's next segment ends its handshake and acknowledges the greeting: it must arrive.
    (ack,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 10, flags=ACK)
    assert ack.side is INSIDE and ack.ack == SERVER_ISN + 10


def test_connections_from_inside_pass_untouched(key):
    bench = proxy()
    syn = tcp_segment(key, seq=1, flags=SYN, options=LINUX.encode())
    (packet,) = bench.put(INSIDE, syn)
    assert packet.side is OUTSIDE and packet.data[10:] != b""
    assert packet.transport == bytes(syn[-len(packet.transport) :])


def test_a_new_syn_uses_the_ports_of_a_closed_connection_again():
    bench = proxy()
    talk = Dialogue(bench)
    talk.open()
    end = {"flags": FIN | ACK}
    talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, **end)
    (fin,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST + 1, **end)
    assert fin.side is OUTSIDE
    (last,) = talk.from_client(seq=FIRST + 1, ack=talk.proxy_isn + 2, flags=ACK)
    assert last.ack == SERVER_ISN + 2  # still translated
    answer, call = talk.syn(isn=5_000_000)
    assert answer.flags == SYN | ACK and call.seq == 5_000_000


def test_a_server_that_ends_before_the_clients_handshake_does_is_remembered():
    talk = Dialogue(proxy())
    talk.syn()
    talk.syn_ack()
    talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=FIN | ACK, payload=b"bye")
    talk.third()
    talk.from_client(seq=FIRST, ack=talk.proxy_isn + 5, flags=FIN | ACK)
    assert len(talk.syn(isn=5_000_000)) == 2


def test_a_server_that_has_forgotten_may_answer_a_new_syn_itself():
    talk = Dialogue(proxy())
    talk.open()
    talk.syn(isn=5_000_000)
    answer = {"seq": 99, "ack": 5_000_001, "flags": SYN | ACK}
    (packet,) = talk.from_server(**answer)
    assert (packet.side, packet.seq, packet.ack) == (OUTSIDE, 99, 5_000_001)
    (packet,) = talk.from_client(seq=5_000_001, ack=100, flags=ACK, payload=b"x")
    assert (packet.side, packet.ack) == (INSIDE, 100)


def test_a_new_syn_on_a_live_connection_is_the_servers_to_judge():
    """RFC 5961 section 4.2: the server challenges it."""
    talk = Dialogue(proxy())
    talk.open()
    (packet,) = talk.syn(isn=5_000_000)
    assert packet.side is INSIDE and packet.flags == SYN and packet.seq == 5_000_000


def test_a_client_that_begins_anew_while_opening_replaces_its_old_attempt():
    talk = Dialogue(proxy())
    talk.syn()
    kinds = [(packet.side, packet.flags) for packet in talk.syn(isn=5_000_000)]
    assert kinds == [(INSIDE, RST), (OUTSIDE, SYN | ACK), (INSIDE, SYN)]


def test_a_client_that_begins_anew_while_disabled_gets_the_server_itself():
    talk = Dialogue(proxy())
    talk.syn()
    talk.bench.pipeline.switch("setup-proxy", False)
    kinds = [(packet.side, packet.flags) for packet in talk.syn(isn=5_000_000)]
    assert kinds == [(INSIDE, RST), (INSIDE, SYN)]


@pytest.mark.parametrize("flags", [FIN | ACK, RST])
def test_a_closed_connection_is_forgotten_after_a_while(flags):
    bench = proxy()
    talk = Dialogue(bench)
    talk.open()
    talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=flags)
    talk.from_server(seq=SERVER_ISN + 1, ack=FIRST + 1, flags=flags)
    bench.wait(59)
    assert counters(bench)["now-spliced"] == 1
    bench.wait(2)
    assert counters(bench)["now-spliced"] == 0


def test_a_port_used_again_and_again_leaves_nothing_behind():
    bench = proxy()
    talk = Dialogue(bench)
    for _ in range(300):
        talk.open()
        talk.from_client(seq=FIRST, flags=RST)
    assert counters(bench)["spliced"] == 300 and len(bench.timers) < 200


def test_a_reset_that_nobody_believes_does_not_end_the_translation():
    bench = proxy()
    talk = Dialogue(bench)
    talk.open()
    talk.from_client(seq=FIRST + 1_000_000, flags=RST)
    for _ in range(10):
        bench.wait(30)
        (packet,) = talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK)
        assert packet.ack == SERVER_ISN + 1


def test_an_idle_connection_is_forgotten():
    bench = proxy(idle_timeout=100)
    talk = Dialogue(bench)
    talk.open()
    bench.wait(60)
    talk.from_client(seq=FIRST, ack=talk.proxy_isn + 1, flags=ACK)
    bench.wait(60)
    assert counters(bench)["now-spliced"] == 1
    bench.wait(60)
    assert counters(bench)["now-spliced"] == 0 and counters(bench)["idle"] == 1
    assert len(bench.timers) == 0


def test_disabled_it_lets_new_connections_pass_and_carries_old_ones_on():
    bench = proxy(handshake_data="drop")
    old, opening = Dialogue(bench), Dialogue(bench, IPV4_KEY[:8] + b"\x01\x01\x00\x50")
    old.open()
    opening.syn()
    bench.pipeline.switch("setup-proxy", False)
    (packet,) = old.from_client(seq=FIRST, ack=old.proxy_isn + 1, flags=ACK, payload=b"x")
    assert packet.ack == SERVER_ISN + 1
    (ack,) = opening.syn_ack()
    assert ack.flags == ACK
    new = Dialogue(bench, IPV4_KEY[:8] + b"\x02\x02\x00\x50")
    (syn,) = new.syn()
    assert syn.side is INSIDE and syn.seq == CLIENT_ISN and syn.options[2] == b"\x05\xb4"
    new.proxy_isn = SERVER_ISN
    (data,) = new.third(payload=b"request")
    assert data.side is INSIDE and data.payload == b"request"
    bench.pipeline.switch("setup-proxy", True)
    again = Dialogue(bench, IPV4_KEY[:8] + b"\x03\x03\x00\x50")
    assert len(again.syn()) == 2


def test_a_segment_with_a_wrong_checksum_opens_nothing():
    bench = proxy()
    syn = tcp_segment(IPV4_KEY, seq=1, flags=SYN)
    syn[-1] ^= 1
    assert bench.put(OUTSIDE, syn) == []
    assert bench.dropped == {"bad-checksum": 1} and counters(bench)["now-opening"] == 0


@pytest.mark.parametrize(
    ("error", "ends"),
    [((3, 1), True), ((3, 4), False), ((11, 0), True), ((1, 0), True), ((2, 0), False)],
)
def test_an_icmp_error_about_the_call_ends_it_if_it_is_fatal(error, ends):
    key = IPV6_KEY if error[0] in (1, 2) else IPV4_KEY
    talk = Dialogue(proxy(), key)
    _, call = talk.syn()
    about = loaded(call.data)
    source = bytes(key[-20:-4] if key is IPV6_KEY else key[4:8])
    seen = talk.bench.put(INSIDE, icmp_error(about, *error, source=source))
    if ends:
        (reset,) = seen
        assert reset.side is OUTSIDE and reset.flags == RST | ACK
    else:
        assert seen == []
    assert counters(talk.bench)["now-opening"] == (not ends)


def test_an_icmp_error_that_guesses_the_sequence_number_ends_nothing():
    talk = Dialogue(proxy())
    talk.syn()
    guess = loaded(tcp_segment(IPV4_KEY, seq=77, flags=SYN))
    assert talk.bench.put(INSIDE, icmp_error(guess, 3, 1, source=IPV4_KEY[4:8])) == []
    assert counters(talk.bench)["now-opening"] == 1


@pytest.mark.parametrize("mss", [None, 1000, 9000])
def test_the_mss_offered_fits_the_path_and_the_option(key, mss):
    bench = Bench(("setup-proxy", {"mss": mss}), mtu=1400)
    answer, call = Dialogue(bench, key, HandshakeOptions(mss=9000)).syn()
    most = 1000 if mss == 1000 else 1400 - (40 if key is IPV4_KEY else 60)
    for packet in (answer, call):
        assert struct.unpack("!H", packet.options[2])[0] == most


def test_the_clients_smaller_mss_is_told_to_the_server():
    _, call = Dialogue(proxy(), client=HandshakeOptions(mss=700)).syn()
    assert struct.unpack("!H", call.options[2])[0] == 700
    _, call = Dialogue(proxy(), client=HandshakeOptions()).syn()
    assert struct.unpack("!H", call.options[2])[0] == 536


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"sack": False}, 4), ({"timestamps": False}, 8), ({"window_scale": "none"}, 3)],
)
def test_an_option_switched_off_is_offered_to_neither_side(options, missing):
    answer, call = Dialogue(proxy(**options)).syn()
    assert missing not in answer.options and missing not in call.options
    assert len(answer.options) == len(call.options) == 3


def test_nothing_is_offered_that_the_client_did_not_ask_for():
    for packet in Dialogue(proxy(window_scale=9), client=HandshakeOptions(mss=1460)).syn():
        assert set(packet.options) == {2}


def test_a_given_window_scale_is_offered_to_the_client_only():
    answer, call = Dialogue(proxy(window_scale=3)).syn()
    assert answer.options[3] == b"\x03" and call.options[3] == b"\x07"


def test_when_too_many_are_opening_the_oldest_is_forgotten():
    bench = proxy(half_open_limit=2)
    talks = [Dialogue(bench, IPV4_KEY[:8] + bytes((1, n, 0, 80))) for n in range(3)]
    for talk in talks:
        talk.syn()
        talk.third(payload=b"request")
    assert counters(bench)["now-opening"] == 2 and counters(bench)["evicted-opening"] == 1
    assert bench.dropped == {"evicted": 1}
    assert [p.payload for p in talks[2].syn_ack(LINUX_SERVER)] == [b"", b"request"]


def test_when_there_are_too_many_the_one_used_least_recently_is_forgotten():
    bench = proxy(connection_limit=2)
    talks = [Dialogue(bench, IPV4_KEY[:8] + bytes((1, n, 0, 80))) for n in range(3)]
    for talk in talks[:2]:
        talk.open()
    talks[0].from_client(seq=FIRST, ack=talks[0].proxy_isn + 1, flags=ACK)
    talks[2].open()
    assert counters(bench)["evicted-spliced"] == 1
    (packet,) = talks[0].from_client(seq=FIRST, ack=talks[0].proxy_isn + 1, flags=ACK)
    assert packet.ack == SERVER_ISN + 1


def test_what_the_server_agrees_to_unasked_does_not_count():
    talk = Dialogue(proxy(window_scale="none", timestamps=False))
    talk.syn()
    (ack,) = talk.syn_ack(LINUX_SERVER)
    assert ack.options == {} and ack.window == 64240
    talk.third()
    (packet,) = talk.from_server(seq=SERVER_ISN + 1, ack=FIRST, flags=ACK, window=500)
    assert packet.window == 500
