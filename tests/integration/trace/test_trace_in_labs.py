"""Captures made in labs: copies of a router, of a link that duplicates, and real losses."""

from __future__ import annotations

import os
import time

import pytest

from testbed import Lab, loads
from testbed.trace import Trace, read_trace
from testbed.traffic import transfer

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)

ONE_ARM = """
name: one-arm
nodes:
  a: {routes: [{to: b, via: r}]}
  b: {routes: [{to: a, via: r}]}
  r: {kind: router}
  sw: {kind: switch}
links:
  - {endpoints: [a, sw], delay: 1ms}
  - {endpoints: [b, sw], delay: 1ms}
  - {endpoints: [r, sw]}
captures: [r]
"""

LOSSY = """
name: lossy-router
nodes: {a: {congestion_control: reno}, r: {kind: router}, b: {congestion_control: reno}}
links:
  - endpoints: [a:eth0, r:eth0]
    forward: {delay: 2ms, drop: [{data_segment: 20}, {data_segment: 40}, {data_segment: 60}]}
    reverse: {delay: 2ms}
  - {endpoints: [r:eth1, b:eth0], delay: 2ms}
captures: [a:eth0, r:eth1]
"""

TWICE = """
name: twice
nodes: {a: {congestion_control: reno}, b: {congestion_control: reno}}
links:
  - endpoints: [a:eth0, b:eth0]
    forward: {delay: 2ms, duplicate: 100%}
    reverse: {delay: 2ms}
captures: [b:eth0]
"""


def sums(trace: Trace) -> tuple[int, int, int]:
    """Retransmissions, forwarded and repeated segments of all connections."""
    directions = [one for connection in trace.connections for one in connection.directions]
    return (
        sum(len(one.retransmissions()) for one in directions),
        sum(len(one.forwarded) for one in directions),
        sum(len(one.repeated) for one in directions),
    )


def test_a_router_with_one_leg_forwards_and_nobody_sends_again(tmp_path):
    with Lab(loads(ONE_ARM), captures=tmp_path) as lab:
        for name in ("r", "a", "b"):
            for what in ("all", "eth0"):
                lab[name].set_sysctl(f"net.ipv4.conf.{what}.send_redirects", "0")
                lab[name].set_sysctl(f"net.ipv4.conf.{what}.accept_redirects", "0")
        found = transfer(lab["a"], lab["b"], 200_000)
    trace = read_trace(tmp_path / "r-eth0.pcap")
    again, forwarded, repeated = sums(trace)
    assert (again, repeated) == (found.info.total_retrans, 0)
    assert forwarded == len(trace.segments) / 2
    clean = read_trace(tmp_path / "r-eth0.pcap", ignore_copies=True)
    assert len(clean.segments) == clean.copies_ignored == forwarded
    for one in (trace, clean):
        rtt = one.connections[0].handshake_rtt
        assert rtt.doubt == "" and rtt.total > 4_000_000


def test_a_capture_of_all_interfaces_of_a_router_counts_what_was_lost_once(tmp_path):
    everything = tmp_path / "any.pcap"
    with Lab(loads(LOSSY), captures=tmp_path) as lab:
        # Of whole packets its buffer has room for a few only.
        dump = lab["r"].start(
            ["tcpdump", "-i", "any", "-s", "200", "-U", "--immediate-mode", "-w", str(everything)]
        )
        limit = time.monotonic() + 30
        while "listening on" not in dump.stderr_text():
            assert time.monotonic() < limit
            time.sleep(0.01)
        found = transfer(lab["a"], lab["b"], 300_000)
        dump.stop()
    sender = read_trace(tmp_path / "a-eth0.pcap")
    router = read_trace(everything)
    assert sums(sender) == (found.info.total_retrans, 0, 0)
    again, forwarded, repeated = sums(router)
    # What was lost before the router is new there.
    assert (again, repeated) == (found.info.total_retrans - 3, 0)
    assert forwarded == pytest.approx(len(router.segments) / 2, abs=4)


def test_what_a_link_duplicates_is_told_apart_from_what_tcp_repeats(tmp_path):
    with Lab(loads(TWICE), captures=tmp_path) as lab:
        found = transfer(lab["a"], lab["b"], 100_000)
    trace = read_trace(tmp_path / "b-eth0.pcap")
    (connection,) = trace.connections
    sent = connection.by_initiator
    assert (len(sent.retransmissions()), sent.forwarded) == (found.info.total_retrans, ())
    assert len(sent.repeated) == len(sent.segments) / 2
    assert connection.by_responder.repeated == ()
