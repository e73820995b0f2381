"""The checks of the congestion window: initial flight, time-outs, avoidance, fast recovery."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE


def opening(segments: int, *, mss: str = "<mss 1000>", more: int = 2, size: int = 1000) -> str:
    """A handshake, `segments` of A, an ACK of two, and `more` segments at once."""
    lines = [
        "10:00:00.00 A > B: S 5000:5000(0) win 65535 <mss 1000>",
        f"10:00:00.05 B > A: S 9000:9000(0) ack 5001 win 65535 {mss}",
        "10:00:00.0501 A > B: . ack 1 win 65535",
    ]
    for n in range(segments):
        start = 1 + n * size
        lines.append(f"10:00:00.06{n:03} A > B: . {start}:{start + size}({size}) ack 1 win 65535")
    lines.append(f"10:00:00.11 B > A: . ack {1 + 2 * size} win 65535")
    for n in range(segments, segments + more):
        start = 1 + n * size
        lines.append(f"10:00:00.1101 A > B: . {start}:{start + size}({size}) ack 1 win 65535")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("segments", "profile", "answer"),
    [(10, "modern", PASS), (11, "modern", FAIL), (1, "rfc2525", PASS), (2, "rfc2525", FAIL)],
)
def test_the_initial_window(judge: Judge, segments: int, profile: str, answer: Answer) -> None:
    log = opening(max(segments, 1))
    if segments == 1:
        log = log.replace("ack 2001", "ack 1001")
    assert judge("no-initial-slow-start", log, profile=profile).answer is answer


def test_an_initial_window_that_nothing_waited_for_says_nothing(judge: Judge) -> None:
    assert judge("no-initial-slow-start", opening(3, more=0)).answer is OPEN
    headless = "\n".join(opening(11).splitlines()[2:])
    assert judge("no-initial-slow-start", headless).answer is OPEN


def test_an_initial_window_of_which_the_first_data_is_missing_says_nothing(judge: Judge) -> None:
    lines = opening(12).splitlines()
    del lines[3]
    assert judge("no-initial-slow-start", "\n".join(lines)).answer is OPEN


@pytest.mark.parametrize(
    ("segments", "mss", "answer"),
    [(11, "", FAIL), (10, "", PASS), (11, "<mss 536>", OPEN)],
)
def test_the_initial_window_without_an_mss(
    judge: Judge, segments: int, mss: str, answer: Answer
) -> None:
    log = opening(segments, mss=mss, size=536)
    assert judge("uninitialized-cwnd", log).answer is answer


def after_timeout(burst: int, *, ack: int = 3001, at: float = 2.1) -> str:
    """A round trip of 100 ms, a time-out of three segments, and what the first ACK lets out."""
    lines = [
        "10:00:00.00 A > B: S 5000:5000(0) win 65535 <mss 1000>",
        "10:00:00.10 B > A: S 9000:9000(0) ack 5001 win 65535 <mss 1000>",
        "10:00:00.1001 A > B: . ack 1 win 65535",
        "10:00:01.000 A > B: . 1:1001(1000) ack 1 win 65535",
        "10:00:01.001 A > B: . 1001:2001(1000) ack 1 win 65535",
        "10:00:01.002 A > B: . 2001:3001(1000) ack 1 win 65535",
        "10:00:02.000 A > B: . 1:1001(1000) ack 1 win 65535",
        f"10:00:{at:06.3f} B > A: . ack {ack} win 65535",
    ]
    for n in range(burst):
        start = 3001 + n * 1000
        lines.append(f"10:00:02.2{n:02} A > B: . {start}:{start + 1000}(1000) ack 1 win 65535")
    lines.append("10:00:02.40 B > A: . ack 4001 win 65535")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("burst", "answer"),
    [(2, PASS), (6, PASS), (7, FAIL), (15, FAIL), (0, OPEN)],  # 1 + 3 acknowledged, 2 forgiven
)
def test_slow_start_after_a_timeout(judge: Judge, burst: int, answer: Answer) -> None:
    assert judge("no-slow-start-after-rto", after_timeout(burst)).answer is answer


def test_a_spurious_timeout_may_be_undone(judge: Judge) -> None:
    assert judge("no-slow-start-after-rto", after_timeout(15, at=2.01)).answer is OPEN


def avoidance(pace: Callable[[float], float], acks: int, window: float = 25.0) -> str:
    """Two segments acknowledged by each ACK; `pace(W)` is what the window grows by then."""
    lines = ["10:00:00.000000 A > B: . 1:1001(1000) ack 1 win 65535"]
    sent, acked, time = 1001, 1, 100
    for _ in range(acks):
        acked += 2000 if acked > 1 else 1000
        window += pace(window)
        stamp = f"10:00:{time // 1000:02}.{time % 1000:03}000"
        lines.append(f"{stamp} B > A: . ack {acked} win 65535")
        while sent + 1000 <= acked + int(window) * 1000:
            lines.append(f"{stamp} A > B: . {sent}:{sent + 1000}(1000) ack 1 win 65535")
            sent += 1000
        time += 2
    return "\n".join(lines)


def with_constant(window: float) -> float:
    return 1 / window + 1 / 8


@pytest.mark.parametrize(
    ("pace", "profile", "answer"),
    [
        (with_constant, "modern", FAIL),
        (with_constant, "rfc2525", FAIL),
        (lambda window: 1 / window, "modern", PASS),
        (lambda window: 1 / window, "rfc2525", PASS),
        (lambda window: 2 / window, "modern", PASS),  # counts bytes: a segment a round trip
        (lambda window: 0.04 + 0.002 * window, "modern", OPEN),  # another congestion control
        (lambda window: 1 / window + 1 / 20, "modern", PASS),
    ],
)
def test_congestion_avoidance(
    judge: Judge, pace: Callable[[float], float], profile: str, answer: Answer
) -> None:
    log = avoidance(pace, 350)
    found = judge("extra-additive-constant", log, profile=profile, at="A")
    assert found.answer is answer


def test_slow_start_is_no_congestion_avoidance(judge: Judge) -> None:
    log = avoidance(lambda window: 1.0, 40)
    for profile in ("modern", "rfc2525"):
        assert judge("extra-additive-constant", log, profile=profile, at="A").answer is not FAIL


def test_growth_of_small_windows_or_seen_at_the_receiver_says_nothing(judge: Judge) -> None:
    small = avoidance(lambda window: 0.0, 100, window=8)
    assert judge("extra-additive-constant", small, at="A").answer is OPEN
    grown = avoidance(with_constant, 350)
    assert judge("extra-additive-constant", grown, at="B").answer is OPEN


def test_a_window_that_is_not_deflated(judge: Judge, rfc_trace: Callable[[str], str]) -> None:
    log = rfc_trace("2.08-problem")
    assert judge("no-window-deflation", log, at="A").answer is FAIL
    assert judge("no-window-deflation", log, at="B").answer is OPEN
    lines = log.splitlines()
    assert judge("no-window-deflation", "\n".join(lines[:-1]), at="A").answer is PASS  # as before
    assert judge("no-window-deflation", "\n".join(lines[:20]), at="A").answer is OPEN
    sack = log.replace("ack 29697\n", "ack 29697 <nop,nop,sack 1 {30209:30721}>\n")
    assert sack != log
    assert judge("no-window-deflation", sack, at="A").answer is OPEN
