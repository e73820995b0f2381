"""A network as a picture: everything on it, at a place that depends on the topology alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from testbed.loading import load, loads
from testbed.report.graph import NetworkPicture, network_picture
from testbed.report.graph_svg import draw_network_svg
from testbed.report.graph_terminal import draw_network
from testbed.topology.model import Impairments
from testbed.topology.planning.plan import plan

TOPOLOGIES = sorted((Path(__file__).parents[3] / "topologies").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"
RING = """
name: ring
nodes: {a: {kind: router}, b: {kind: router}, c: {kind: router}, far: {}}
links:
  - {endpoints: [a, b], forward: {delay: 1ms}, reverse: {loss: 2%}}
  - {endpoints: [b, c], rate: 5mbit}
  - {endpoints: [c, a]}
  - {endpoints: [c, far]}
"""
ISLANDS = "name: islands\nnodes: {a: {}, b: {}, c: {}}\nlinks: [{endpoints: [a, b]}]\n"


def picture(text: str) -> NetworkPicture:
    return network_picture(plan(loads(text)))


def test_a_chain_stands_in_a_row_from_one_end_to_the_other():
    drawn = network_picture(plan(load("docomo")))
    assert [[node.name for node in column] for column in drawn.columns] == [
        ["gateway"], ["router"], ["server"],
    ]  # fmt: skip


def test_the_text_has_nodes_addresses_functions_and_impairments():
    assert draw_network(network_picture(plan(load("docomo")))).splitlines() == [
        "docomo: One second late behind a TCP setup proxy",
        "",
        "gateway (host)",
        "│  eth0 10.0.1.1/24, fd00:0:0:1::1/64",
        "└─ eth0 - outside  10ms",
        "   router (middlebox)",
        "   │  outside 10.0.1.2/24, fd00:0:0:1::2/64",
        "   │  inside 10.0.2.1/24, fd00:0:0:2::1/64",
        "   │  setup-proxy",
        "   └─ inside - eth0",
        "      server (host)",
        "         eth0 10.0.2.2/24, fd00:0:0:2::2/64",
    ]


def test_a_circle_is_drawn_once_round():
    text = draw_network(picture(RING))
    assert text.count("(router)") == 4 and text.count("(above)") == 1
    assert "to b: 1ms; to a: loss 2%" in text and "5mbit" in text


def test_parts_that_no_link_joins_stand_below_each_other():
    drawn = picture(ISLANDS)
    assert draw_network(drawn, ascii_only=True).isascii()
    assert len({(node.column, node.row) for node in drawn.nodes}) == 3


def test_a_link_of_a_lab_is_drawn_as_it_is_now():
    planned = plan(load("pair"))
    now = Impairments(delay=0.5)
    cut = network_picture(planned, lambda _: (now, now, frozenset({"forward", "reverse"})))
    assert "cut, 500ms" in draw_network(cut)
    assert "stroke-dasharray" in draw_network_svg(cut)
    half = network_picture(planned, lambda _: (now, now, frozenset({"forward"})))
    assert "to server: cut, 500ms; to client: 500ms" in draw_network(half)
    assert "stroke-dasharray" not in draw_network_svg(half)


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_every_topology_is_drawn_the_same_twice_and_within_the_page(path):
    drawn = network_picture(plan(load(path)))
    document = draw_network_svg(drawn)
    assert document == draw_network_svg(network_picture(plan(load(path))))
    root = ElementTree.fromstring(document)
    words = "\n".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))
    text = draw_network(drawn)
    for node in drawn.nodes:
        assert f"{node.name} · {node.kind}" in words and f"{node.name} ({node.kind})" in text
    lines = [one.lines for one in drawn.nodes] + [one.lines for one in drawn.links]
    for said in (line for some in lines for line in some):
        assert said in words and said in text
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [
        tuple(float(one.attrib.get(name, 0)) for name in ("x", "y", "width", "height"))
        for one in root.iter(f"{SVG}rect")
    ]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_no_two_boxes_of_nodes_overlap(path):
    root = ElementTree.fromstring(draw_network_svg(network_picture(plan(load(path)))))
    boxes = [
        tuple(float(one.attrib[name]) for name in ("x", "y", "width", "height"))
        for one in root.iter(f"{SVG}rect")
        if "f-band" in one.attrib["class"]
    ]
    for place, (x, y, w, h) in enumerate(boxes):
        for u, v, p, q in boxes[:place]:
            assert x + w < u or u + p < x or y + h < v or v + q < y
