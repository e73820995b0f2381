"""A TCP as RFC 9293 wants it, between two hosts without a kernel."""

from __future__ import annotations

import errno
import random
import struct
from itertools import pairwise

import pytest
from tcp_pair import PORT, A, B, Judge, Pair, Seen

from testbed.transport.settings import TcpSettings
from testbed.wire.craft import reset, syn, tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import OUTSIDE, Packet

DATA = random.Random(0).randbytes(300_000)
PLAIN = TcpSettings(sack=False, timestamps=False, window_scaling=False)


def key(source: bytes, port: int, destination: bytes, other: int) -> bytes:
    return source + destination + struct.pack("!HH", port, other)


def disorder(seed: int, share: float = 0.02) -> Judge:
    """Loses, repeats and delays segments."""
    chance = random.Random(seed)

    def judge(seen: Seen) -> list[float]:
        roll = chance.random()
        if roll < share:
            return []
        if roll < 2 * share:
            return [0.0, 0.001]
        return [0.02] if roll < 3 * share else [0.0]

    return judge


@pytest.mark.parametrize("settings", [TcpSettings(), PLAIN, TcpSettings(sack=False)])
@pytest.mark.parametrize("backwards", [False, True])
def test_data_arrives_whatever_the_path_does(settings: TcpSettings, backwards: bool):
    pair = Pair()
    pair.judge = disorder(3)
    client, server = pair.open(settings)
    ends = (server, client) if backwards else (client, server)
    assert pair.transfer(*ends, DATA) == DATA
    assert pair.run(10, lambda: ends[0].finished)
    assert pair.hosts[0].counters["repeated"] + pair.hosts[1].counters["repeated"] > 3


def test_the_options_of_both_are_agreed_upon():
    pair = Pair()
    pair.open(TcpSettings(sack=False), TcpSettings(receive_buffer=1 << 20))
    opening, answer, acknowledgement = pair.wire[:3]
    assert (opening.flags, answer.flags, acknowledgement.flags) == (SYN, SYN | ACK, ACK)
    assert opening.options.mss == answer.options.mss == 1460
    assert (opening.options.window_scale, answer.options.window_scale) == (3, 5)
    assert not opening.options.sack_permitted and not answer.options.sack_permitted
    assert answer.options.timestamps is not None and opening.options.timestamps is not None
    assert answer.options.timestamps[1] == opening.options.timestamps[0]


def test_a_segment_is_no_larger_than_named_less_its_options():
    pair = Pair()
    client, server = pair.open(None, TcpSettings(largest_segment=1000))
    assert pair.transfer(client, server, DATA[:20_000]) == DATA[:20_000]
    assert max(one.size for one in pair.of(0)) == 988


def test_every_other_segment_is_acknowledged_at_once_and_the_last_within_half_a_second():
    pair = Pair()
    client, server = pair.open()
    assert pair.transfer(client, server, bytes(1448 * 9)) == bytes(1448 * 9)
    assert pair.run(0.5, lambda: client.finished)
    acknowledged = [one.packet.ack for one in pair.of(1)[1:]]
    assert all(after - before <= 2 * 1448 + 1 for before, after in pairwise(acknowledged))


def test_a_closed_window_is_probed_and_the_connection_goes_on():
    pair = Pair()
    client, server = pair.open(None, TcpSettings(receive_buffer=20_000))
    assert client.write(DATA[:100_000]) == 100_000
    pair.run(100)
    probes = [one for one in pair.of(0) if one.size == 1]
    gaps = [round(b.at - a.at) for a, b in pairwise(probes)]
    assert gaps[:4] == [2, 4, 8, 16]
    got = bytearray()
    assert pair.run(200, lambda: got.extend(server.read(5000)) or len(got) == 100_000)
    assert bytes(got) == DATA[:100_000]


def test_the_time_out_doubles_and_in_the_end_the_program_is_told():
    pair = Pair()
    client, _ = pair.open()
    pair.judge = lambda seen: []
    client.write(b"x")
    assert pair.run(1000, lambda: client.phase == "closed")
    sent = pair.of(0, data=True)
    assert [round(b.at - a.at, 1) for a, b in pairwise(sent)][:7] == [1, 2, 4, 8, 16, 32, 60]
    assert client.error == errno.ETIMEDOUT
    assert sent[-1].at - sent[0].at >= 100  # R2 of RFC 9293 section 3.8.3


def test_a_lost_syn_is_sent_again_and_makes_the_sender_careful():
    pair = Pair()
    pair.judge = lambda seen: [] if seen.flags == SYN and len(pair.wire) < 2 else [0.0]
    client, server = pair.open()
    first, second = (one for one in pair.wire if one.flags == SYN)
    assert second.at - first.at == pytest.approx(1.0)
    assert pair.transfer(client, server, DATA[:10_000]) == DATA[:10_000]
    data = pair.of(0, data=True)
    assert len([one for one in data if one.at == data[0].at]) == 1  # RFC 5681 section 3.1


def test_a_port_without_a_listener_refuses():
    pair = Pair()
    client = pair.connect()
    assert pair.run(1, lambda: client.phase == "closed")
    assert client.error == errno.ECONNREFUSED


def test_who_closes_first_waits_and_the_other_does_not():
    pair = Pair()
    client, server = pair.open()
    client.close()
    assert pair.run(1, lambda: server.readable)
    assert server.read(1) == b""
    server.close()
    assert pair.run(1, lambda: server.phase == "closed")
    assert (client.phase, server.error) == ("time-wait", 0)
    assert not pair.run(59, lambda: client.phase == "closed")
    assert pair.run(2, lambda: client.phase == "closed")
    assert pair.timers.timeout() is None  # nothing is left


