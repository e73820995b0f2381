"""What looks like a problem and is none: behaviour that an RFC permits, which must never fail."""

from __future__ import annotations

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge, a_to_b, ask, b_to_a, handshake

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE

SHAKE = """
10:00:00.000 A > B: S 5000:5000(0) win 65535 <mss 1000,sackOK>
10:00:00.100 B > A: S 9000:9000(0) ack 5001 win 65535 <mss 1000,sackOK>
10:00:00.101 A > B: . ack 1 win 65535
"""


def segments(start: int, count: int, at: str, size: int = 1000) -> str:
    """New data of A, back to back."""
    return "\n".join(
        f"{at}{n:02} A > B: . {start + n * size}:{start + (n + 1) * size}({size}) ack 1 win 65535"
        for n in range(count)
    )


@pytest.mark.parametrize(
    ("late", "count", "answer"), [("00.500", 1, PASS), ("00.111", 1, FAIL), ("00.500", 2, FAIL)]
)
def test_a_tail_loss_probe_may_send_one_new_segment_beyond_the_window(
    judge: Judge, late: str, count: int, answer: Answer
) -> None:  # RFC 8985 section 7.3
    log = SHAKE + segments(1, 10, "10:00:00.11") + "\n" + segments(10001, count, f"10:00:{late}")
    log += "\n10:00:00.600 B > A: . ack 10001 win 65535\n" + segments(12001, 4, "10:00:00.61")
    assert judge("no-initial-slow-start", log, at="A").answer is answer


def keepalives(*probes: str) -> str:
    return "\n".join(
        [
            "00:00:00.0 A > B: S 5000:5000(0) win 65535",
            "00:00:00.1 B > A: S 7000:7000(0) ack 5001 win 65535",
            "00:00:00.2 A > B: . ack 1 win 65535",
            *probes,
        ]
    )


PROBE = "A > B: . 0:0(0) ack 1 win 65535"


def test_what_a_tcp_sends_itself_does_not_put_keepalive_off(judge: Judge) -> None:
    # RFC 9293 section 3.8.4: the interval is one in which nothing was received.
    log = keepalives("01:00:00.0 A > B: . 1:1(0) ack 1 win 50000", f"02:00:00.1 {PROBE}")
    problem = "keepalive-interval-too-short"
    assert judge(problem, log, default_settings=True).answer is PASS
    heard = log.replace("01:00:00.0 A > B: . 1:1(0) ack 1", "01:00:00.0 B > A: . 1:1(0) ack 1")
    assert judge(problem, heard, default_settings=True).answer is FAIL
    assert judge(problem, heard, default_settings=True, at="B").answer is OPEN  # may be lost


def test_a_capture_that_begins_in_silence_does_not_tell_how_long_that_was(judge: Judge) -> None:
    lines = keepalives(*(f"02:0{n}:00.0 {PROBE}" for n in range(4))).splitlines()
    problem = "keepalive-interval-too-short"
    for first in (2, 3):
        log = "\n".join(lines[first:])
        assert judge(problem, log, default_settings=True).answer is not FAIL


@pytest.mark.parametrize(
    ("ending", "answer"),
    [
        ("00:20:03.0 A > B: R 1:1(0) ack 1 win 65535", FAIL),  # when the next probe was due
        ("00:20:02.4 A > B: R 1:1(0) ack 1 win 65535", OPEN),  # an application may abort
        ("00:20:03.0 A > B: F 1:1(0) ack 1 win 65535", OPEN),  # or close
    ],
)
def test_an_application_may_end_what_keepalive_asks(
    judge: Judge, ending: str, answer: Answer
) -> None:
    log = keepalives(*(f"00:20:0{n}.0 {PROBE}" for n in range(3)), ending)
    problem = "keepalive-timeout-too-short"
    assert judge(problem, log, default_settings=True).answer is answer


