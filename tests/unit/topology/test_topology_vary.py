"""Variants of a topology: new objects, and errors that name what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import TopologyError
from testbed.topology.model import FunctionSpec
from testbed.topology.vary import with_function, with_function_if, with_link, with_node
from testbed.topology.yaml.load import load, loads

DOCOMO = load(Path(__file__).parents[3] / "topologies" / "docomo.yaml")


def test_a_link_changes_in_both_directions_and_the_given_topology_stays() -> None:
    slow = with_link(DOCOMO, "gateway", "router", delay=0.165)
    assert slow.links[0].forward.delay == slow.links[0].reverse.delay == 0.165
    assert slow.links[1] == DOCOMO.links[1]
    assert DOCOMO.links[0].forward.delay == 0.01
    assert with_link(DOCOMO, "router", "gateway", delay=0.165) == slow


def test_a_direction_is_from_the_first_named_node() -> None:
    there = with_link(DOCOMO, "gateway", "router", direction="forward", loss=0.5)
    assert (there.links[0].forward.loss, there.links[0].reverse.loss) == (0.5, 0)
    back = with_link(DOCOMO, "router", "gateway", direction="forward", loss=0.5)
    assert (back.links[0].forward.loss, back.links[0].reverse.loss) == (0, 0.5)
    assert with_link(DOCOMO, "router", "gateway", direction="reverse", loss=0.5) == there
    assert there.links[0].forward.delay == 0.01


def test_other_fields_of_a_link_change_too() -> None:
    link = with_link(DOCOMO, "router", "server", mtu=1400, emulated=True, rate=1e6).links[1]
    assert (link.mtu, link.emulated, link.forward.rate, link.reverse.rate) == (1400, True, 1e6, 1e6)


def test_a_node_changes() -> None:
    bare = with_node(DOCOMO, "gateway", routes=(), congestion_control=None)
    assert bare.nodes["gateway"].routes == ()
    assert DOCOMO.nodes["gateway"].routes
    assert list(bare.nodes) == list(DOCOMO.nodes)


def test_a_function_changes_or_is_added() -> None:
    hold = with_function(DOCOMO, "router", "setup-proxy", handshake_data="hold")
    assert hold.nodes["router"].functions == (
        FunctionSpec("setup-proxy", {"handshake_data": "hold"}),
    )
    more = with_function(DOCOMO, "router", "nat", ports=5)
    assert [function.name for function in more.nodes["router"].functions] == ["setup-proxy", "nat"]
    assert DOCOMO.nodes["router"].functions[0].options == {"handshake_data": "drop"}


def test_a_function_that_is_not_wanted_leaves_none() -> None:
    held = {"handshake_data": "hold"}
    with_it = with_function_if(True, DOCOMO, "router", "setup-proxy", **held)
    assert with_it == with_function(DOCOMO, "router", "setup-proxy", **held)
    without = with_function_if(False, DOCOMO, "router", "setup-proxy", **held)
    assert without.nodes["router"].functions == ()


def test_the_round_trip_of_a_path_is_that_of_its_links() -> None:
    slow = with_link(DOCOMO, "gateway", "router", delay=0.05)
    assert slow.round_trip == pytest.approx(DOCOMO.round_trip - 0.02 + 0.1)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(TopologyError, match="no node 'gatewy'; did you mean 'gateway'"):
        with_link(DOCOMO, "gatewy", "router", delay=1)
    with pytest.raises(TopologyError, match=r"no link between gateway and server; .* to router"):
        with_link(DOCOMO, "gateway", "server", delay=1)
    with pytest.raises(TopologyError, match="a link has no 'dely'; did you mean 'delay'"):
        with_link(DOCOMO, "gateway", "router", dely=1)
    with pytest.raises(TopologyError, match="expected both, forward or reverse, got 'up'"):
        with_link(DOCOMO, "gateway", "router", direction="up", delay=1)
    with pytest.raises(TopologyError, match="a node has no 'route'; did you mean 'routes'"):
        with_node(DOCOMO, "gateway", route=())
    with pytest.raises(TopologyError, match="no node 'x'"):
        with_node(DOCOMO, "x", routes=())
    with pytest.raises(TopologyError, match="no node 'x'"):
        with_function(DOCOMO, "x", "nat")


def test_two_links_between_the_same_nodes_are_ambiguous() -> None:
    double = loads("name: t\nnodes: {a: , b: }\nlinks: [{endpoints: [a, b]}, {endpoints: [b, a]}]")
    with pytest.raises(TopologyError, match="2 links between a and b"):
        with_link(double, "a", "b", delay=1)
