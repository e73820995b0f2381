"""The checks of timers: the first retransmission, and keepalive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE


def syns(gap: float) -> str:
    return (
        "10:00:00.0 A > B: S 5000:5000(0) win 65535\n"
        f"10:00:{gap:06.3f} A > B: S 5000:5000(0) win 65535\n"
    )


@pytest.mark.parametrize(
    ("gap", "at", "profile", "answer"),
    [
        (1.0, "A", "modern", PASS),
        (0.91, "A", "modern", PASS),  # by a timer of 100 ms
        (0.85, "A", "modern", FAIL),
        (0.85, "", "modern", OPEN),  # delays may differ
        (0.4, "", "modern", FAIL),
        (1.0, "A", "rfc2525", FAIL),
        (3.0, "A", "rfc2525", PASS),
    ],
)
def test_a_syn_is_sent_again(
    judge: Judge, gap: float, at: str, profile: str, answer: Answer
) -> None:
    assert judge("initial-rto-too-low", syns(gap), profile=profile, at=at).answer is answer


def test_a_syn_ack_is_sent_again_by_its_timer_or_since_the_syn_was(judge: Judge) -> None:
    asked, again = syns(0.3).splitlines()
    answer = "10:00:00.1 B > A: S 7000:7000(0) ack 5001 win 65535"
    later = answer.replace("00.1", "00.4")
    own_timer = "\n".join([asked, answer, later])
    assert judge("initial-rto-too-low", own_timer, "B", at="B").answer is FAIL
    since_asked = "\n".join([asked, answer, again, later])
    assert judge("initial-rto-too-low", since_asked, "B", at="B").answer is OPEN


def first_data(trip: float, gap: float) -> str:
    return f"""
    10:00:00.0 A > B: S 5000:5000(0) win 65535
    10:00:{trip:06.3f} B > A: S 7000:7000(0) ack 5001 win 65535
    10:00:02.000 A > B: P 1:100(99) ack 1 win 65535
    10:00:{2 + gap:06.3f} A > B: P 1:100(99) ack 1 win 65535
    10:00:04.500 B > A: . ack 100 win 65535
    10:00:04.600 A > B: . ack 1 win 65535
    """.replace("10:00:02.000", "10:00:00.999 A > B: . ack 1 win 65535\n    10:00:02.000")


@pytest.mark.parametrize(
    ("trip", "gap", "answer"),
    [(0.6, 0.2, FAIL), (0.6, 0.65, PASS), (0.6, 0.57, OPEN), (0.02, 0.22, PASS)],
)
def test_first_data_is_sent_again(judge: Judge, trip: float, gap: float, answer: Answer) -> None:
    assert judge("initial-rto-too-low", first_data(trip, gap)).answer is answer


def test_first_data_that_waits_is_good_and_that_is_answered_soon_says_nothing(
    judge: Judge,
) -> None:
    lines = first_data(0.02, 0.3).splitlines()
    del lines[5]
    assert judge("initial-rto-too-low", "\n".join(lines)).answer is PASS
    soon = "\n".join(lines).replace("10:00:04.500", "10:00:02.400")
    assert judge("initial-rto-too-low", soon).answer is OPEN


def test_after_a_repeated_syn_nothing_tells_how_long_the_handshake_took(judge: Judge) -> None:
    again = "10:00:00.0 A > B: S 5000:5000(0) win 65535\n"
    log = first_data(0.6, 0.2).replace("\n    10:00:00.0 A", f"\n    {again}    10:00:00.0 A")
    log = log.replace("10:00:00.0 A", "09:59:58.9 A", 1)
    assert judge("initial-rto-too-low", log).answer is PASS  # of the SYN; of the data nothing


def at(seconds: float) -> str:
    return f"{int(seconds // 3600):02}:{int(seconds % 3600 // 60):02}:{seconds % 60:06.3f}"


def keepalive(idle: float, probes: int, pace: float, ending: str = "") -> str:
    """A connection, silence, and probes that nobody answers."""
    lines = [
        "00:00:00.0 A > B: S 5000:5000(0) win 65535",
        "00:00:00.1 B > A: S 7000:7000(0) ack 5001 win 65535",
        "00:00:00.2 A > B: . ack 1 win 65535",
    ]
    lines += [f"{at(0.2 + idle + n * pace)} A > B: . 0:0(0) ack 1 win 65535" for n in range(probes)]
    if ending:
        lines.append(f"{at(0.2 + idle + probes * pace)} {ending}")
    return "\n".join(lines)


RESET = "A > B: R 1:1(0) ack 1 win 65535"


@pytest.mark.parametrize(
    ("probes", "pace", "ending", "answer"),
    [
        (9, 75, RESET, PASS),
        (9, 10, RESET, FAIL),
        (9, 11.2, RESET, PASS),
        (5, 1.1, "", FAIL),  # nobody sends another 86
        (2, 1.1, "", OPEN),
        (5, 60, "", PASS),
        (3, 30, "", OPEN),  # the trace may end too early
        (1, 1, RESET, OPEN),
        (3, 1, "B > A: . ack 1 win 65535", OPEN),
    ],
)
def test_unanswered_probes(
    judge: Judge, probes: int, pace: float, ending: str, answer: Answer
) -> None:
    log = keepalive(7200, probes, pace, ending)
    found = judge("keepalive-timeout-too-short", log, default_settings=True)
    assert found.answer is answer
    found = judge("keepalive-timeout-too-short", log)
    assert found.answer is (OPEN if answer is FAIL else answer)


@pytest.mark.parametrize(("idle", "answer"), [(7200, PASS), (7130, PASS), (7000, FAIL), (60, FAIL)])
def test_the_silence_before_a_probe(judge: Judge, idle: float, answer: Answer) -> None:
    log = keepalive(idle, 3, 75)  # the 75 s between unanswered ones do not count
    found = judge("keepalive-interval-too-short", log, default_settings=True)
    assert found.answer is answer
    if answer is FAIL:
        assert judge("keepalive-interval-too-short", log).answer is OPEN


def test_what_asks_a_closed_window_is_no_probe_of_keepalive(judge: Judge) -> None:
    log = keepalive(60, 3, 5).replace("ack 5001 win 65535", "ack 5001 win 0")
    for problem in ("keepalive-interval-too-short", "keepalive-timeout-too-short"):
        assert judge(problem, log, default_settings=True).answer is OPEN


@pytest.mark.parametrize(
    "problem", ["initial-rto-too-low", "keepalive-interval-too-short", "no-slow-start-after-rto"]
)
def test_a_log_without_times_says_nothing_of_timers(
    judge: Judge, rfc_trace: Callable[[str], str], problem: str
) -> None:
    log = rfc_trace("2.16-problem")
    found = judge(problem, log, "client", default_settings=True)
    assert (found.answer, "times" in found.sentence) == (OPEN, True)