def test_a_capture_that_ends_is_no_connection_given_up(judge: Judge) -> None:
    log = keepalives(*(f"00:20:{n}0.0 {PROBE}" for n in range(3)))  # each 10 s, perhaps ten of them
    problem = "keepalive-timeout-too-short"
    assert judge(problem, log, default_settings=True).answer is OPEN


def backoff(*sent: tuple[float, int]) -> str:
    lines = ["10:00:00.0 B > A: . ack 1 win 9000"]
    lines += [f"10:00:{at:09.6f} A > B: P 1:{1 + size}({size}) ack 1 win 9000" for at, size in sent]
    return "\n".join(lines)


def test_what_a_queue_held_back_does_not_tell_its_timer(judge: Judge) -> None:
    # A link that was down lets go at once what has waited for it.
    held = backoff((1, 100), (1.5, 100), (4.0, 100), (4.001, 100), (4.002, 100), (4.003, 100))
    assert judge("no-rto-backoff", held).answer is not FAIL
    assert judge("no-rto-backoff", held, at="B").answer is not FAIL
    assert judge("no-rto-backoff", held, at="A").answer is FAIL


def test_segments_that_become_smaller_are_told_to_and_did_not_time_out(judge: Judge) -> None:
    # RFC 1191 section 6.3: each "fragmentation needed" has it sent again at once.
    told = backoff((1, 1460), (1.05, 1360), (1.1, 1240), (1.15, 1200), (1.4, 1200), (1.8, 1200))
    assert judge("no-rto-backoff", told, at="A").answer is not FAIL


def test_a_fin_waits_for_the_window(judge: Judge) -> None:
    lines = ["A > B: P 1:9001(9000)", "B > A: . ack 9001", "A > B: F 9001:9001(0)"]
    opened = "10:00:00.0 B > A: . ack 1 win 9000\n" + "\n".join(
        f"10:00:0{n}.0 {line} win 9000" for n, line in enumerate(lines, 1)
    )
    assert judge("fin-not-sent-promptly", opened, plain_close=True).answer is OPEN
    room = opened.replace("ack 1 win 9000", "ack 1 win 9001", 1)
    assert judge("fin-not-sent-promptly", room, plain_close=True).answer is FAIL


