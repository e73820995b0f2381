"""Ladders of clocks that differ or tie, of probes, windows, copies and long times."""

from __future__ import annotations

import pytest

from testbed.report import Arrow, Hop, build_ladder, draw, draw_svg, ladder_from_files
from testbed.trace import read_trace

NAMES = ("client", "middle", "server")


def arrows(ladder):
    return [row for row in ladder.rows if isinstance(row, Arrow)]


def labels(ladder):
    return [row.label for row in arrows(ladder)]


def marks(ladder):
    return [mark.text for row in arrows(ladder) for mark in row.marks]


@pytest.fixture
def on_two_hosts(recording):
    """A plain path of 10 ms each way, the server's clock `ahead` by so many ms."""

    def make(ahead):
        near, far = recording("near.pcap"), recording("far.pcap")
        for capture, late, shift in ((near, 0, 0), (far, 10, ahead)):
            capture.client(0 + late + shift, "S", 0)
            capture.server(20 - late + shift, "SA", 0, 1)
            capture.client(21 + late + shift, "A", 1, 1)
            capture.client(22 + late + shift, "PA", 1, 1, b"q" * 100)
            capture.server(60 - late + shift, "PA", 1, 101, b"r" * 100)
        return near.write(), far.write()

    return make


@pytest.mark.parametrize("ahead", [-40, 40, -3_600_000])
@pytest.mark.parametrize("turned", [False, True])
def test_clocks_of_two_hosts_are_put_right_and_nobody_is_blamed(on_two_hosts, ahead, turned):
    files = on_two_hosts(ahead)
    ladder = ladder_from_files(files[::-1] if turned else files, names=NAMES)
    assert marks(ladder) == []
    assert len(arrows(ladder)) == 10
    assert [round(row.time, 3) for row in arrows(ladder)] == [
        0, 10, 10, 20, 21, 22, 31, 32, 50, 60
    ]  # fmt: skip
    (note,) = ladder.notes
    assert ("ahead" if ahead > 0 else "behind") in note
    assert "far.pcap" in note and "give or take 10.0 ms" in note


def test_clocks_that_may_agree_are_left_alone(on_two_hosts):
    assert ladder_from_files(on_two_hosts(5), names=NAMES).notes == ()


def test_a_box_that_answers_is_still_blamed(recording):
    near, far = recording("near.pcap", server_isn=70_000), recording("far.pcap")
    near.client(0, "S", 0)
    near.server(1, "SA", 0, 1)
    near.client(2, "A", 1, 1)
    far.client(3, "S", 0)
    far.server(9, "SA", 0, 1)
    ladder = ladder_from_files([near.write(), far.write()], names=NAMES)
    assert "answered by middle" in marks(ladder)
    assert ladder.notes == ()


def test_at_one_time_the_order_is_that_of_the_file(recording):
    capture = recording("one.pcap")
    for speak, flags, seq, ack, data in (
        (capture.client, "S", 0, 0, b""), (capture.server, "SA", 0, 1, b""),
        (capture.client, "A", 1, 1, b""), (capture.client, "PA", 1, 1, b"q"),
        (capture.server, "A", 1, 2, b""),
    ):  # fmt: skip
        speak(0, flags, seq, ack, data)
    ladder = ladder_from_files([capture.write(in_order=False)])
    assert labels(ladder) == ["SYN", "SYN ACK", "ACK", "ACK + 1 B", "ACK"]


def test_at_one_time_in_two_captures_an_ack_comes_after_what_it_acknowledges(recording):
    left, right = recording("left.pcap"), recording("right.pcap")
    for capture in (left, right):
        capture.client(0, "S", 0)
        capture.server(0, "SA", 0, 1)
        capture.client(0, "A", 1, 1)
    hops = [
        Hop("a", "m", read_trace(left.write(in_order=False))),
        Hop("m", "b", None, read_trace(right.write(in_order=False))),
    ]
    ladder = build_ladder(("a", "m", "b"), hops, initiator="a")
    assert [(row.label, row.source) for row in arrows(ladder)] == [
        ("SYN", "a"), ("SYN", "m"), ("SYN ACK", "b"), ("SYN ACK", "m"), ("ACK", "a"), ("ACK", "m")
    ]  # fmt: skip


