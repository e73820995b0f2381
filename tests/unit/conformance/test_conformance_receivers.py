"""The checks of receivers: data beyond a hole, closed windows, stretched ACKs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.conformance import Answer
from tests.unit.conformance.conftest import Judge

PASS, FAIL, OPEN = Answer.PASS, Answer.FAIL, Answer.INCONCLUSIVE


def hole(beyond: int, ack: int) -> str:
    """B's segment 1001:2001 is missing, `beyond` others come, then it comes; A answers `ack`."""
    lines = [
        "10:00:00.0 B > A: . 1:1001(1000) ack 1 win 9000",
        "10:00:00.1 A > B: . ack 1001 win 9000",
    ]
    for n in range(beyond):
        start = 2001 + 1000 * n
        lines.append(f"10:00:00.2{n} B > A: . {start}:{start + 1000}(1000) ack 1 win 9000")
    lines += [
        "10:00:01.0 B > A: . 1001:2001(1000) ack 1 win 9000",
        f"10:00:01.1 A > B: . ack {ack} win 9000",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("beyond", "ack", "at", "answer"),
    [
        (3, 2001, "A", FAIL),
        (3, 2001, "B", OPEN),  # they may have been lost later
        (3, 2001, "", OPEN),
        (2, 2001, "A", OPEN),  # too few, may have been dropped for want of room
        (3, 5001, "A", PASS),
        (3, 5001, "", PASS),
        (0, 2001, "A", OPEN),
    ],
)
def test_data_beyond_a_hole(judge: Judge, beyond: int, ack: int, at: str, answer: Answer) -> None:
    assert judge("no-above-sequence-retention", hole(beyond, ack), at=at).answer is answer


def test_one_hole_that_shows_retention_outweighs_another(judge: Judge) -> None:
    again = hole(3, 5001).replace("10:00", "10:01")
    for number in range(9000, 0, -1000):  # the same further on
        again = again.replace(f"{number + 1}", f"{number + 1 + 10000}")
    again = again.replace("1:11001", "10001:11001").replace("ack 1 win", "ack 1 win")
    both = hole(3, 2001) + "\n10:00:59.0 A > B: . ack 10001 win 9000\n" + again
    assert judge("no-above-sequence-retention", both, at="A").answer is PASS


def test_acks_that_are_ignored_behind_a_closed_window(
    judge: Judge, rfc_trace: Callable[[str], str]
) -> None:
    log = rfc_trace("2.12-problem")
    assert judge("window-probe-deadlock", log).answer is FAIL
    assert judge("window-probe-deadlock", log, at="B").answer is OPEN
    lines = log.splitlines()
    # Before anything is sent again, and where nothing was accepted beyond the window.
    again = next(n for n, line in enumerate(lines) if "1:14337" in line)
    assert judge("window-probe-deadlock", "\n".join(lines[:again])).answer is not FAIL
    refused = log.replace("57346 win 0", "57345 win 0").replace("ack 57346", "ack 57345")
    assert judge("window-probe-deadlock", refused).answer is OPEN
    # A single ACK may have been lost after it was captured.
    assert sum(" B > A: . 57346:57346(0) ack 14337" in line for line in lines) == 3
    once = [
        line for n, line in enumerate(lines) if n < again - 3 or "1:14337" in line
    ]  # fmt: skip
    assert judge("window-probe-deadlock", "\n".join(once)).answer is OPEN


def acks(each: int, number: int, *, size: int = 1000, window: int = 9000, step: int = 0) -> str:
    """`number` ACKs of `each` segments, the window changing by `step` each time."""
    lines = ["10:00:00.00 A > B: . ack 1 win 9000"]
    end = 1
    for n in range(number):
        for k in range(each):
            stamp = f"10:00:{n:02}.{k:03}"
            lines.append(f"{stamp} B > A: . {end}:{end + size}({size}) ack 1 win 9000")
            end += size
        lines.append(f"10:00:{n:02}.9 A > B: . ack {end} win {window + n * step}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("each", "number", "at", "answer"),
    [
        (3, 3, "A", FAIL),
        (3, 2, "A", OPEN),
        (3, 3, "B", OPEN),
        (3, 3, "", OPEN),
        (2, 3, "A", PASS),
        (2, 3, "B", PASS),
        (1, 9, "A", OPEN),
    ],
)
def test_stretched_acks(judge: Judge, each: int, number: int, at: str, answer: Answer) -> None:
    assert judge("stretch-ack", acks(each, number), at=at).answer is answer


def test_some_stretched_acks_are_not_most(judge: Judge) -> None:
    two = acks(2, 5)
    end = 5 * 2000
    three = acks(3, 4).splitlines()[1:]
    moved = "\n".join(three).replace("10:00", "10:01")
    for start in range(12000, -1, -1000):
        moved = moved.replace(f" {start + 1}:", f" {start + 1 + end}:").replace(
            f":{start + 1}(", f":{start + 1 + end}("
        )
        moved = moved.replace(f"ack {start + 1} win 9000", f"ack {start + 1 + end} win 9000")
    moved = moved.replace(f") ack {1 + end} win", ") ack 1 win")
    assert judge("stretch-ack", two + "\n" + moved, at="A").answer is OPEN


def test_acks_of_a_reader_that_stops_say_nothing(judge: Judge) -> None:
    stopped = acks(3, 4, window=60000, step=-3000)
    assert judge("stretch-ack", stopped, at="A").answer is OPEN


def test_acks_of_small_segments_say_nothing(judge: Judge) -> None:
    small = acks(3, 4, size=100)
    full = "10:00:05.0 B > A: . 1201:2201(1000) ack 1 win 9000"
    assert judge("stretch-ack", f"{small}\n{full}", at="A").answer is OPEN
