"""A topology means the same through every door."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from testbed import Lab, TestbedError, load, loads
from testbed.cli.topologies import _plan
from testbed.loading import checked, with_overrides
from testbed.pytest_plugin.sources import plan_of_request
from testbed.scenarios import registry
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


def marked(source):
    """The plan of a test in the current folder that is marked with `source`."""
    root = Path.cwd()
    config = SimpleNamespace(rootpath=root, getoption=lambda *_: None)
    node = SimpleNamespace(get_closest_marker=lambda _: None)
    request = SimpleNamespace(param=source, config=config, node=node, path=root / "test_it.py")
    return plan_of_request(cast(pytest.FixtureRequest, request))


NAMING_DOORS = {
    "load": load,
    "Lab": lambda source: Lab(source).topology,
    "check and plan": lambda source: _plan(Path(source)).topology,
    "run": lambda source: registry.find(source)[1],
    "pytest": lambda source: marked(source).topology,
}


@pytest.mark.parametrize("source", ["docomo", "mine", "topologies/mine.yaml", "here.yaml"])
@pytest.mark.parametrize("door", NAMING_DOORS)
def test_a_name_and_a_path_mean_the_same_through_every_door(door, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topologies").mkdir()
    for path in ("topologies/mine.yaml", "here.yaml"):
        (tmp_path / path).write_text(
            f"name: {Path(path).stem}\nscenario: docomo\nnodes: {{a: {{}}}}\n"
        )
    assert NAMING_DOORS[door](source).name == Path(source).stem


@pytest.mark.parametrize("door", NAMING_DOORS)
def test_an_unknown_name_is_told_with_the_nearest_through_every_door(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TestbedError, match=r"There is no .* 'docomoo'.*did you mean 'docomo'"):
        NAMING_DOORS[door]("docomoo")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"emulator": "netm"}, r"emulator: expected .*'netm'.*did you mean 'netem'"),
        ({"sed": 1}, r"sed: a test overrides .* and links.*did you mean 'seed'"),
        ({"seed": -1}, "seed: "),
        ({"links": {"a-box": {}}}, "expected a pair"),
        ({"links": {("a", "b"): {"loss": "1%"}}}, "no link between a and b"),
        ({"links": {("a", "box"): {"loss": "1"}}}, "links: a-box: loss"),
        ({"links": {("a", "box"): {"lose": "1%"}}}, "did you mean 'loss'"),
        ({"links": {("a", "box"): {"loss": "1%", "toward": "b"}}}, "does not lead to 'b'"),
    ],
)
def test_overrides_that_cannot_be_are_told(overrides, told):
    with pytest.raises(TestbedError, match=told):
        with_overrides(loads(TEXT % "2s"), overrides)


def test_overrides_change_what_they_name_and_nothing_else():
    before = loads(TEXT % "2s")
    changed = with_overrides(
        before,
        {
            "emulator": "userspace",
            "seed": 7,
            "links": {
                ("box", "a"): {"delay": "50ms", "toward": "box"},
                ("box", "b"): {"loss": "1%"},
            },
        },
    )
    assert (changed.emulator, changed.seed, changed.nodes) == ("userspace", 7, before.nodes)
    near, far = changed.links
    assert (near.forward.delay, near.reverse.delay) == (0.05, 0.0)
    assert (far.forward.loss, far.reverse.loss) == (0.01, 0.01)
    assert with_overrides(before, {}) == before
