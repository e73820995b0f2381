"""The checks of what segments hold: bytes sent twice, pieces, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge, Packet, a_to_b, ask, b_to_a, handshake

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE

CONTENT = "inconsistent-retransmission"


def twice(first: bytes, again: bytes, **tcp: Any) -> list[Packet]:
    return [*handshake(), a_to_b(0.02, data=first), a_to_b(0.5, data=again, **tcp)]


@pytest.mark.parametrize(
    ("packets", "answer"),
    [
        (twice(b"abcdef", b"abcdef"), PASS),
        (twice(b"abcdef", b"abcdXf"), FAIL),
        (twice(b"abcdef", b"bcdXfg", seq=1002), FAIL),
        (twice(b"abcdef", b"defghi", seq=1004), PASS),
        (twice(b"abcdef", b"ghijkl", seq=1007), OPEN),  # new data
        (twice(b"abcdef", b"abcdXf", chksum=0x1234), OPEN),  # damaged on its way
    ],
)
def test_bytes_that_are_sent_twice(packets: list[Packet], answer: Answer) -> None:
    assert ask(CONTENT, packets).answer is answer


def test_bytes_that_were_not_captured_say_nothing() -> None:
    assert ask(CONTENT, twice(b"abcdef", b"abcdXf"), snap=54).answer is OPEN


def test_a_probe_of_keepalive_may_carry_any_byte() -> None:
    packets = [*handshake(), a_to_b(0.02, data=b"abcdef"), b_to_a(0.03, ack=1007)]
    assert ask(CONTENT, [*packets, a_to_b(7200, data=b"X", seq=1006)]).answer is OPEN


PIECES = "multiple-packet-retransmission"


def test_a_piece_that_follows_a_retransmission(
    judge: Judge, rfc_trace: Callable[[str], str]
) -> None:
    log = rfc_trace("2.14-problem")
    assert judge(PIECES, log).answer is FAIL
    # At the end of what was sent as new, a small segment is no piece of one.
    assert judge(PIECES, log.replace("8281:8293(12)", "8281:8741(460)")).answer is not FAIL
    # A small segment that was sent as such is no piece of another.
    small = log.replace(
        "8281:8741(460) ack 1", "8281:8293(12) ack 1\n11:55:22.743140 A > B: . 8293:8741(448) ack 1"
    )
    assert small != log
    assert judge(PIECES, small).answer is not FAIL
    # With more options than before there is less room.
    options = log.replace(
        "A > B: . 7821:8281(460) ack 1\n11:55:23.341317",
        "A > B: . 7821:8281(460) ack 1 <nop,nop,sack 1 {5:9}>\n11:55:23.341317",
    )
    assert options != log
    assert judge(PIECES, options).answer is not FAIL
    # Later than at once it is another retransmission.
    assert judge(PIECES, log.replace("23.341317", "23.351317")).answer is PASS


def timed_out(*segments: tuple[int, int]) -> str:
    lines = ["10:00:00.0 B > A: . ack 1 win 9000"]
    lines += [f"10:00:01.{n} A > B: . {s}:{e}({e - s}) ack 1 win 9000" for n, (s, e) in
              enumerate([(1, 1001), (1001, 2001), (2001, 3001)])]  # fmt: skip
    lines += [f"10:00:03.000{n} A > B: . {s}:{e}({e - s}) ack 1 win 9000" for n, (s, e) in
              enumerate(segments)]  # fmt: skip
    return "\n".join([*lines, "10:00:03.1 B > A: . ack 3001 win 9000"])


@pytest.mark.parametrize(
    ("segments", "answer"),
    [
        ([(1, 1001)], PASS),
        ([(1, 1001), (1001, 2001)], FAIL),
        ([(1, 501), (501, 1001)], OPEN),  # one segment's worth, after the MSS became smaller
        ([(1, 1001), (1001, 1013)], FAIL),
    ],
)
def test_a_timeout_sends_one_segment(
    judge: Judge, segments: list[tuple[int, int]], answer: Answer
) -> None:
    assert judge(PIECES, timed_out(*segments)).answer is answer


SIZE = "mss-without-options"
STAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]


def sized(length: int, *, step: int = 1, options: Any = STAMPS, count: int = 3) -> list[Packet]:
    """Segments of a length with options; each has an IP identification `step` further on."""
    packets = handshake()
    for n in range(count):
        packets.append(
            a_to_b(0.02 + n / 1e4, data=bytes(length), seq=1001 + n * length, options=options,
                   ip={"id": 100 + n * step})
        )  # fmt: skip
    return packets


@pytest.mark.parametrize(
    ("packets", "answer"),
    [
        (sized(1448), PASS),
        (sized(1449), FAIL),
        (sized(1460), FAIL),
        (sized(1460, step=2), OPEN),  # two packets, once segmentation has cut it
        (sized(1460, count=2), OPEN),  # nothing tells of the last one
        (sized(1460, options=[]), OPEN),  # no options, no problem
        (sized(1000), OPEN),
        (sized(3000), OPEN),  # segmentation offload
    ],
)
def test_options_are_taken_off_the_payload(packets: list[Packet], answer: Answer) -> None:
    assert ask(SIZE, packets).answer is answer


def test_a_packet_that_was_cut_on_its_way_is_not_its_senders_fault(
    judge: Judge, rfc_trace: Callable[[str], str]
) -> None:
    log = rfc_trace("2.18-problem-1")
    assert judge(SIZE, log).answer is FAIL
    narrower = log.replace("567833:569273(1440)", "567833:569265(1432)")
    narrower = narrower.replace("20828:1472@0+", "20828:1464@0+").replace("8@1472", "16@1464")
    assert judge(SIZE, narrower).answer is OPEN
    plain = log.replace("<nop,nop,timestamp 3839 1026342>", "").replace(
        ", optlen=8 LSRR{B#} NOP", ""
    )
    assert judge(SIZE, plain).answer is OPEN
