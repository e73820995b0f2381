"""A topology means the same through every door."""

from __future__ import annotations

import msgspec
import pytest

from testbed import Lab, TestbedError, load, loads
from testbed.cli.topologies import _plan
from testbed.loading import checked
from testbed.topology import FunctionSpec, Topology, plan, with_function
from testbed.topology.yaml import load as yaml_load

TEXT = """
name: t
nodes:
  a: {}
  box: {kind: middlebox, outside: b, functions: [nat: {idle_timeout: %s}]}
  b: {}
links: [{endpoints: [a, box]}, {endpoints: [box, b]}]
"""


def from_python(value: object) -> Topology:
    return with_function(yaml_load.loads(TEXT % "2s"), "box", "nat", idle_timeout=value)


def in_a_file(tmp_path, value):
    path = tmp_path / "t.yaml"
    path.write_text(TEXT % value)
    return path


DOORS = {
    "loads": lambda tmp_path, value: loads(TEXT % value),
    "load": lambda tmp_path, value: load(in_a_file(tmp_path, value)),
    "Lab of a file": lambda tmp_path, value: Lab(in_a_file(tmp_path, value)).topology,
    "Lab of a topology": lambda tmp_path, value: Lab(from_python(value)).topology,
    "Lab of a plan": lambda tmp_path, value: Lab(plan(from_python(value))).topology,
    "command line": lambda tmp_path, value: _plan(in_a_file(tmp_path, value)).topology,
    "python": lambda tmp_path, value: checked(from_python(value)),
}


@pytest.mark.parametrize("door", DOORS)
def test_an_option_with_a_unit_is_taken_through_every_door(door, tmp_path):
    topology = DOORS[door](tmp_path, "1.5min")
    assert topology.nodes["box"].functions == (FunctionSpec("nat", {"idle_timeout": 90.0}),)


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_option_is_refused_through_every_door(door, tmp_path):
    with pytest.raises(TestbedError, match=r"functions\[0\].nat.idle_timeout: expected a duration"):
        DOORS[door](tmp_path, "soon")


def test_numbers_from_python_are_in_base_units_and_from_yaml_need_a_unit():
    assert checked(from_python(90)).nodes["box"].functions[0].options == {"idle_timeout": 90}
    with pytest.raises(TestbedError, match="unit is missing"):
        loads(TEXT % "90")


def test_checking_twice_changes_nothing():
    once = checked(from_python("2s"))
    assert msgspec.structs.asdict(checked(once)) == msgspec.structs.asdict(once)
