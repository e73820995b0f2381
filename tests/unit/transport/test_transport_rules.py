"""Rules of TCP that show in odd circumstances alone: each test is one sentence of an RFC."""

from __future__ import annotations

from collections import Counter

import pytest
from tcp_pair import Clock, Pair

from testbed.transport.congestion import Congestion
from testbed.transport.connection import TcpConnection
from testbed.transport.sender import Sender
from testbed.transport.settings import TcpSettings
from testbed.transport.timeout import RetransmissionTimeout
from testbed.wire.craft import syn, tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import reverse_key

PLAIN = TcpSettings(sack=False, timestamps=False, window_scaling=False)


def wait_until_repeated(pair: Pair, connection: TcpConnection, sender: int) -> float:
    """Seconds from a segment to its repetition, with nothing that arrives."""
    pair.judge = lambda seen: []
    before = len(pair.of(sender, data=True))
    connection.write(b"lost")
    assert pair.run(100, lambda: len(pair.of(sender, data=True)) == before + 2)
    first, again = pair.of(sender, data=True)[before:]
    return again.at - first.at


def closed_in_turn(pair: Pair, settings: TcpSettings = PLAIN) -> TcpConnection:
    """The client in TIME-WAIT, with a byte that it has not read."""
    client, server = pair.open(settings)
    server.write(b"x")
    pair.run(1)
    client.finish()
    pair.run(1)
    server.close()
    assert pair.run(1, lambda: client.phase == "time-wait")
    pair.run(1)
    return client


def test_the_time_out_stays_long_until_a_round_trip_was_measured():
    """RFC 6298 section 5: what was sent again measures nothing (Karn's algorithm)."""
    pair = Pair()
    client, server = pair.open()
    pair.judge = lambda seen: [] if len(pair.of(0, data=True)) < 4 else [0.0]
    client.write(b"late")
    assert pair.run(100, lambda: server.read(9) == b"late")
    pair.run(1)
    assert wait_until_repeated(pair, client, 0) == pytest.approx(8.0)


def test_a_syn_that_was_answered_twice_measures_no_round_trip():
    pair = Pair(delay=0.2)
    pair.judge = lambda seen: [0.0, 0.39] if seen.flags == SYN else [0.0]
    _, server = pair.open()
    assert len([one for one in pair.wire if one.flags == SYN | ACK]) == 2
    server.write(b"measured")  # and acknowledged after 0.6 s
    pair.run(2)
    assert wait_until_repeated(pair, server, 1) == pytest.approx(0.6 + 4 * 0.3)


def test_after_a_time_out_no_recovery_begins_before_all_of_it_has_arrived():
    """RFC 6675 section 5.1."""
    pair, counters = Pair(), Counter[str]()
    congestion = Congestion(1000, 10_000)
    sent: list[tuple[int, int]] = []
    sender = Sender(
        Clock(pair),
        counters,
        congestion,
        RetransmissionTimeout(1.0),
        lambda position, payload, flags: sent.append((position, len(payload))),
        lambda: None,
        mss=1000,
        edge=1 << 20,
    )
    sender.append(bytes(40_000))
    sender.push()
    pair.run(1.5)
    assert counters["repeated"] == 1 and sent[-1] == (0, 1000)
    for number in range(1, 10):
        sender.hear(1000 * number, 1 << 20, (), bare=True)
    assert sender.nxt == 14_000
    window, repeated = congestion.window, counters["repeated"]
    sender.hear(9000, 1 << 20, ((11_000, 14_000),), bare=True)
    assert (congestion.window, counters["repeated"]) == (window, repeated)
    sender.hear(10_000, 1 << 20, ((11_000, 14_000),), bare=True)
    assert congestion.window < window and counters["repeated"] == repeated + 1


def test_what_is_sent_on_an_acknowledgement_echoes_its_time_stamp():
    """RFC 7323 section 4.3: TS.Recent is what came last, not last but one."""
    pair = Pair()
    client, server = pair.open()
    pair.transfer(client, server, bytes(100_000))
    stamps = {round(one.at + pair.delay, 6): one.options.timestamps for one in pair.of(1)}
    prompted = [one for one in pair.of(0, data=True) if round(one.at, 6) in stamps]
    assert len(prompted) > 20
    for one in prompted:
        came = stamps[round(one.at, 6)]
        assert one.options.timestamps and came and one.options.timestamps[1] == came[0]


def test_data_that_acknowledges_what_is_long_past_is_not_taken():
    """RFC 5961 section 5.2: a blind attacker guesses half of all numbers otherwise."""
    pair = Pair()
    client, _ = pair.open(PLAIN)
    asked, last = len(pair.of(0)), pair.of(0)[-1].packet
    seq, right = last.ack, last.seq
    their = reverse_key(last.key)
    for ack in (right - 100_000, right + 1):
        pair.arrive(0, tcp_segment(their, seq=seq, ack=ack, flags=ACK, payload=b"forged"))
    assert client.read(9) == b"" and len(pair.of(0)) == asked + 2
    pair.arrive(0, tcp_segment(their, seq=seq, ack=right - 1000, flags=ACK, payload=b"true"))
    assert client.read(9) == b"true"


def test_every_fin_that_comes_again_is_acknowledged():
    pair = Pair()
    closed_in_turn(pair)
    (fin,) = (one for one in pair.of(1) if one.flags & FIN)
    before = len(pair.of(0))
    for _ in range(3):
        pair.arrive(0, bytearray(fin.packet.buffer))
    assert len(pair.of(0)) == before + 3


def test_who_waits_in_time_wait_is_silent_and_stays_although_nobody_reads():
    pair = Pair()
    settings = TcpSettings(keepalive=True, keepalive_idle=5, keepalive_interval=1)
    client = closed_in_turn(pair, settings)
    client.close()
    before = len(pair.wire)
    pair.run(50)
    assert client.phase == "time-wait" and len(pair.wire) == before
    pair.run(20)
    assert client.phase == "closed" and pair.timers.timeout() is None


def test_a_syn_for_a_port_without_a_listener_ends_no_time_wait():
    pair = Pair()
    client = closed_in_turn(pair)
    last = pair.of(0)[-1].packet
    opening = syn(
        reverse_key(last.key), seq=last.ack + 1000, window=1, options=HandshakeOptions(mss=1460)
    )
    pair.arrive(0, opening)
    assert client.phase == "time-wait" and not pair.of(0)[-1].flags & RST


def test_half_open_connections_of_a_listener_that_goes_are_reset():
    """RFC 9293 section 3.10.5."""
    pair = Pair()
    pair.judge = lambda seen: [0.0] if seen.flags != ACK else []
    listener = pair.listen()
    client = pair.connect()
    pair.run(0.2)
    assert client.phase == "synchronized" and listener.opening
    pair.hosts[1].forget(listener)
    assert pair.run(0.2, lambda: client.phase == "closed")


def test_a_backlog_of_none_is_one():
    pair = Pair()
    listener = pair.listen(backlog=0)
    pair.connect()
    assert pair.run(1, lambda: bool(listener.ready))


def test_no_window_is_scaled_by_more_than_fourteen():
    """RFC 7323 section 2.3."""
    pair = Pair()
    _, server = pair.open(TcpSettings(receive_buffer=1 << 33))
    assert pair.wire[0].options.window_scale == 14
    server.write(bytes(5000))
    pair.run(1)
    assert pair.of(0)[-1].packet.window == 0xFFFF - 1
