"""The story of a connection, its plots, and the command that tells both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import rdpcap, wrpcap
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.report import Arrow, Silence, connection_story, ladder_from_traces
from testbed.report.braille import braille_plot
from testbed.report.telling import MOST_TELLING, telling_frames
from testbed.trace import read_trace

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def write(path: Path, losses: int = 1) -> Path:
    """A connection in which every second of many segments is sent again, by time-out."""
    packets = []

    def say(at: float, outward: bool, flags: str, seq: int, ack: int, size: int = 0, window=5000):
        ends = ("10.0.0.1", 40000), ("10.0.1.1", 80)
        (source, sport), (destination, dport) = ends if outward else ends[::-1]
        options = [("SAckOK", b""), ("MSS", 1460), ("WScale", 0)] if "S" in flags else []
        one = Ether(**MACS) / IP(src=source, dst=destination, id=len(packets) + 1)
        one = one / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=window,
                        options=options)  # fmt: skip
        one = one / Raw(bytes(size)) if size else one
        one.time = 1_700_000_000 + at
        packets.append(one)

    say(0, True, "S", 0, 0)
    say(0.1, False, "SA", 0, 1)
    say(0.1001, True, "A", 1, 1)
    for index in range(losses):
        at, seq = 1.0 + index, 1 + index * 100
        say(at, True, "A", seq, 1, 100)
        say(at + 0.4, True, "A", seq, 1, 100)
        say(at + 0.5, False, "A", 1, seq + 100, window=0 if index == 0 else 5000)
    say(90, True, "FA", 1 + losses * 100, 1)
    wrpcap(str(path), packets)
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write(tmp_path / "a.pcap")


def test_the_story_tells_what_happened(capture):
    trace = read_trace(capture)
    told = connection_story(trace, trace.connections[0])
    assert told.sentences == (
        "10.0.0.1:40000 talks to 10.0.1.1:80 from 0.000 s on, for 90.000 s; captured at the "
        "initiator, by the round trips.",
        "The SYN/ACK comes 100.0 ms after the SYN, and its ACK 0.100 ms later.",
        "Agreed on: SACK, window scales 0 and 0; MSS 1460 and 1460.",
        "The initiator sent 100 bytes in 5 segments: 3 new data, 1 retransmission, 1 pure ACK.",
        "At 1,400.0 ms the initiator sends 1 segment again by time-out (the first is seq 1, "
        "400.0 ms after it was sent); acknowledged 100.0 ms later.",
        "The responder sent 0 bytes in 2 segments: 1 new data, 1 zero window.",
        "The responder closed its window 1 time, for 88.500 s at most; 0 probes asked for it.",
        "The initiator sent the first FIN at 90.000 s; how it ended: half-closed.",
    )
    (episode,) = told.episodes
    assert (episode.numbers, episode.reasons) == ((5,), ("timeout",))


def test_a_story_does_not_grow_with_its_connection(tmp_path):
    trace = read_trace(write(tmp_path / "long.pcap", losses=60))
    told = connection_story(trace, trace.connections[0])
    assert len(told.episodes) == 60
    assert len(told.sentences) < 24
    assert "So it goes on: 48 more episodes of losses." in told.sentences


def test_the_command_tells_draws_and_plots(capture):
    result = CliRunner().invoke(app, ["trace", str(capture), "-c", "1"])
    assert result.exit_code == 0, result.output
    assert "by time-out" in result.output
    assert "SYN ACK" in result.output
    assert "goodput (Mbit/s)" in result.output


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plots_go_to_a_file(capture, tmp_path, suffix):
    picture = tmp_path / f"plot.{suffix}"
    result = CliRunner().invoke(app, ["trace", str(capture), "-c", "1", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert picture.read_bytes().startswith(starts)


def test_json_has_all_of_it(capture):
    result = CliRunner().invoke(app, ["trace", str(capture), "-c", "1", "--json"])
    found = json.loads(result.output)
    assert found["classes"]["initiator"]["retransmission"] == 1
    assert found["sent_again"][0]["reason"] == "timeout"
    assert found["timeouts"]["initiator"][0]["waited_ms"] == pytest.approx(400)
    names = {one["name"] for one in found["curves"]["initiator"]}
    assert {"sent", "round trip", "in flight", "window", "goodput"} <= names


def test_a_plot_needs_a_connection_and_a_known_format(capture, tmp_path):
    for arguments in (["--plot", "a.png"], ["-c", "1", "--plot", "a.gif"], ["-c", "9"]):
        result = CliRunner().invoke(app, ["trace", str(capture), *arguments])
        assert result.exit_code != 0


def test_dots_are_where_the_values_are():
    told = braille_plot([([0, 1], [0, 8])], title="t", width=2, height=1)
    assert told.splitlines()[1].endswith("⡀⠈")


def test_the_ladder_of_a_long_connection_has_what_tells_most(tmp_path):
    trace = read_trace(write(tmp_path / "long.pcap", losses=30))
    (connection,) = trace.connections
    story = connection_story(trace, connection)
    frames = telling_frames(connection, story)
    total = len(connection.segments)
    again = story.episodes[0].numbers[0]
    assert {1, 2, 3, again - 1, again, again + 1, total} <= frames
    ladder = ladder_from_traces([trace], connection=1, frames=frames)
    arrows = [row for row in ladder.rows if isinstance(row, Arrow)]
    left_out = sum(row.left_out for row in ladder.rows if isinstance(row, Silence))
    assert (len(arrows), left_out) == (MOST_TELLING, total - MOST_TELLING)
    assert ladder.omitted == 0


def test_all_of_a_short_connection_tells_something(capture):
    trace = read_trace(capture)
    (connection,) = trace.connections
    frames = telling_frames(connection, connection_story(trace, connection))
    assert frames == {one.number for one in connection.segments}


def test_frames_are_numbers_in_the_first_capture(tmp_path, capture):
    further = [one for one in rdpcap(str(capture)) for _ in (0, 1)]
    for one, packet in enumerate(further[::2]):  # each behind a packet of others
        further[one * 2] = Ether(**MACS) / Raw(bytes(50))
        further[one * 2].time = packet.time
    wrpcap(str(tmp_path / "b.pcap"), further)
    traces = [read_trace(capture), read_trace(tmp_path / "b.pcap")]
    ladder = ladder_from_traces(traces, connection=1, frames=[2])
    arrows = [row for row in ladder.rows if isinstance(row, Arrow)]
    assert {row.label for row in arrows} == {"SYN ACK"}
