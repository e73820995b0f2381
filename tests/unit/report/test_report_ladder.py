"""The ladder: its model, and the text that people see."""

from __future__ import annotations

import json
from io import StringIO
from textwrap import dedent

import msgspec
import pytest
from rich.console import Console

from testbed.errors import TraceError
from testbed.report import (
    Arrow,
    Hop,
    Ladder,
    MarkKind,
    Silence,
    build_ladder,
    ladder_from_files,
)
from testbed.report.ladder_terminal import beside, draw
from testbed.trace import read_trace

NAMES = ("gateway", "router", "server")

FAULTY = """\
setup proxy on
      time   gateway                                 router                                  server
    0.0 ms      ├────────────── SYN seq 0 ─────────────▶│                                       │
   10.3 ms      │                                       ├────────────── SYN seq 0 ─────────────▶│
   10.4 ms      │                                       │◀──────── SYN ACK seq 0 ack 1 ─────────┤
   10.6 ms      │                                       ├─────────── ACK seq 1 ack 1 ──────────▶│
   20.1 ms      │◀────────────── SYN ACK ───────────────┤ answered by router                    │
   20.2 ms      ├───────────── ACK + 512 B ─────────────✗ dropped by router                     │
                ⋮                                       ⋮                                       ⋮
                ⋮ 1.201 s of silence                    ⋮                                       ⋮
                ⋮                                       ⋮                                       ⋮
1,221.4 ms      ├───── ↻ ACK + 512 B retransmission ───▶│                                       │
1,231.7 ms      │                                       ├───── ↻ ACK + 512 B retransmission ───▶│
1,231.8 ms      │                                       │◀───────── ACK seq 1 ack 513 ──────────┤
1,232.1 ms      │                                       │◀───── ACK + 1024 B seq 1 ack 513 ─────┤
1,242.0 ms      │◀───────── ACK seq 1 ack 513 ──────────┤                                       │
1,242.3 ms      │◀───── ACK + 1024 B seq 1 ack 513 ─────┤                                       │
1,242.4 ms      ├───────── ACK seq 513 ack 1025 ───────▶│                                       │
1,252.6 ms      │                                       ├───────── ACK seq 513 ack 1025 ───────▶│"""

NARROW_ASCII = """\
setup proxy on
      time   gateway                  router                   server
    0.0 ms      |------- SYN seq 0 ----->|                        |
   10.3 ms      |                        |------- SYN seq 0 ----->|
   10.4 ms      |                        |<------- SYN ACK -------|
   10.6 ms      |                        |---- ACK seq 1 ack 1 -->|
   20.1 ms      |<------- SYN ACK -------| answered by router     |
   20.2 ms      |------ ACK + 512 B -----X dropped by router      |
                :                        :                        :
                : 1.201 s of silence     :                        :
                :                        :                        :
1,221.4 ms      |----- @ ACK + 512 B --->|                        |
                |     retransmission     |                        |"""


@pytest.fixture
def ladder(faulty):
    return ladder_from_files(faulty, names=NAMES, title="setup proxy on")


def arrows(ladder: Ladder) -> list[Arrow]:
    return [row for row in ladder.rows if isinstance(row, Arrow)]


def marks(ladder: Ladder) -> list[tuple[str, str]]:
    return [(row.label, mark.text) for row in arrows(ladder) for mark in row.marks]


def test_the_case_at_full_width(ladder):
    assert str(draw(ladder)) == FAULTY


def test_the_case_in_a_narrow_terminal_without_unicode(ladder):
    text = str(draw(ladder, 70, ascii_only=True))
    assert text.isascii()
    assert text.splitlines()[: len(NARROW_ASCII.splitlines())] == _rstripped(NARROW_ASCII)


def _rstripped(text: str) -> list[str]:
    return [line.rstrip() for line in dedent(text).splitlines()]


def test_what_is_marked_in_the_case(ladder):
    assert marks(ladder) == [
        ("SYN ACK", "answered by router"),
        ("ACK + 512 B", "dropped by router"),
        ("ACK + 512 B", "retransmission"),
        ("ACK + 512 B", "retransmission"),
    ]
    (silence,) = [row for row in ladder.rows if isinstance(row, Silence)]
    assert (silence.time, silence.duration) == (pytest.approx(20.2), pytest.approx(1201.2))
    assert ladder.columns == NAMES


def test_a_healthy_path_bears_no_mark(healthy):
    ladder = ladder_from_files(healthy, names=NAMES)
    assert marks(ladder) == []
    assert not any(isinstance(row, Silence) for row in ladder.rows)
    assert len({row.journey for row in arrows(ladder)}) == 6
    assert len(arrows(ladder)) == 12