def test_probes_closed_windows_and_copies_have_a_name(recording):
    capture = recording("probes.pcap")
    capture.client(0, "S", 0)
    capture.server(1, "SA", 0, 1)
    capture.client(2, "A", 1, 1)
    capture.client(3, "PA", 1, 1, b"x" * 9)
    capture.again(3.1)
    capture.server(4, "A", 1, 10)
    capture.client(1000, "A", 9, 1)
    capture.server(1001, "A", 1, 10, window=0)
    capture.client(2000, "A", 10, 1, b"y")
    assert labels(ladder_from_files([capture.write()])) == [
        "SYN", "SYN ACK", "ACK", "ACK + 9 B", "ACK + 9 B (copy)", "ACK", "ACK (keepalive)",
        "ACK (window 0)", "ACK + 1 B (window probe)",
    ]  # fmt: skip


def test_windows_are_shown_on_request_and_scaled(recording):
    capture = recording("windows.pcap")
    capture.client(0, "S", 0, scale=7)
    capture.server(1, "SA", 0, 1, scale=3)
    capture.client(2, "A", 1, 1, window=500)
    capture.server(3, "A", 1, 1, window=500)
    ladder = ladder_from_files([capture.write()])
    assert [row.window for row in arrows(ladder)] == [None, 8192, 64_000, 4_000]
    assert "win" not in str(draw(ladder))
    assert "ack 1 win 64000" in str(draw(ladder, 140, windows=True))
    assert "ack 1 win 4000" in draw_svg(ladder, windows=True)


def test_windows_of_an_unseen_handshake_are_not_known(recording):
    capture = recording("late.pcap")
    capture.client(0, "A", 1, 1, b"x")
    assert [row.window for row in arrows(ladder_from_files([capture.write()]))] == [None]


def test_a_long_ladder_is_timed_in_seconds(recording):
    capture = recording("long.pcap")
    capture.client(0, "S", 0)
    capture.client(300_000, "S", 0)
    text = str(draw(ladder_from_files([capture.write()])))
    assert "300.000 s" in text and "0.000 s" in text and "ms" not in text


def test_numbers_of_another_connection_are_not_shown(recording):
    capture = recording("stray.pcap", client_isn=3_000_000_000)
    capture.client(0, "S", 0)
    capture.server(1, "A", 5, 3_000_000_000)
    ladder = ladder_from_files([capture.write()])
    assert "ack" not in str(draw(ladder)).splitlines()[-1]
    assert "seq 0" in draw_svg(ladder)


def test_a_clock_that_was_set_back_is_told(recording):
    capture = recording("back.pcap")
    capture.client(1000, "S", 0)
    capture.server(10, "SA", 0, 1)
    ladder = ladder_from_files([capture.write(in_order=False)])
    assert ladder.notes == ("time goes back in back.pcap at packet 2",)
    assert all(row.time >= 0 for row in arrows(ladder))


@pytest.mark.parametrize("turned", [False, True])
def test_a_capture_without_the_connection_is_told(on_two_hosts, recording, turned):
    near, far = on_two_hosts(0)
    stray = recording("stray.pcap", client_isn=77, client_port=40_001)
    stray.client(0, "S", 0)
    columns = ("client", "a", "b", "server")
    files = [far, stray.write(), near] if turned else [near, stray.write(), far]
    (note,) = ladder_from_files(files, names=columns).notes
    assert note == (
        "stray.pcap has nothing of 10.0.0.1:40000 to 10.0.1.1:80; is it of the same run?"
    )
