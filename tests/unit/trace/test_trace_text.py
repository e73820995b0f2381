"""Text logs read as captures: what tcpdump and others print, of today and of old."""

from __future__ import annotations

import io

import pytest

from testbed.errors import TraceError
from testbed.trace import Trace, read_trace
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN

MODERN = """\
tcpdump: listening on eth0
12:00:00.000001 IP 10.0.0.1.40000 > 10.0.1.1.80: Flags [S], seq 4000000000, win 64240, \
options [mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 7], length 0
12:00:00.010001 IP 10.0.1.1.80 > 10.0.0.1.40000: Flags [S.], seq 9000, ack 4000000001, \
win 65160, options [mss 1400,sackOK,TS val 8 ecr 7,nop,wscale 5], length 0
12:00:00.010101 IP 10.0.0.1.40000 > 10.0.1.1.80: Flags [.], ack 1, win 502, length 0
12:00:00.010201 IP 10.0.0.1.40000 > 10.0.1.1.80: Flags [P.], seq 1:101, ack 1, win 502, \
options [nop,nop,TS val 9 ecr 8], length 100: HTTP: GET / HTTP/1.1
12:00:00.030201 IP 10.0.1.1.80 > 10.0.0.1.40000: Flags [.], ack 1, win 509, \
options [nop,nop,sack 1 {51:101}], length 0
12:00:00.040201 IP 10.0.1.1.53 > 10.0.0.1.4000: 123+ A? example.org. (29)
12:00:00.050201 IP 10.0.1.1.80 > 10.0.0.1.40000: Flags [F.], seq 1, ack 101, win 509, length 0
"""


def log(text: str) -> Trace:
    return read_trace(io.BytesIO(text.encode()))


def test_what_tcpdump_prints_today_is_read():
    trace = log(MODERN)
    (connection,) = trace.connections
    segments = connection.segments
    assert [segment.flags for segment in segments] == [
        SYN, SYN | ACK, ACK, ACK | PSH, ACK, ACK | FIN
    ]  # fmt: skip
    assert [connection.relative_seq(segment) for segment in segments] == [0, 0, 1, 1, 1, 1]
    assert [connection.relative_ack(segment) for segment in segments] == [None, 1, 1, 1, 1, 101]
    assert [connection.window_of(segment) for segment in segments[1:4]] == [
        65160, 502 << 7, 502 << 7
    ]  # fmt: skip
    assert segments[0].options.mss == 1460
    assert segments[0].options.sack_permitted
    assert segments[3].options.timestamps == (9, 8)
    assert segments[4].options.sack == ((4000000051, 4000000101),)
    assert (segments[3].length, segments[3].captured) == (100, 0)
    assert segments[3].time - segments[0].time == 10_200_000
    assert str(connection.initiator) == "10.0.0.1:40000"


def test_lines_that_are_no_packets_of_tcp_are_counted():
    transcript = log(MODERN).capture.transcript
    assert transcript is not None
    assert transcript.skipped == 2
    assert transcript.timed
    assert transcript.names == {}


def test_absolute_numbers_are_as_good_as_relative_ones():
    absolute = MODERN.replace("seq 1:101", "seq 4000000001:4000000101")
    absolute = absolute.replace("[.], ack 1,", "[.], ack 9001,", 1).replace(
        "[P.], seq 4000000001:4000000101, ack 1,", "[P.], seq 4000000001:4000000101, ack 9001,"
    )
    absolute = absolute.replace("[.], ack 1, win 509", "[.], ack 4000000001, win 509").replace(
        "{51:101}", "{4000000051:4000000101}"
    )
    absolute = absolute.replace("[F.], seq 1, ack 101", "[F.], seq 9001, ack 4000000101")
    numbers = [
        [(one.seq, one.ack, one.options.sack) for one in log(text).segments]
        for text in (MODERN, absolute)
    ]
    assert numbers[0] == numbers[1]


