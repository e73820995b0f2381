"""Scripted losses: rules against hand-made TCP conversations."""

from __future__ import annotations

import pytest
from emulator_frames import MULTICAST, UNICAST, ethernet, ipv4, segment, tcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.emulator.elements.script import MOST_CONNECTIONS, ConnectionTracker
from testbed.topology.model import DropRule, Impairments
from testbed.wire.frame import ip_of_frame

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
DATA = b"d" * 100


def conversation(port: int = 40000, start: int = 1000, version: int = 4) -> list[bytes]:
    """SYN, ACK, four data segments, the second one again, FIN: frames 1 to 8."""
    return [
        segment(start, SYN, port=port, version=version),
        segment(start + 1, ACK, port=port, version=version),
        segment(start + 1, ACK | PSH, DATA, port, version),
        segment(start + 101, ACK, DATA, port, version),
        segment(start + 201, ACK, DATA, port, version),
        segment(start + 301, ACK, DATA, port, version),
        segment(start + 101, ACK, DATA, port, version),
        segment(start + 401, ACK | FIN, port=port, version=version),
    ]


def lost(line, frames: list[bytes], *rules: DropRule) -> list[int]:
    """The numbers, from 1, of the frames that did not arrive."""
    scripted = line(Impairments(drop=rules))
    missing = []
    for number, frame in enumerate(frames, 1):
        before = scripted.dropped("script")
        scripted.send(frame, number)
        if scripted.dropped("script") > before:
            missing.append(number)
    assert [frame for _, frame in scripted.arrivals()] == [
        frame for number, frame in enumerate(frames, 1) if number not in missing
    ]
    return missing


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (DropRule(packet=7), [7]),
        (DropRule(packet=99), []),
        (DropRule(data_segment=1), [3]),
        (DropRule(data_segment=3), [5]),
        (DropRule(data_segment=5), []),
        (DropRule(retransmission=1), [7]),
        (DropRule(retransmission=2), []),
        (DropRule(flags="SYN"), [1]),
        (DropRule(flags="ACK"), [2]),
        (DropRule(flags="ACK", nth=3), [4]),
        (DropRule(flags="PSH"), [3]),
        (DropRule(flags="FIN"), [8]),
        (DropRule(flags="FIN+ACK"), [8]),
        (DropRule(flags="SYN+ACK"), []),
        (DropRule(flags="RST"), []),
    ],
)
def test_a_rule_drops_the_packet_it_names_and_no_other(line, rule, expected, version):
    assert lost(line, conversation(version=version), rule) == expected


def test_a_syn_is_not_a_syn_ack(line):
    frames = [segment(5, SYN | ACK), segment(6, SYN)]
    assert lost(line, frames, DropRule(flags="SYN")) == [2]
    assert lost(line, frames, DropRule(flags="SYN+ACK")) == [1]


def test_rules_are_counted_side_by_side(line):
    rules = (DropRule(packet=3), DropRule(data_segment=1), DropRule(data_segment=2))
    assert lost(line, conversation(), *rules) == [3, 4]


def test_a_connection_is_told_by_its_number(line):
    mixed = [
        frame
        for pair in zip(conversation(40000), conversation(40001), strict=True)
        for frame in pair
    ]
    assert lost(line, mixed, DropRule(data_segment=2, connection=1)) == [7]
    assert lost(line, mixed, DropRule(data_segment=2, connection=2)) == [8]
    assert lost(line, mixed, DropRule(data_segment=2)) == [6]
    assert lost(line, mixed, DropRule(packet=3, connection=2)) == [6]
    assert lost(line, mixed, DropRule(packet=1, connection=3)) == []


def test_a_port_used_again_is_another_connection(line):
    frames = conversation(start=1000) + conversation(start=900_000)
    assert lost(line, frames, DropRule(data_segment=1, connection=2)) == [11]


def test_a_repeated_syn_is_a_retransmission_of_the_same_connection(line):
    frames = [segment(5, SYN), segment(5, SYN), segment(6, ACK, DATA)]
    assert lost(line, frames, DropRule(retransmission=1)) == [2]
    assert lost(line, frames, DropRule(data_segment=1, connection=1)) == [3]


def test_sequence_numbers_may_wrap(line):
    assert lost(line, conversation(start=2**32 - 150), DropRule(data_segment=3)) == [5]
    assert lost(line, conversation(start=2**32 - 150), DropRule(retransmission=1)) == [7]


def test_a_segment_that_is_partly_new_counts_as_new(line):
    frames = [segment(1, ACK, DATA), segment(51, ACK, DATA), segment(51, ACK, DATA)]
    assert lost(line, frames, DropRule(data_segment=2)) == [2]
    assert lost(line, frames, DropRule(retransmission=1)) == [3]


def test_background_noise_is_not_counted(line):
    arp = UNICAST + b"\x08\x06" + bytes(46)
    discovery = ethernet(ipv4(tcp(), protocol=58), addresses=MULTICAST)
    frames = [arp, discovery, b"", b"runt", ethernet(ipv4(b"udp.....", protocol=17)), segment()]
    assert lost(line, frames, DropRule(packet=1)) == [5]
    assert lost(line, frames, DropRule(packet=2)) == [6]


def test_counting_starts_anew_with_new_rules_and_goes_on_with_the_same(line):
    rule = DropRule(packet=3)
    scripted = line(Impairments(drop=(rule,)))
    scripted.send(segment(), 0)
    scripted.set(Impairments(drop=(rule,), delay=0.001), 1)
    scripted.send(segment(), 2)
    scripted.send(segment(), 3)
    assert scripted.dropped("script") == 1
    scripted.set(Impairments(drop=(DropRule(packet=1),)), 4)
    scripted.send(segment(), 5)
    assert scripted.dropped("script") == 2


def test_memory_is_bounded_however_many_connections_come():
    connections = ConnectionTracker()
    for number in range(MOST_CONNECTIONS + 500):
        frame = ethernet(ipv4(tcp(flags=SYN, port=number % 65536), source=f"10.{number >> 16}.0.1"))
        headers = ip_of_frame(frame)
        assert headers is not None
        found = connections.read(frame, headers)
        assert found is not None and found.connection == number + 1
    assert len(connections._known) == MOST_CONNECTIONS


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_frame_is_too_odd(line, payloads):
    rules = (DropRule(flags="SYN"), DropRule(retransmission=1), DropRule(packet=2))
    scripted = line(Impairments(drop=rules))
    for payload in payloads:
        scripted.send(UNICAST + b"\x08\x00" + payload, 0)
        scripted.send(UNICAST + b"\x86\xdd" + payload, 0)
