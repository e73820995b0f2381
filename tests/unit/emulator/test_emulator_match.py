"""Impairments for a part of the packets, under a clock that only the test moves."""

from __future__ import annotations

import pytest
from emulator_frames import ethernet, ipv4, ipv6, segment, tcp

from testbed.errors import TopologyError
from testbed.lab.link import check_impairments
from testbed.topology.model import Impairments, Match
from testbed.topology.planning.plan import plan
from testbed.topology.yaml.load import loads

MS = 1_000_000


def rules(*given: Match, **others: object) -> Impairments:
    return Impairments(match=given, **others)  # type: ignore[arg-type]


def later(ms: int, **about: object) -> Match:
    return Match(impairments=Impairments(delay=ms / 1000), **about)  # type: ignore[arg-type]


def of_port(source: int) -> bytes:
    return segment(port=source)


def test_only_what_fits_is_delayed_and_others_overtake_it(line):
    link = line(rules(later(10, port=443), delay=0.001))
    link.send(of_port(443), 0)
    link.send(of_port(444), 0)
    assert link.arrivals() == [(1 * MS, of_port(444)), (11 * MS, of_port(443))]


def test_either_port_fits(line):
    link = line(rules(later(10, port=80)))  # the destination
    link.send(of_port(40000), 0)
    assert link.arrivals()[0][0] == 10 * MS


@pytest.mark.parametrize(
    ("about", "fits"),
    [
        ({"to": ("10.0.0.2/32",)}, True),
        ({"to": ("10.0.0.0/24",)}, True),
        ({"to": ("10.0.0.1",)}, False),
        ({"source": ("10.0.0.1",)}, True),
        ({"source": ("fd00::1", "10.0.0.0/8")}, True),
        ({"source": ("fd00::1",)}, False),
        ({"protocol": "tcp"}, True),
        ({"protocol": "udp"}, False),
        ({"protocol": "tcp", "port": 1}, False),
        ({}, True),
    ],
)
def test_what_a_rule_is_about(line, about, fits):
    link = line(rules(later(10, **about)))
    link.send(segment(), 0)
    assert link.arrivals()[0][0] == (10 * MS if fits else 0)


def test_addresses_of_ipv6_fit_too_and_what_is_no_ip_never_does(line):
    link = line(rules(later(10, to=("fd00::/64",))))
    link.send(ethernet(ipv6(tcp())), 0)
    link.send(segment(), 0)
    assert [time for time, _ in link.arrivals()] == [0, 10 * MS]
    everything = line(rules(later(10)))
    everything.send(b"\2" * 12 + b"\x08\x06" + bytes(28), 0)  # ARP
    assert everything.arrivals()[0][0] == 0


def test_a_later_fragment_has_no_ports(line):
    packet = bytearray(ipv4(tcp(port=443)))
    packet[6:8] = b"\x00\x10"
    link = line(rules(later(10, port=443), later(20, protocol="tcp")))
    link.send(ethernet(bytes(packet)), 0)
    assert link.arrivals()[0][0] == 20 * MS


def test_the_first_rule_that_fits_holds(line):
    link = line(rules(later(10, port=443), later(20)))
    link.send(of_port(443), 0)
    link.send(of_port(444), 0)
    assert [time for time, _ in link.arrivals()] == [10 * MS, 20 * MS]


def test_a_rule_has_a_rate_and_a_queue_of_its_own_before_that_of_the_link(line):
    frame, other = of_port(443), of_port(444)
    own = Match(port=443, impairments=Impairments(rate=8 * len(frame) * 1000))  # 1 ms a frame
    link = line(rules(own, rate=8 * len(frame) * 10_000))  # 0.1 ms a frame
    for _ in range(3):
        link.send(frame, 0)
    link.send(other, 0)
    assert link.chain.counters(0).waiting == 2
    assert link.arrivals() == [
        (100_000, other),
        (1_100_000, frame),
        (2_100_000, frame),
        (3_100_000, frame),
    ]


def test_losses_of_a_rule_are_counted_with_the_others(line):
    link = line(rules(Match(port=443, impairments=Impairments(loss=1.0))))
    link.send(of_port(443), 0)
    link.send(of_port(444), 0)
    assert len(link.arrivals()) == 1
    assert link.dropped("loss") == 1


def test_what_is_under_way_in_a_rule_that_is_taken_away_still_arrives(line):
    link = line(rules(later(10, port=443)))
    link.send(of_port(443), 0)
    assert link.chain.counters(0).in_flight == 1
    link.set(Impairments(), 1 * MS)
    link.send(of_port(443), 2 * MS)
    assert [time for time, _ in link.arrivals()] == [2 * MS, 10 * MS]


def test_a_rule_that_stays_keeps_its_queue_when_its_delay_changes(line):
    link = line(rules(later(10, port=443)))
    link.send(of_port(443), 0)
    link.set(rules(later(5, port=443)), 1 * MS)
    link.send(of_port(443), 1 * MS)
    assert [time for time, _ in link.arrivals()] == [6 * MS, 10 * MS]
    assert link.chain.in_force == rules(later(5, port=443))


def test_what_is_read_back_is_compared_within_rules(line):
    asked = rules(later(10, port=443))
    check_impairments("link", "forward", asked, line(asked).chain.in_force)
    with pytest.raises(Exception, match="match was to be"):
        check_impairments("link", "forward", asked, rules(later(11, port=443)))
    with pytest.raises(Exception, match="match was to be"):
        check_impairments("link", "forward", asked, rules(later(10, port=444)))


TEXT = """
name: t
nodes: {a: , b: , c: , s: {kind: switch}}
links:
  - endpoints: [a, s]
    forward:
      match:
        - {to: [b, 10.9.0.0/16], protocol: tcp, port: 443, delay: 20ms, loss: 5%%}
        - {from: %s, rate: 1mbit}
  - {endpoints: [b, s]}
  - {endpoints: [c, s]}
"""


def test_names_of_nodes_become_their_addresses():
    link = plan(loads(TEXT % "a")).links[0]
    first, second = link.forward.match
    assert first.to == ("10.0.1.2", "fd00:0:0:1::2", "10.9.0.0/16")
    assert (first.protocol, first.port) == ("tcp", 443)
    assert first.impairments == Impairments(delay=0.020, loss=0.05)
    assert second.source == ("10.0.1.1", "fd00:0:0:1::1")
    assert second.impairments.rate == 1e6
    assert link.emulated


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("d", r"forward.match\[1\].from: .*'d'"),
        ("default", "expected a node or a prefix"),
        ("10.0.0.1/24", "has host bits set"),
    ],
)
def test_a_rule_about_nobody_is_refused(name, told):
    with pytest.raises(TopologyError, match=told):
        loads(TEXT % name)


def test_ports_of_icmp_are_refused():
    text = "name: t\nnodes: {a: , b: }\nlinks: [{endpoints: [a, b], match: [{%s}]}]"
    for words, told in {
        "protocol: icmp, port: 7": "ICMP has no ports",
        "loss: 2": "match",
        "port: 70000": "port",
    }.items():
        with pytest.raises(TopologyError, match=told):
            loads(text % words)
