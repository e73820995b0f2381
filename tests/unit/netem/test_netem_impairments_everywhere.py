"""Every impairment that is declared is known to the model, both emulators and the reference."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from testbed.emulator.elements.chain import Chain
from testbed.emulator.netem import description as netem
from testbed.topology.impairments.declared import DECLARED
from testbed.topology.model import Impairments
from testbed.topology.yaml.impairments import parse_changes
from testbed.topology.yaml.reference import reference_markdown

EXAMPLES = {
    "rate": ("10mbit",),
    "overhead": (8,),
    "queue": ("50 packets", {"aqm": "codel"}),
    "delay": ("10ms",),
    "jitter": ("1ms",),
    "loss": ("1%", {"model": "gilbert-elliott", "p": "1%"}, {"model": "state", "p13": "1%"}),
    "drop": ([{"packet": 3}],),
    "duplicate": ("1%",),
    "reorder": ("1%",),
    "match": ([{"to": "10.0.0.1", "protocol": "tcp", "port": 443, "delay": "5ms", "loss": "1%"}],),
    "corrupt": ("1%", {"probability": "1%", "where": "header"}),
}
# What has no effect alone.
BESIDE: dict[str, dict[str, Any]] = {"overhead": {"rate": 1e7}, "queue": {"rate": 1e7}}
CASES = [(name, value) for name, values in EXAMPLES.items() for value in values]


def impaired(name: str, value: object) -> tuple[Impairments, Impairments]:
    """Without the impairment, and with it."""
    plain = Impairments(**BESIDE.get(name, {}))
    return plain, structs.replace(plain, **parse_changes({name: value}))


def test_there_is_an_example_of_each():
    assert {one.name for one in DECLARED} == {*EXAMPLES}


def test_each_field_of_the_model_belongs_to_one_declaration():
    fields = [field for one in DECLARED for field in one.fields]
    assert sorted(fields) == sorted(Impairments.__struct_fields__)


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_the_userspace_emulator_has_an_element_for_it(name, value):
    _, given = impaired(name, value)
    chain = Chain(1, "link", "forward")
    chain.configure(given, 0.0, 0)
    assert chain.in_force == given


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_netem_does_something_about_it_or_refuses_it(name, value):
    plain, given = impaired(name, value)
    refused = list(netem.refusals(given))
    assert refused or netem.hops(given, 0.1, 1500) != netem.hops(plain, 0.1, 1500)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda one: one.name)
def test_the_reference_tells_of_it(declared):
    assert f"| `{declared.name}` |" in reference_markdown()
