"""The JSON Schema and the reference page: one grammar, no divergence."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from testbed.errors import TopologyError
from testbed.topology.impairments import arrival, bottleneck, propagation
from testbed.topology.values.shapes import Record
from testbed.topology.yaml import grammar, link_grammar
from testbed.topology.yaml.document import parse, plain
from testbed.topology.yaml.load import loads
from testbed.topology.yaml.reference import reference_markdown
from testbed.topology.yaml.schema import json_schema

ROOT = Path(__file__).parents[3]
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "topologies").glob("*.yaml")), ids=str)
def test_the_topologies_of_the_project_are_valid(path: Path) -> None:
    VALIDATOR.validate(plain(parse(path.read_text(), str(path))))
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_every_key_is_described() -> None:
    records = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if "properties" in part)]
    assert len(records) >= 7
    for record in records:
        assert record["additionalProperties"] is False
        for name, key in record["properties"].items():
            assert key["description"].endswith("."), name


STRUCTURAL = {
    "unknown key": {"nods": {}},
    "unknown node key": {"nodes": {"a": {"knd": "host"}}},
    "unknown link key": {"links": [{"endpoints": ["a", "b"], "dely": "1ms"}]},
    "unknown direction key": {"links": [{"endpoints": ["a", "b"], "forward": {"mtu": 1}}]},
    "unknown route key": {"nodes": {"a": {"routes": [{"to": "b", "rto": "1s"}]}, "b": {}}},
    "unknown queue key": {"links": [{"endpoints": ["a", "b"], "queue": {"size": "1kB"}}]},
    "unknown interface key": {"nodes": {"a": {"interfaces": {"eth0": {"address": []}}}}},
    "missing endpoints": {"links": [{"delay": "1ms"}]},
    "missing to": {"nodes": {"a": {"routes": [{"via": "b"}]}}},
    "no nodes": {"nodes": {}},
    "nodes list": {"nodes": ["a"]},
    "links mapping": {"links": {}},
    "three ends": {"links": [{"endpoints": ["a", "b", "c"]}]},
    "one end": {"links": [{"endpoints": ["a"]}]},
    "bad name": {"name": "A b"},
    "number as name": {"name": 5},
    "bad node name": {"nodes": {"1a": {}}},
    "reserved node name": {"nodes": {"default": {}}},
    "bad interface": {"links": [{"endpoints": ["a:x/y", "b"]}]},
    "reserved interface": {"nodes": {"a": {"interfaces": {"all": {}}}}},
    "bad kind": {"nodes": {"a": {"kind": "bridge"}}},
    "bad count": {"nodes": {"a": {"count": 0}}},
    "text count": {"nodes": {"a": {"count": "5"}}},
    "bad delay": {"links": [{"endpoints": ["a", "b"], "delay": "1mz"}]},
    "bare delay": {"links": [{"endpoints": ["a", "b"], "delay": 10}]},
    "bad rate": {"links": [{"endpoints": ["a", "b"], "rate": "10Mbps"}]},
    "bad loss": {"links": [{"endpoints": ["a", "b"], "loss": 1}]},
    "bad trace": {"links": [{"endpoints": ["a", "b"], "rate": {"file": "x"}}]},
    "bad model": {"links": [{"endpoints": ["a", "b"], "loss": {"model": "bernoulli"}}]},
    "no model": {"links": [{"endpoints": ["a", "b"], "loss": {"p": "1%"}}]},
    "other model's key": {
        "links": [{"endpoints": ["a", "b"], "loss": {"model": "state", "p13": 0, "r": 0}}]
    },
    "half a model": {"links": [{"endpoints": ["a", "b"], "loss": {"model": "state"}}]},
    "bad jitter": {"links": [{"endpoints": ["a", "b"], "jitter": "5%"}]},
    "no spread": {"links": [{"endpoints": ["a", "b"], "jitter": {"reorder": True}}]},
    "bad discipline": {"links": [{"endpoints": ["a", "b"], "queue": {"aqm": "fq"}}]},
    "codel's key for red": {
        "links": [
            {"endpoints": ["a", "b"], "queue": {"aqm": {"discipline": "red", "target": "5ms"}}}
        ]
    },
    "settings of pie": {
        "links": [{"endpoints": ["a", "b"], "queue": {"aqm": {"discipline": "pie", "a": 1}}}]
    },
    "packet 0": {"links": [{"endpoints": ["a", "b"], "drop": [{"packet": 0}]}]},
    "bad flags": {"links": [{"endpoints": ["a", "b"], "drop": [{"flags": "SYN ACK"}]}]},
    "a rule": {"links": [{"endpoints": ["a", "b"], "drop": {"packet": 1}}]},
    "bad gap": {"links": [{"endpoints": ["a", "b"], "reorder": {"probability": 0, "gap": 0}}]},
    "bad place": {"links": [{"endpoints": ["a", "b"], "corrupt": {"where": "tail"}}]},
    "change without time": {"links": [{"endpoints": ["a", "b"], "schedule": [{"cut": True}]}]},
    "cut false": {"links": [{"endpoints": ["a", "b"], "schedule": [{"at": "1s", "cut": False}]}]},
    "bad overhead": {"links": [{"endpoints": ["a", "b"], "overhead": "38"}]},
    "bad processes": {"emulator": {"processes": 0}},
    "bad lateness": {"emulator": {"max_lateness": 5}},
    "bad limit": {"links": [{"endpoints": ["a", "b"], "queue": {"limit": 100}}]},
    "bad mtu": {"links": [{"endpoints": ["a", "b"], "mtu": 10}]},
    "bad offload": {"links": [{"endpoints": ["a", "b"], "offload": "yes"}]},
    "bad subnet": {"links": [{"endpoints": ["a", "b"], "subnet": "10.0.0.0"}]},
    "three subnets": {
        "links": [{"endpoints": ["a", "b"], "subnet": ["10.1.0.0/24", "fd01::/64", "fd02::/64"]}]
    },
    "no subnets": {"links": [{"endpoints": ["a", "b"], "subnet": []}]},
    "bad sysctl": {"nodes": {"a": {"sysctls": {"kernel.panic": 1}}}},
    "bad sysctl value": {"nodes": {"a": {"sysctls": {"net.ipv4.x": [1]}}}},
    "bad emulator": {"emulator": "tc"},
    "bad seed": {"seed": -1},
    "bad capture": {"captures": ["a:"]},
    "bad target": {"nodes": {"a": {"routes": [{"to": "10.0.0.1:80"}]}}},
    "bad function": {"nodes": {"a": {"kind": "middlebox", "functions": ["A B"]}}},
    "two functions": {"nodes": {"a": {"kind": "middlebox", "functions": [{"a": {}, "b": {}}]}}},
    "null links": {"links": None},
    "null name": {"name": None},
}


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_faults_are_refused_by_both(name: str) -> None:
    good = {"name": "t", "nodes": {"a": None, "b": {}}, "links": [{"endpoints": ["a", "b"]}]}
    assert VALIDATOR.is_valid(good)
    assert loads(yaml.safe_dump(good))
    document = good | STRUCTURAL[name]
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(TopologyError):
        loads(yaml.safe_dump(document))


def test_the_reference_is_current() -> None:
    page = ROOT / "docs" / "topology.md"
    assert page.read_text() == reference_markdown(), (
        "run: python -m testbed.topology.yaml.reference > docs/topology.md"
    )


def test_the_reference_names_every_key_and_its_example_loads() -> None:
    page = reference_markdown()
    records = [
        value
        for module in (link_grammar, arrival, bottleneck, propagation)
        for value in vars(module).values()
        if isinstance(value, Record)
    ]
    assert len(records) >= 14
    for record in (grammar.TOPOLOGY, grammar.NODE, grammar.ROUTE, *records):
        for key in record.keys:
            assert f"| `{key.name}` |" in page
    example = page.split("```yaml\n")[1].split("```")[0]
    assert example == (ROOT / "topologies" / "docomo.yaml").read_text()
