"""No RTO backoff: the third of three intervals tells."""

from __future__ import annotations

import pytest

from testbed.conformance import Answer

PROBLEM = "no-rto-backoff"


def log(*times: float, after: str = "") -> str:
    lines = ["10:00:00.0 B > A: . ack 1 win 9000"]
    lines += [f"10:00:{at:09.6f} A > B: P 1:3(2) ack 1 win 9000" for at in times]
    return "\n".join(lines) + after


@pytest.mark.parametrize(
    ("times", "answer"),
    [
        ((1, 2, 3, 4), Answer.FAIL),
        ((1, 2, 3.2, 4.45), Answer.FAIL),  # grows, but by a fifth each
        ((1, 2, 4, 8), Answer.PASS),
        ((1, 2, 3, 5), Answer.PASS),  # a tail loss probe, then time-outs that double
        ((1, 2, 3), Answer.INCONCLUSIVE),
        ((1, 2, 4), Answer.PASS),
        ((1, 4, 8, 16), Answer.PASS),  # the second was lost before the capture
        ((1, 2), Answer.INCONCLUSIVE),
    ],
)
def test_times_of_retransmissions(judge, times, answer):
    assert judge(PROBLEM, log(*times)).answer is answer


def test_a_limit_of_a_minute_may_end_the_doubling(judge):
    minutes = [f"1{m // 60}:{m % 60:02}:{s:02}.0" for m, s in ((1, 0), (2, 4), (3, 8), (4, 12))]
    lines = [f"{at} A > B: P 1:3(2) ack 1 win 9000" for at in minutes]
    assert judge(PROBLEM, "\n".join(lines)).answer is not Answer.FAIL


def test_what_the_peer_says_in_between_can_be_the_reason(judge):
    lines = log(1, 2, 3, 4).splitlines()
    lines.insert(4, "10:00:03.5 B > A: . ack 1 win 9000")
    assert judge(PROBLEM, "\n".join(lines)).answer is Answer.INCONCLUSIVE


def test_probes_of_a_closed_window_are_no_retransmissions(judge):
    closed = log(1, 2, 3, 4).replace("ack 1 win 9000", "ack 1 win 0", 1)
    assert judge(PROBLEM, closed).answer is Answer.INCONCLUSIVE


def test_a_failure_tells_figures_and_segments(judge):
    finding = judge(PROBLEM, log(1, 1.4, 1.81, 2.2))
    assert finding.segments == (2, 3, 4, 5)
    assert "0.40, 0.41, 0.39 s" in finding.sentence
    assert "at least 1.60 s" in finding.sentence