def test_what_tcpdump_printed_in_1999_is_read():
    (connection,) = log(
        """
        23:59:59.90 B > A: S 1168512000:1168512000(0) win 32768
                          <mss 1460,nop,wscale 0> (DF) [tos 0x8]
        23:59:59.95 A > B: S 3688169472:3688169472(0)
                          ack 1168512001 win 32768 <mss 1460>
        00:00:00.10 B > A: . ack 1 win 33580 (DF) [tos 0x8]
        00:00.00.20 A > B: P 1:513(512) ack 1 win 32768
        00:00:00.30 B > A: FP 1:1(0) ack 513 win 33580
        00:00:00.40 A > B: R 3688169985:3688169985(0) win 0
        """
    ).connections
    assert [connection.relative_seq(one) for one in connection.segments] == [0, 0, 1, 1, 1, 513]
    assert [one.length for one in connection.segments] == [0, 0, 0, 512, 0, 0]
    assert [one.flags for one in connection.segments[-3:]] == [PSH | ACK, FIN | PSH | ACK, RST]
    times = [(one.time - connection.start) / 1e9 for one in connection.segments]
    assert times == pytest.approx([0, 0.05, 0.2, 0.3, 0.4, 0.5])
    assert connection.window_of(connection.segments[2]) == 33580


def test_a_dump_in_hexadecimal_gives_payload_addresses_and_ports():
    trace = log(
        """
        12:35:53.145503 A > B: FP 90048435:90048461(26) ack 393464682 win 4096
                  0x0000:  4500 0042 9644 0000 3006 e4c2 86b1 0401
                  0x0010:  83f3 010a b2a4 0015 055e 07b3 1773 cb6a
                  0x0020:  5019 1000 68a9 0000 504f 5254 2031 3334
                  0x0030:  2c31 3737 2c34 2c31 2c31 3738 2c31 3635
                  0x0040:  0d0a
        12:35:53.146479 B > A: R 393464682:393464682(0) win 8192
        """
    )
    first, reset = trace.segments
    assert first.payload == b"PORT 134,177,4,1,178,165\r\n"
    assert str(first.source) == "134.177.4.1:45732"
    assert (reset.source, reset.seq) == (first.destination, first.ack)
    assert trace.capture.transcript is not None
    assert trace.capture.transcript.names == {"134.177.4.1": "A", "131.243.1.10": "B"}


def test_a_log_without_times_keeps_its_order_and_says_so():
    trace = log(
        "client > server D=80 S=59500 Syn Seq=337 Len=0 Win=8760\n"
        "server > client D=59500 S=80 Syn Ack=338 Seq=80153 Len=0 Win=8760\n"
        "client > server D=80 S=59500 Ack=80154 Seq=338 Len=7 Win=8760\n"
        "server > client D=59500 S=80 Rst Seq=80154 Len=0 Win=0\n"
    )
    (connection,) = trace.connections
    assert trace.capture.transcript is not None
    assert not trace.capture.transcript.timed
    assert [connection.relative_seq(one) for one in connection.segments] == [0, 0, 1, 1]
    assert connection.segments[2].length == 7
    assert connection.responder.port == 80
    assert connection.ended.value == "RST"


def test_verbose_lines_tell_of_the_ip_header():
    (segment,) = log(
        "12:00:00.000001 IP (tos 0x0, ttl 61, id 4711, offset 0, flags [DF], proto TCP (6), "
        "length 60)\n"
        "    10.0.0.1.40000 > 10.0.1.1.80: Flags [S], cksum 0x1632 (incorrect -> 0x9fd0), seq 1, "
        "win 64240, options [mss 1460], length 0\n"
    ).segments
    assert (segment.hops_left, segment.ip_identification) == (61, 4711)
    assert segment.options.mss == 1460


def test_ipv6_and_other_ways_to_tell_the_time():
    for stamp in ("2024-01-02 03:04:05.000006", "1704164645.000006"):
        (segment,) = log(
            f"{stamp} IP6 fe80::1.4000 > fe80::2.443: Flags [R], seq 5, length 0\n"
        ).segments
        assert segment.time == 1_704_164_645_000_006_000
        assert str(segment.destination) == "[fe80::2]:443"


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [
        ("prose", b"nodes:\n  client: {}\n"),
        ("noise", bytes(range(1, 256)) * 9),
        ("line", b"A > B: x"),
    ],
)
def test_other_texts_are_no_captures(name, bytes_):
    with pytest.raises(TraceError, match="not a capture file"):
        read_trace(io.BytesIO(bytes_))


def test_a_log_with_too_many_names_is_refused():
    lines = "".join(f"10:00:00.0 h{n} > A: . ack 1 win 9\n" for n in range(300))
    with pytest.raises(TraceError, match="tcpdump -n"):
        log(lines)


def test_a_line_of_a_megabyte_is_no_packet_and_ends():
    hostile = "10:00:00.0 A > B: S 1:1(0) win 5 <" + "mss 1," * 200_000 + ">\n" + " x" * 500_000
    trace = log("10:00:00.0 A > B: . ack 1 win 9\n" + hostile)
    assert len(trace.segments) <= 2
