"""Kinds of nodes: what one file adds is loaded, checked, planned and shown."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from testbed.errors import TopologyError
from testbed.report import plan_tables
from testbed.topology import Node, NodeKind, kinds, node_kind, plan
from testbed.topology.kinds import registry
from testbed.topology.values.scalars import TEXT
from testbed.topology.values.shapes import Key
from testbed.topology.yaml.load import loads
from testbed.topology.yaml.schema import json_schema


@pytest.fixture
def gateway(monkeypatch):
    """A kind of node that this test adds, and takes away again."""
    kinds.names()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @node_kind("gateway")
    class Gateway(NodeKind):
        forwards = True
        keys = (Key("vendor", TEXT, "Who made it."),)
        interface_names = ("wan", 1)

    return Gateway


def topology(settings: str):
    return loads(
        f"name: t\nnodes: {{a: {{}}, g: {{{settings}}}, b: {{}}}}\n"
        "links: [{endpoints: [a, g]}, {endpoints: [g, b]}]"
    )


@pytest.mark.usefixtures("gateway")
def test_a_kind_of_ones_own_is_loaded_planned_and_shown():
    planned = plan(topology("kind: gateway, vendor: acme"))
    box = planned.nodes["g"]
    assert [interface.name for interface in box.interfaces] == ["wan1", "wan2"]
    assert box.sysctls["net.ipv4.ip_forward"] == "1"
    assert planned.nodes["a"].routes, "what forwards is a way to others"
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    console.print(plan_tables(planned))
    assert "gateway" in shown.getvalue() and "vendor: acme" in shown.getvalue()


@pytest.mark.usefixtures("gateway")
def test_the_schema_and_messages_know_it():
    schema = json_schema()
    assert "gateway" in schema["$defs"]["kind"]["enum"]
    assert "vendor" in schema["$defs"]["node"]["properties"]
    with pytest.raises(
        TopologyError, match="expected one of container, host, middlebox, router, switch or gateway"
    ):
        topology("kind: gate")


@pytest.mark.usefixtures("gateway")
def test_its_keys_belong_to_it_alone():
    with pytest.raises(TopologyError, match="only a gateway has vendor, and g is a router"):
        topology("kind: router, vendor: acme")


def test_without_it_there_is_no_such_kind():
    with pytest.raises(TopologyError, match="kind: expected one of container, host"):
        topology("kind: gateway")


def test_a_name_is_taken_once(gateway):
    with pytest.raises(ValueError, match="node kind 'host' is Host already"):
        node_kind("host")(gateway)


def test_fields_of_other_kinds_are_refused_in_python_too():
    faulty = loads("name: t\nnodes: {a: {}}")
    named = Node(name="a", settings={"vendor": "acme"})
    with pytest.raises(TopologyError, match="only another kind of node has vendor"):
        plan(type(faulty)(name="t", nodes={"a": named}))


def test_the_order_of_names_does_not_depend_on_what_was_imported_first():
    """`testbed.topology.kinds.switch` first, in a process of its own."""
    code = (
        "import testbed.topology.kinds.switch\n"
        "from testbed.topology.kinds import names\n"
        "print(*names())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["container", "host", "middlebox", "router", "switch"]