def test_times_are_known_at_the_captured_ends_only(ladder):
    first, second = arrows(ladder)[:2]
    assert (first.source, first.target, first.sent, first.received) == (
        "gateway",
        "router",
        0.0,
        None,
    )
    assert (second.sent, second.received, second.journey) == (None, 10.3, first.journey)


def test_a_client_on_the_right_is_recognised(faulty):
    """The server's side first: columns from right to left, the story the same."""
    near, far = (read_trace(path) for path in faulty)
    hops = [Hop("server", "router", far), Hop("router", "gateway", None, near)]
    ladder = build_ladder(("server", "router", "gateway"), hops)
    assert marks(ladder) == [
        ("SYN ACK", "answered by router"),
        ("ACK + 512 B", "dropped by router"),
        ("ACK + 512 B", "retransmission"),
        ("ACK + 512 B", "retransmission"),
    ]
    assert "dropped by router ✗" in str(draw(ladder))


def test_files_in_the_wrong_order_are_turned_round(faulty):
    assert str(draw(ladder_from_files(faulty[::-1], names=NAMES, title="setup proxy on"))) == FAULTY


def test_one_file_gives_two_columns_named_by_address(faulty):
    ladder = ladder_from_files(faulty[:1])
    assert ladder.columns == ("10.0.0.1", "10.0.1.1")
    assert marks(ladder) == [("ACK + 512 B", "retransmission")]


def test_two_files_give_three_columns(faulty):
    assert ladder_from_files(faulty).columns == ("10.0.0.1", "middle", "10.0.1.1")


def test_both_ends_of_a_link_tell_a_loss_on_it(recording):
    left, right = recording("left.pcap"), recording("right.pcap")
    for capture, late in ((left, 0), (right, 5)):
        capture.client(0 + late, "S", 0)
        capture.server(20 - late, "SA", 0, 1)
        capture.client(21 + late, "A", 1, 1)
    left.client(30, "PA", 1, 1, b"lost")
    left.client(240, "PA", 1, 1, b"lost")
    right.client(245, "PA", 1, 1, b"lost")
    hop = Hop("a", "b", read_trace(left.write()), read_trace(right.write()))
    ladder = build_ladder(("a", "b"), [hop])
    assert marks(ladder) == [
        ("ACK + 4 B", "lost on the link"),
        ("ACK + 4 B", "retransmission"),
    ]
    assert [(row.sent, row.received) for row in arrows(ladder)] == [
        (0, 5), (15, 20), (21, 26), (30, None), (240, 245)
    ]  # fmt: skip
    assert "✗" in str(draw(ladder))


