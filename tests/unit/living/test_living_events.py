"""The events of a lab, in order, for whoever listens."""

from __future__ import annotations

import threading

from testbed.living.events import MOST_KEPT, EventLog


def test_events_are_numbered_and_come_in_order_also_later():
    log = EventLog()
    for place in range(3):
        log.add("link", f"link {place}", {"verb": "cut"})
    log.close()
    assert [(one.number, one.about) for one in log.after(1, 1.0) if one] == [
        (2, "link 1"),
        (3, "link 2"),
    ]
    assert log.last == 3 and list(log.after(3, 1.0)) == []


def test_who_waits_is_woken_by_the_next_and_by_the_end():
    log = EventLog()
    heard = []
    listener = threading.Thread(
        target=lambda: heard.extend(one.about for one in log.after(0, 30.0) if one)
    )
    listener.start()
    log.add("end", "pair", {})
    log.close()
    listener.join(30.0)
    assert heard == ["pair"]


def test_silence_is_told():
    assert next(EventLog().after(0, 0.001)) is None


def test_no_more_than_a_thousand_are_kept():
    log = EventLog()
    for place in range(MOST_KEPT + 5):
        log.add("link", str(place), {})
    log.close()
    kept = [one.number for one in log.after(0, 1.0) if one]
    assert kept == list(range(6, MOST_KEPT + 6))
