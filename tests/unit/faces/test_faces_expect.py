"""What tests expect of connections, and what a failure shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from testbed import eventually, expect, read_trace
from testbed.errors import TraceError
from testbed.trace import RepeatReason, SegmentClass, Trace, compare

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
ENDS = ("10.0.0.1", 40000), ("10.0.1.1", 80)


def packet(at: float, outward: bool, flags: str, seq: int, ack: int, size: int = 0):
    (source, sport), (destination, dport) = ENDS if outward else ENDS[::-1]
    made = Ether(**MACS) / IP(src=source, dst=destination, id=round(at * 1e4) + 1)
    made = made / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=5000)
    made = made / Raw(bytes(size)) if size else made
    made.time = 1_700_000_000 + at
    return made


def packets():
    return [
        packet(0, True, "S", 0, 0),
        packet(0.1, False, "SA", 0, 1),
        packet(0.1001, True, "A", 1, 1, 50),
        packet(0.5, True, "A", 1, 1, 50),
        packet(0.6, False, "A", 1, 51),
    ]


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    wrpcap(str(tmp_path / "a.pcap"), packets())
    return read_trace(tmp_path / "a.pcap", nodes={"gateway": ("10.0.0.1",), "server": ENDS[1][:1]})


@pytest.mark.parametrize(
    "ends",
    [
        {},
        {"client": "gateway"},
        {"client": "gateway", "server": "server"},
        {"client": "10.0.0.1", "server": 80},
        {"server": "10.0.1.1:80"},
    ],
)
def test_a_connection_is_found_by_its_ends(trace, ends):
    assert trace.connection(**ends) is trace.connections[0]


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"client": "server"}, "found 0. There are 1: 10.0.0.1:40000 to 10.0.1.1:80"),
        ({"client": "gatewya"}, "Names of nodes known here: gateway, server"),
        ({"server": 81}, "server=81, found 0"),
    ],
)
def test_an_error_lists_what_there_is(trace, ends, told):
    with pytest.raises(TraceError, match=told.replace(".", r"\.")):
        trace.connection(**ends)


def test_what_holds_is_no_failure(trace):
    connection = trace.connection(client="gateway")
    assert connection.client.first_data.carried_by_handshake_ack
    assert connection.server.first_data is None
    assert connection.handshake.rtt.to_responder == pytest.approx(100e6, abs=1e4)
    (
        expect(connection)
        .opens(within=0.2)
        .retransmits(exactly=1)
        .retransmits(at_most=0, reason=RepeatReason.FAST)
        .sends(SegmentClass.NEW_DATA, at_least=2)
        .ends_by("open")
        .every("has a window", lambda segment: segment.window > 0)
    )


def test_a_failure_shows_the_ladder_around_what_is_wrong(trace):
    with pytest.raises(AssertionError) as caught:
        expect(trace.connection()).retransmits(at_most=0)
    told = str(caught.value)
    assert "expected at most 0 retransmissions, found 1. Packets 4." in told
    (line,) = [line for line in told.splitlines() if "this one" in line]
    assert "ACK + 50 B (retransmission)" in line


@pytest.mark.parametrize(
    "wrong",
    [
        lambda it: it.opens(within=0.05),
        lambda it: it.ends_by("FIN"),
        lambda it: it.retransmits(at_least=2),
        lambda it: it.sends(SegmentClass.KEEPALIVE, exactly=1),
        lambda it: it.every("is small", lambda segment: not segment.length),
    ],
)
def test_what_does_not_hold_is_a_failure(trace, wrong):
    with pytest.raises(AssertionError, match="expected"):
        wrong(expect(trace.connection()))


def test_two_captures_tell_what_was_lost_delayed_and_rewritten(trace, tmp_path):
    arrived = [one for index, one in enumerate(packets()) if index != 2]
    for one in arrived:
        late = 0.01 if one[IP].src == "10.0.0.1" else -0.01
        one.time += late
        if late > 0:
            one[TCP].window = 4000
            del one[TCP].chksum
    wrpcap(str(tmp_path / "b.pcap"), arrived)
    compared = compare(trace, trace.connection(), read_trace(tmp_path / "b.pcap"))
    assert compared is not None
    assert len(compared.lost(outward=True)) == 1 and compared.lost(outward=False) == ()
    assert {round(one.transit / 1e6) for one in compared.crossings(True)} == {10}
    assert {one.changes for one in compared.rewritten(True)} == {("window",)}
    assert compared.rewritten(False) == ()


def test_eventually_returns_the_state_that_was_awaited():
    states = iter([1, 2, 3, 4])
    assert eventually(lambda: next(states), lambda state: state > 2, within=60) == 3


def test_eventually_tells_the_last_state():
    with pytest.raises(
        AssertionError, match=r"Not so within 0.02 s; the last state: \{'sent': 7\}"
    ):
        eventually(lambda: {"sent": 7}, lambda state: state["sent"] > 7, within=0.02)
