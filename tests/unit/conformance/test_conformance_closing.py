"""The checks of how connections are closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE

FIN = "fin-not-sent-promptly"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["A > B: P 1:41(40)", "B > A: . ack 41", "A > B: F 41:41(0)"], FAIL),
        (["A > B: P 1:41(40)", "A > B: F 41:41(0)", "B > A: . ack 42"], PASS),
        (["A > B: FP 1:41(40)", "B > A: . ack 42"], PASS),
        (["A > B: P 1:41(40)", "B > A: P 1:9(8) ack 41", "A > B: F 41:41(0) ack 9"], OPEN),
        (["A > B: P 1:41(40)", "B > A: F 1:1(0) ack 41", "A > B: F 41:41(0) ack 2"], OPEN),
        (["A > B: P 1:41(40)", "B > A: . ack 41"], OPEN),
        (["B > A: . ack 1", "A > B: F 1:1(0)"], OPEN),  # no data
    ],
)
def test_a_fin_follows_the_data(judge: Judge, lines: list[str], answer: Answer) -> None:
    told = ["B > A: . ack 1", *lines]
    log = "\n".join(f"10:00:0{n}.0 {line} win 9000" for n, line in enumerate(told))
    assert judge(FIN, log, plain_close=True).answer is answer
    assert judge(FIN, log, plain_close=True, at="B").answer is (OPEN if answer is FAIL else answer)
    assert judge(FIN, log).answer is (OPEN if answer is FAIL else answer)


HALF = "no-rst-after-half-duplex-close"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["B > A: P 1:11(10)", "A > B: R 42:42(0)"], PASS),
        (["B > A: P 1:11(10)", "A > B: . 42:42(0) ack 11 win 9000"], FAIL),
        (["B > A: . 1:1(0)"], OPEN),
        (["B > A: F 1:1(0)", "A > B: . 42:42(0) ack 2 win 9000"], OPEN),
        (["B > A: P 1:11(10)"], OPEN),  # the answer may come yet
        (["B > A: P 1:11(10)", "A > B: . 42:42(0) ack 1 win 0"] * 3, FAIL),
        (["B > A: P 1:11(10)", "A > B: . 42:42(0) ack 1 win 0"] * 2, OPEN),
    ],
)
def test_data_after_a_fin(judge: Judge, lines: list[str], answer: Answer) -> None:
    log = "10:00:00.0 A > B: P 1:41(40) ack 1 win 9000\n10:00:00.1 A > B: F 41:41(0) ack 1 win 9000"
    for n, line in enumerate(lines, 1):
        told = line if "B > A" not in line else f"{line} ack 42 win 9000"
        log += f"\n10:00:{n:02}.0 {told}"
    assert judge(HALF, log, plain_close=True).answer is answer
    assert judge(HALF, log).answer is (OPEN if answer is FAIL else answer)


PENDING = "no-rst-on-close-with-data-pending"


@pytest.mark.parametrize(
    ("window", "end", "answer"),
    [
        (0, "F 1:1(0) ack 4097 win 0", FAIL),
        (0, "R 1:1(0) win 4096", PASS),
        (0, "R 1:1(0) ack 4097 win 0", PASS),
        (0, "F 1:1(0) ack 4097 win 4096", OPEN),  # it may have been read
        (512, "F 1:1(0) ack 4097 win 512", OPEN),
        (512, "R 1:1(0) win 0", OPEN),
        (0, ". 1:1(0) ack 4097 win 0", OPEN),
    ],
)
def test_the_end_with_data_pending(judge: Judge, window: int, end: str, answer: Answer) -> None:
    log = (
        "10:00:00.0 B > A: . 1:4097(4096) ack 1 win 4096\n"
        f"10:00:00.1 A > B: . 1:1(0) ack 4097 win {window}\n"
        f"10:00:05.0 A > B: {end}\n"
    )
    assert judge(PENDING, log, plain_close=True).answer is answer
    assert judge(PENDING, log).answer is (OPEN if answer is FAIL else answer)


def test_a_better_trace_than_the_problem_is_not_the_problem(
    judge: Judge, rfc_trace: Callable[[str], str]
) -> None:
    assert judge(PENDING, rfc_trace("2.17-better"), "D", plain_close=True).answer is OPEN
    assert judge(HALF, rfc_trace("2.17-better"), "D", plain_close=True).answer is PASS