def test_a_window_that_was_always_closed_holds_no_data(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: S 5000:5000(0) win 0
    10:00:00.1 B > A: S 7000:7000(0) ack 5001 win 9000
    10:00:00.2 A > B: . ack 1 win 0
    10:00:00.3 A > B: F 1:1(0) ack 1 win 0
    """
    found = judge("no-rst-on-close-with-data-pending", log, plain_close=True)
    assert found.answer is OPEN


def test_a_probe_with_an_old_byte_is_no_data_sent_again(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: . ack 1 win 0
    10:00:01.0 B > A: . 1:2(1) ack 1 win 9000
    10:00:01.1 A > B: . ack 2 win 0
    10:00:02.0 A > B: P 1:101(100) ack 2 win 0
    10:00:02.1 B > A: . ack 101 win 9000
    10:00:02.2 B > A: . ack 101 win 9000
    10:00:50.0 A > B: . 100:101(1) ack 2 win 0
    """
    assert judge("window-probe-deadlock", log, at="A").answer is not FAIL


def test_a_retransmission_that_crosses_its_acks_does_not_ignore_them(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: . ack 1 win 0
    10:00:01.0 B > A: . 1:2(1) ack 1 win 9000
    10:00:01.1 A > B: . ack 2 win 0
    10:00:02.0 A > B: P 1:101(100) ack 2 win 0
    10:00:02.21 B > A: . ack 101 win 9000
    10:00:02.22 B > A: . ack 101 win 9000
    10:00:02.23 A > B: P 1:101(100) ack 2 win 0
    """
    problem = "window-probe-deadlock"
    assert judge(problem, log, at="A").answer is FAIL
    assert judge(problem, log).answer is OPEN


def test_a_window_of_unknown_scale_does_not_tell_what_is_beyond(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: . ack 1 win 0
    10:00:00.5 A > B: . ack 1 win 500
    10:00:01.0 B > A: . 1:1001(1000) ack 1 win 9000
    10:00:01.1 A > B: . ack 1001 win 0
    10:00:02.0 A > B: P 1:101(100) ack 1001 win 0
    10:00:02.21 B > A: . ack 101 win 9000
    10:00:02.22 B > A: . ack 101 win 9000
    10:00:09.23 A > B: P 1:101(100) ack 1001 win 0
    """
    assert judge("window-probe-deadlock", log, at="A").answer is OPEN


def stretched(each: int, size: int, mss: int) -> str:
    lines = [
        f"10:00:00.0 A > B: S 1:1(0) win 65535 <mss {mss}>",
        "10:00:00.1 B > A: S 9:9(0) ack 2 win 65535 <mss 1460>",
        "10:00:00.2 A > B: . ack 1 win 65535",
    ]
    end = 1
    for n in range(1, 6):
        for k in range(each):
            lines.append(f"10:00:0{n}.{k:03} B > A: . {end}:{end + size}({size}) ack 1 win 9000")
            end += size
        lines.append(f"10:00:0{n}.9 A > B: . ack {end} win 65535")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("each", "size", "mss", "answer"),
    [
        (3, 1460, 1460, FAIL),
        (2, 1460, 1460, PASS),
        (9, 100, 1460, OPEN),  # small segments
        (8, 1460, 8960, OPEN),  # the receiver's own segments are larger
        (13, 1460, 8960, FAIL),
        (3, 1000, 1460, FAIL),
        (3, 973, 1460, OPEN),  # 2,919 bytes
    ],
)
def test_an_ack_of_two_segments_of_the_receivers_size_will_do(
    judge: Judge, each: int, size: int, mss: int, answer: Answer
) -> None:  # RFC 5681 section 4.2
    assert judge("stretch-ack", stretched(each, size, mss), at="A").answer is answer


def test_a_receiver_need_not_keep_what_is_beyond_its_window(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: S 1:1(0) win 2000
    10:00:00.1 B > A: S 9:9(0) ack 2 win 2000
    10:00:00.2 A > B: . ack 1 win 2000
    10:00:01.0 B > A: . 2001:3001(1000) ack 1 win 2000
    10:00:01.1 B > A: . 3001:4001(1000) ack 1 win 2000
    10:00:01.2 B > A: . 4001:5001(1000) ack 1 win 2000
    10:00:02.0 B > A: . 1:2001(2000) ack 1 win 2000
    10:00:02.1 A > B: . ack 2001 win 2000
    """
    assert judge("no-above-sequence-retention", log, at="A").answer is OPEN
    wider = log.replace("win 2000", "win 5000")
    assert judge("no-above-sequence-retention", wider, at="A").answer is FAIL


def test_data_before_the_end_of_the_handshake_has_no_round_trip_to_go_by(judge: Judge) -> None:
    log = """
    10:00:00.0 A > B: S 5000:5100(100) win 65535 <mss 1460,tfo cookie 0102030405060708>
    10:00:00.001 B > A: S 7000:7000(0) ack 5101 win 65535 <mss 1460>
    10:00:00.002 B > A: P 1:100(99) ack 101 win 65535
    10:00:01.003 B > A: P 1:100(99) ack 101 win 65535
    10:00:01.500 A > B: . ack 1 win 65535
    10:00:01.501 A > B: . ack 100 win 65535
    """  # RFC 7413: the server's data goes before its first round trip; time-out 1 s (RFC 6298)
    assert judge("initial-rto-too-low", log, "B", at="B").answer is not FAIL


def test_a_window_after_the_loss_of_little_is_not_what_was_in_flight(judge: Judge) -> None:
    log = """
    10:00:00.000 A > B: S 5000:5000(0) win 65535 <mss 1000>
    10:00:00.100 B > A: S 9000:9000(0) ack 5001 win 65535 <mss 1000>
    10:00:00.101 A > B: . ack 1 win 65535
    """
    log += segments(1, 5, "10:00:01.0") + "\n"
    log += "".join(f"10:00:01.1{n} B > A: . ack 1 win 65535\n" for n in range(4))
    log += "10:00:01.150 A > B: . 1:1001(1000) ack 1 win 65535\n"
    log += "10:00:01.250 B > A: P 1:100(99) ack 5001 win 65535\n"
    asked = log + segments(5001, 7, "10:00:01.26")  # another request, and its answer
    assert judge("no-window-deflation", asked, at="A").answer is not FAIL
    waited = log.replace("B > A: P 1:100(99)", "B > A: . 1:1(0)") + segments(5001, 7, "10:00:05.2")
    assert judge("no-window-deflation", waited, at="A").answer is not FAIL


def test_a_sender_with_little_to_send_grows_by_its_own_pace(judge: Judge) -> None:
    lines = ["10:00:00.000000 A > B: . 1:1001(1000) ack 1 win 65535"]
    sent, acked, time = 1001, 1, 100
    for n in range(60):
        acked += 2000 if acked > 1 else 1000
        stamp = f"10:00:{time // 1000:02}.{time % 1000:03}000"
        lines.append(f"{stamp} B > A: . ack {acked} win 65535")
        goal = acked + 25_000 + 1000 * (n // 4)
        while sent < goal:
            size = min(1000, goal - sent, 700 if n % 2 else 1000)
            lines.append(f"{stamp} A > B: P {sent}:{sent + size}({size}) ack 1 win 65535")
            sent += size
        time += 2
    found = judge("extra-additive-constant", "\n".join(lines), profile="rfc2525", at="A")
    assert found.answer is not FAIL


def test_a_reset_may_carry_words() -> None:  # RFC 1122 section 4.2.2.12
    packets = [
        *handshake(),
        a_to_b(0.02, data=b"abcdef"),
        a_to_b(0.5, flags="RA", seq=1001, data=b"no more"),
    ]
    assert ask(CONTENT, packets).answer is OPEN


def test_bytes_that_another_host_has_sent_are_not_its_own() -> None:
    packets = [
        *handshake(),
        a_to_b(0.02, data=b"<from a box on the way>", ip={"ttl": 61}),
        a_to_b(0.05, data=b"<from the endpoint itself>", ip={"ttl": 52}),
    ]
    assert ask(CONTENT, packets).answer is OPEN


PIECES = "multiple-packet-retransmission"
CONTENT = "inconsistent-retransmission"


def test_a_smaller_mtu_has_all_that_is_too_large_sent_again() -> None:  # RFC 1191 section 6.3
    packets = handshake()
    packets += [a_to_b(1 + n / 1e4, data=bytes(1460), seq=1001 + n * 1460) for n in range(4)]
    packets += [
        a_to_b(1.5 + n / 1e4, data=bytes(size), seq=1001 + at)
        for n, (at, size) in enumerate([(0, 1360), (1360, 100), (1460, 1360), (2820, 100)])
    ]
    packets.append(b_to_a(1.6, ack=1001 + 4 * 1460))
    assert ask(PIECES, packets).answer is not FAIL


def test_a_capture_without_the_peer_does_not_tell_when_it_is_silent() -> None:
    one_way = [a_to_b(1 + n * 0.3, data=bytes(100), ip={"id": n + 1}) for n in range(5)]
    assert ask("no-rto-backoff", one_way).answer is not FAIL
    at_once = [a_to_b(1 + n / 1e4, data=bytes(1000), seq=1001 + n * 1000) for n in range(3)]
    at_once += [a_to_b(2 + n / 1e4, data=bytes(1000), seq=1001 + n * 1000) for n in range(3)]
    assert ask(PIECES, at_once).answer is not FAIL


def test_another_connection_of_the_same_ports_does_not_repeat_its_syn() -> None:
    packets = [a_to_b(0.0, flags="S", seq=1000, ack=0), a_to_b(0.2, flags="S", seq=99_000, ack=0)]
    assert ask("initial-rto-too-low", packets).answer is not FAIL
