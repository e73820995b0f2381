"""A kind of node that one file adds is loaded, planned, built and shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from testbed import Lab
from testbed.kernel.netlink import rtnetlink
from testbed.lab import kinds as lab_kinds
from testbed.lab.kinds import builds
from testbed.lab.kinds import registry as lab_registry
from testbed.lab.node import LabNode
from testbed.lab.node_builder import NodeBuilder
from testbed.report import plan_tables
from testbed.topology import NodeKind, kinds, node_kind, plan
from testbed.topology.kinds import registry
from testbed.topology.values.scalars import TEXT
from testbed.topology.values.shapes import Key
from testbed.topology.yaml.load import loads

TOPOLOGY = """
name: t
nodes: {a: {}, g: {kind: gateway, vendor: acme}, b: {}}
links: [{endpoints: [a, g]}, {endpoints: [g, b]}]
"""


class Gateway(NodeKind):
    forwards = True
    keys = (Key("vendor", TEXT, "Who made it."),)


class GatewayNode(LabNode):
    @property
    def vendor(self) -> str:
        return self._plan.topology.nodes[self.name].settings["vendor"]


class GatewayBuilder(NodeBuilder):
    def make_node(self, runtime):
        return GatewayNode(self.planned, self.plan, self.namespace, runtime)

    def requests_before(self):
        return [rtnetlink.bridge("mgmt", self.take_index("mgmt"))]


@pytest.fixture(autouse=True)
def _registered_for_this_test(monkeypatch):
    kinds.names()
    lab_kinds.builder_of("host")
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(lab_registry, "_registered", dict(lab_registry._registered))
    node_kind("gateway")(Gateway)
    builds("gateway")(GatewayBuilder)


def test_a_kind_of_ones_own_works_from_the_text_to_the_kernel():
    topology = loads(TOPOLOGY)
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    console.print(plan_tables(plan(topology)))
    assert "vendor: acme" in shown.getvalue()
    with Lab(topology) as lab:
        assert isinstance(lab["g"], GatewayNode)
        assert lab["g"].vendor == "acme"
        assert "mgmt" in lab["g"].run(["ip", "-br", "link"]).stdout
        assert lab["a"].ping("b") < 1


def test_one_class_builds_a_kind():
    with pytest.raises(ValueError, match="'switch' are built by SwitchBuilder already"):
        builds("switch")(GatewayBuilder)
