"""The loop's decisions about when to wake up."""

from __future__ import annotations

from testbed.emulator.ferry import HeadStart

MS = 1_000_000


def test_the_head_start_grows_to_what_waking_up_takes_and_shrinks_slowly():
    start = HeadStart()
    start.learn(120_000)
    assert start.before(10 * MS, 0) == 10 * MS - 130_000
    start.learn(20_000)
    assert 10 * MS - 130_000 < start.before(10 * MS, 0) < 10 * MS - 110_000
    for _ in range(200):
        start.learn(20_000)
    assert 10 * MS - 50_000 < start.before(10 * MS, 0) < 10 * MS - 25_000


def test_a_stall_of_the_machine_does_not_make_it_spin_for_long():
    start = HeadStart()
    start.learn(50 * MS)
    assert start.before(10 * MS, 0) >= 10 * MS - 210_000


def test_spinning_takes_no_more_than_a_tenth_of_the_time():
    start = HeadStart()
    start.learn(100_000)
    now = spun = 0
    while now < 1000 * MS:
        due = now + MS // 2
        wake_at = start.before(due, now)
        if wake_at < due:
            start.spin()
            spun += due - wake_at
        now = due
        start.over(now)
    assert 0 < spun <= 0.1 * now


def test_a_frame_that_was_not_spun_for_costs_no_head_start():
    start = HeadStart()
    start.over(1 * MS)
    assert start.before(10 * MS, 2 * MS) < 10 * MS
