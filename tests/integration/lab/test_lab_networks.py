"""Networks that people bring, running: two homes with one subnet, one family, loopbacks."""

from __future__ import annotations

import pytest

from testbed.errors import LabError
from testbed.lab import Lab
from testbed.topology.yaml.load import loads
from testbed.traffic import transfer

HOMES = """
name: homes
nodes:
  pc1:
  pc2:
  nat1: {kind: middlebox, outside: isp, functions: [nat]}
  nat2: {kind: middlebox, outside: isp, functions: [nat]}
  isp: {kind: router, interfaces: {lo: {addresses: [10.255.0.1/32]}}}
  server: {interfaces: {lo: {addresses: [10.255.0.9/32, "fd00:ff::9/128"]}}}
  client6:
links:
  - {endpoints: [pc1, nat1], subnet: 192.168.1.0/24, family: ipv4, private: true}
  - {endpoints: [pc2, nat2], subnet: 192.168.1.0/24, family: ipv4, private: true}
  - {endpoints: [nat1, isp]}
  - {endpoints: [nat2, isp]}
  - {endpoints: [isp, server], subnet: 10.64.0.0/12}
  - {endpoints: [isp, client6], subnet: "fd00:7::/64", family: ipv6}
"""


@pytest.fixture(scope="module")
def homes():
    with Lab(loads(HOMES)) as lab:
        yield lab


@pytest.mark.parametrize("pc", ["pc1", "pc2"])
def test_the_same_subnet_behind_two_nats_reaches_the_same_server(homes, pc):
    assert homes[pc].address == "192.168.1.1"
    assert transfer(homes[pc], homes["server"], 100_000).size == 100_000


def test_loopback_addresses_of_a_router_and_of_a_host_answer(homes):
    for address in ("10.255.0.1", "10.255.0.9"):
        homes["pc1"].ping(address)
    homes["client6"].ping("fd00:ff::9")


def test_a_node_of_ipv6_alone_reaches_others_by_their_names(homes):
    homes["client6"].ping("server")
    assert transfer(homes["client6"], homes["server"], 1000, family=6).size == 1000


@pytest.mark.parametrize(("prefer", "colon"), [("ipv4", False), ("ipv6", True)])
def test_programs_and_python_prefer_the_same_family(prefer, colon):
    with Lab(
        loads(f"name: p\nprefer: {prefer}\nnodes: {{a: , b: }}\nlinks: [{{endpoints: [a, b]}}]")
    ) as lab:
        first = lab["a"].run(["getent", "ahosts", "b"]).stdout.split()[0]
        assert first == lab["b"].address
        assert (":" in first) == colon


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_lab_of_one_family_needs_no_words_about_it(family):
    text = f"name: one\nfamily: {family}\nnodes: {{a: , b: }}\nlinks: [{{endpoints: [a, b]}}]"
    with Lab(loads(text)) as lab:
        lab["a"].ping("b")
        assert transfer(lab["a"], lab["b"], 1000).size == 1000
        other = 6 if family == "ipv4" else 4
        assert not lab["a"].addresses(other)


PEERS = """
name: peers
nodes: {a: , b: , c: , s: {kind: switch}}
links:
  - endpoints: [a, s]
    forward: {match: [{to: c, delay: 40ms}]}
  - {endpoints: [b, s]}
  - {endpoints: [c, s]}
"""


def test_peers_on_a_switch_are_at_distances_of_their_own():
    with Lab(loads(PEERS)) as lab:
        near, far = (min(lab["a"].ping(peer) for _ in range(3)) for peer in "bc")
        assert far > 0.040 > near
        lab.link("a", "s").set(toward="s", match=[{"to": "b", "delay": "40ms"}])
        near, far = (min(lab["a"].ping(peer) for _ in range(3)) for peer in "cb")
        assert far > 0.040 > near


VLANS = """
name: vlans
nodes:
  a:
  b:
  c:
  d:
  r: {kind: router}
  s1:
    kind: switch
    interfaces: {1: {vlan: 10}, 2: {vlan: 20}, r10: {vlan: 10}, r20: {vlan: 20}, up: {%s}}
  s2: {kind: switch, interfaces: {1: {vlan: 10}, 2: {vlan: 20}, up: {%s}}}
links:
  - {endpoints: [a, s1:1]}
  - {endpoints: [b, s1:2]}
  - {endpoints: [c, s2:1]}
  - {endpoints: [d, s2:2]}
  - {endpoints: [r, s1:r10]}
  - {endpoints: [r, s1:r20]}
  - {endpoints: [s1:up, s2:up], emulated: true}
captures: [s1:up]
"""


def test_vlans_of_a_switch_are_joined_by_a_router_alone():
    with Lab(loads(VLANS % ("vlan: 10", "vlan: 10"))) as lab:
        lab["a"].ping("c")
        lab["a"].ping("b")
        with pytest.raises(LabError, match="unreachable"):
            lab["b"].ping("d")
        lab["r"].run(["ip", "link", "set", "eth0", "down"])
        lab["a"].ping("c")
        with pytest.raises(LabError, match=r"No reply|unreachable"):
            lab["a"].ping("b", timeout=0.2)