def test_both_may_close_at_once():
    pair = Pair()
    client, server = pair.open()
    client.close()
    server.close()
    pair.run(1)
    assert client.phase == server.phase == "time-wait"


def test_both_may_open_at_once():
    pair = Pair()
    one = pair.hosts[0].connect((A, 1), (B, 2), TcpSettings())
    other = pair.hosts[1].connect((B, 2), (A, 1), TcpSettings())
    pair.run(1)
    assert one.phase == other.phase == "synchronized"
    assert pair.transfer(one, other, DATA[:5000]) == DATA[:5000]


def test_a_half_closed_connection_still_carries_data():
    pair = Pair()
    client, server = pair.open()
    client.finish()
    pair.run(1)
    assert pair.transfer(server, client, DATA) == DATA


def test_data_for_a_program_that_has_gone_is_answered_by_a_reset():
    pair = Pair()
    client, server = pair.open()
    client.close()
    pair.run(1)
    server.write(b"too late")
    assert pair.run(1, lambda: server.phase == "closed")
    assert server.error == errno.ECONNRESET


def test_a_close_with_unread_data_resets():
    pair = Pair()
    client, server = pair.open()
    client.write(b"never read")
    pair.run(1)
    server.close()
    assert pair.of(1)[-1].flags & RST and not pair.of(1)[-1].flags & FIN
    assert pair.run(1, lambda: client.error == errno.ECONNRESET)


def test_keepalive_asks_after_two_hours_and_gives_up_after_nine_probes():
    pair = Pair()
    client, _ = pair.open(TcpSettings(keepalive=True))
    pair.run(7200 + 60)
    assert pair.of(0)[-1].at - pair.of(0)[-2].at == pytest.approx(7200, abs=1)
    before = len(pair.of(0))
    pair.judge = lambda seen: []
    assert pair.run(9000, lambda: client.phase == "closed")
    assert client.error == errno.ETIMEDOUT
    probes = pair.of(0)[before:-1]
    assert len(probes) == 9 and pair.of(0)[-1].flags & RST
    assert {round(b.at - a.at) for a, b in pairwise(probes)} == {75}


def test_a_reset_counts_exactly_where_it_is_due():
    pair = Pair()
    client, _ = pair.open()
    last = pair.of(1)[-1].packet
    their = key(B, PORT, A, int.from_bytes(last.key[-2:], "big"))
    pair.arrive(0, reset(their, seq=last.seq + 100_000_000))
    pair.run(1)
    assert client.phase == "synchronized"
    asked = len(pair.of(0))
    pair.arrive(0, reset(their, seq=last.seq + 2))  # in the window: a challenge (RFC 5961)
    assert len(pair.of(0)) == asked + 1 and client.phase == "synchronized"
    pair.arrive(0, reset(their, seq=last.seq + 1))
    assert client.error == errno.ECONNRESET


def test_old_time_stamps_and_wrong_checksums_are_not_believed():
    pair = Pair()
    client, _ = pair.open()
    last = pair.of(1)[-1]
    their = key(B, PORT, A, int.from_bytes(last.packet.key[-2:], "big"))
    stamps = last.options.timestamps
    assert stamps is not None

    def forged(stamp: int) -> bytearray:
        options = HandshakeOptions(timestamps=(stamp, stamps[1])).encode()
        ack = pair.of(0)[0].packet.seq + 1
        return tcp_segment(
            their, seq=last.packet.seq + 1, ack=ack, flags=ACK, options=options, payload=b"x"
        )

    pair.arrive(0, forged(stamps[0] - 1))
    assert client.read(9) == b""
    broken = forged(stamps[0])
    broken[-1] ^= 1
    pair.arrive(0, broken)
    assert client.read(9) == b"" and pair.hosts[0].counters["damaged"] == 1
    pair.arrive(0, forged(stamps[0]))
    assert client.read(9) == b"x"


def test_a_flood_of_syns_is_bounded():
    pair = Pair()
    pair.listen(backlog=16)
    for port in range(1, 2000):
        pair.arrive(
            1, syn(key(A, port, B, PORT), seq=port, window=1, options=HandshakeOptions(mss=1460))
        )
    assert pair.hosts[1].counters["overflowed"] == 1999 - 16
    pair.judge = lambda seen: []
    pair.run(1000)
    assert pair.timers.timeout() is None  # all were forgotten


def test_nothing_that_comes_breaks_it():
    chance = random.Random(5)
    pair = Pair()
    client, server = pair.open()
    wire = [bytearray(one.packet.buffer) for one in pair.wire]
    for _ in range(5_000):
        data = bytearray(chance.choice(wire))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(20, len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data += chance.randbytes(chance.randrange(40))
            data[2:4] = len(data).to_bytes(2, "big")
        packet = Packet()
        if packet.load(data, len(data), OUTSIDE) and packet.protocol == 6:
            packet.fill_checksum()
            pair.hosts[chance.randrange(2)].receive(packet)
        if chance.random() < 0.01:
            client.write(b"abc")
            server.read(100)
            pair.run(0.1)
        pair.wire.clear()
        if client.phase == "closed" or server.phase == "closed":
            pair = Pair(seed=chance.randrange(1 << 20))
            client, server = pair.open()
            wire = [bytearray(one.packet.buffer) for one in pair.wire]