def test_a_syn_that_nobody_answers_is_dropped(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    for at in (0, 1000, 3000):
        near.client(at, "S", 0)
    ladder = ladder_from_files([near.write(), far.write()], names=NAMES)
    assert marks(ladder) == [
        ("SYN", "dropped by router"),
        ("SYN", "retransmission"),
        ("SYN", "dropped by router"),
        ("SYN", "retransmission"),
        ("SYN", "dropped by router"),
    ]


def test_a_syn_answered_in_the_middle_is_not_dropped_even_if_the_server_never_sees_it(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    near.client(0, "S", 0)
    near.server(20, "SA", 0, 1)
    near.client(21, "A", 1, 1)
    near.client(22, "PA", 1, 1, b"request")
    near.server(5000, "RA", 1, 8)
    ladder = ladder_from_files([near.write(), far.write()], names=NAMES)
    assert marks(ladder) == [
        ("SYN ACK", "answered by router"),
        ("ACK + 7 B", "dropped by router"),
        ("RST ACK", "reset by router"),
    ]


def test_bytes_that_go_on_in_other_segments_are_not_dropped(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    for capture, late in ((near, 0), (far, 10)):
        capture.client(0 + late, "S", 0)
        capture.server(20 - late, "SA", 0, 1)
        capture.client(21 + late, "A", 1, 1)
    near.client(30, "PA", 1, 1, b"a" * 1000)
    far.client(40, "A", 1, 1, b"a" * 500)
    far.client(41, "PA", 501, 1, b"a" * 500)
    near.server(100, "FA", 1, 1001)
    far.server(90, "FA", 1, 1001)
    ladder = ladder_from_files([near.write(), far.write()], names=NAMES)
    assert marks(ladder) == []


def test_what_was_still_in_flight_at_the_end_is_not_called_dropped(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    for capture, late in ((near, 0), (far, 10)):
        capture.client(0 + late, "S", 0)
        capture.server(20 - late, "SA", 0, 1)
        capture.client(21 + late, "A", 1, 1)
    near.client(30, "FA", 1, 1)  # would have come by at 40 ms, when nothing was captured any more
    assert marks(ladder_from_files([near.write(), far.write()], names=NAMES)) == []


def test_nothing_is_called_dropped_after_the_end_of_a_truncated_capture(recording, tmp_path):
    near, far = recording("near.pcap"), recording("far.pcap")
    for number in range(4):
        near.client(20 * number, "S" if number == 0 else "PA", number, 1, b"x" * bool(number))
        far.client(20 * number + 5, "S" if number == 0 else "PA", number, 1, b"x" * bool(number))
    near.server(200, "A", 1, 4)
    whole, cut = far.write(), tmp_path / "cut.pcap"
    cut.write_bytes(whole.read_bytes()[:-5])
    assert marks(ladder_from_files([near.write(), cut], names=NAMES)) == []


def test_what_passed_before_the_next_capture_began_is_not_called_dropped(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    near.client(0, "S", 0)
    near.server(20, "SA", 0, 1)
    for number in range(4):
        near.client(30 + 20 * number, "PA", 1 + 10 * number, 1, b"0123456789")
        if number > 1:
            far.client(40 + 20 * number, "PA", 1 + 10 * number, 1, b"0123456789")
    assert marks(ladder_from_files([near.write(), far.write()], names=NAMES)) == []


def test_a_limit_says_how_much_is_left_out(faulty):
    ladder = ladder_from_files(faulty, names=NAMES, limit=5)
    assert (len(arrows(ladder)), ladder.omitted) == (5, 9)
    assert str(draw(ladder)).splitlines()[-1].strip() == "… 9 more segments left out"


def test_one_connection_of_many_is_chosen_by_number(recording):
    first, second = recording("first.pcap"), recording("second.pcap", client_isn=5)
    first.client(0, "S", 0)
    second.client(10_000, "S", 0, 0, b"tfo")
    first._packets += second._packets
    path = first.write()
    assert [row.label for row in arrows(ladder_from_files([path]))] == ["SYN"]
    ladder = ladder_from_files([path], connection=2)
    assert [(row.label, row.time) for row in arrows(ladder)] == [("SYN + 3 B", 0.0)]
    assert ladder.notes == ("connection 2 of 2",)
    for number in (0, 3, -1):
        with pytest.raises(TraceError, match=f"no connection {number}: choose one from 1 to 2"):
            ladder_from_files([path], connection=number)


def test_wrong_questions_are_told_apart(faulty, recording):
    with pytest.raises(TraceError, match="at least one capture"):
        ladder_from_files([])
    with pytest.raises(TraceError, match=r"give 3 columns, but 2 name\(s\) were given: a, b"):
        ladder_from_files(faulty, names=["a", "b"])
    with pytest.raises(TraceError, match=r"no TCP connection to draw in: .*empty\.pcap"):
        ladder_from_files([recording("empty.pcap").write()])
    with pytest.raises(TraceError, match="one hop between each two neighbours, found a-c"):
        build_ladder(("a", "b"), [Hop("a", "c")])
    with pytest.raises(TraceError, match="initiator is a or b, not c"):
        build_ladder(("a", "b"), [Hop("a", "b")], initiator="c")


def test_a_short_ladder_is_timed_in_microseconds(recording):
    capture = recording("short.pcap")
    capture.client(0, "S", 0)
    capture.server(0.0426, "SA", 0, 1)
    assert "0.043 ms" in str(draw(ladder_from_files([capture.write()])))


def test_side_by_side_where_it_fits(faulty, healthy):
    left = ladder_from_files(faulty, names=NAMES, title="faulty")
    right = ladder_from_files(healthy, names=NAMES, title="healthy")
    wide = str(beside(left, right, 160)).splitlines()
    assert wide[0].split() == ["faulty", "healthy"]
    assert max(map(len, wide)) <= 160
    narrow = str(beside(left, right, 100)).splitlines()
    assert (narrow[0], narrow[len(FAULTY.splitlines()) + 1]) == ("faulty", "healthy")
    assert max(map(len, narrow)) <= 100


def test_rich_prints_the_same_text(ladder):
    out = StringIO()
    Console(file=out, width=100).print(draw(ladder))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == FAULTY.splitlines()


def test_colour_is_there_as_well_as_text(ladder):
    (line,) = [line for line in draw(ladder).lines if "dropped" in line.plain]
    assert any("red" in str(span.style) for span in line.spans)


def test_plain_data_for_json(ladder):
    data = json.loads(msgspec.json.encode(ladder))
    assert data["rows"][5]["marks"] == [{"kind": "dropped", "text": "dropped by router"}]
    assert data["rows"][6]["type"] == "silence"
    assert {mark.kind for row in arrows(ladder) for mark in row.marks} <= set(MarkKind)
