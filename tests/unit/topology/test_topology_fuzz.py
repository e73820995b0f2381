"""Whatever a YAML file holds, loading it ends in a Topology or in a TopologyError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import TopologyError
from testbed.topology.model import Topology
from testbed.topology.planning.plan import plan
from testbed.topology.values.shapes import (
    Either,
    Items,
    Named,
    OneOf,
    OneOrMore,
    Record,
    Scalar,
    Shape,
    Table,
    Variants,
)
from testbed.topology.yaml import grammar
from testbed.topology.yaml.document import parse, plain
from testbed.topology.yaml.load import loads
from testbed.topology.yaml.schema import json_schema

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
FUZZ = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NODES = ["a", "b", "c", "r", "s", "m", "h", "h1"]
ENDPOINTS = st.sampled_from(NODES).flatmap(
    lambda node: st.sampled_from([node, f"{node}:eth0", f"{node}:eth1", f"{node}:out"])
)
TRACE = str(Path(__file__).with_name("tiny.trace"))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "node-name": st.sampled_from(NODES),
    "endpoint": ENDPOINTS,
    "target": st.sampled_from([*NODES, "default", "10.0.1.0/24", "10.0.2.2", "fd00::/16"]),
    "via": st.sampled_from([*NODES, "10.0.1.2", "fd00:0:0:1::2"]),
    "outside": st.sampled_from([*NODES, "eth0", "out"]),
    "topology-name": st.just("t"),
    "interface-name": st.sampled_from(["eth0", "eth1", "out", "lo"]),
    "sysctl-name": st.sampled_from(["net.ipv4.tcp_sack", "net.core.somaxconn"]),
    "sysctl-value": st.sampled_from([0, "1", "4096 131072 6291456"]),
    "subnet": st.sampled_from(["10.0.1.0/24", "10.0.0.0/8", "192.168.1.0/30", "fd00::/64"]),
    "address": st.sampled_from(
        ["10.0.1.2/24", "10.0.1.1/30", "192.168.1.1/31", "fd00::9/64", "10.9.9.9/32"]
    ),
    "function-name": st.sampled_from(["nat", "setup-proxy"]),
    "congestion-control": st.sampled_from(["reno", "cubic"]),
    "scenario-name": st.just("docomo"),
    "text": st.text(max_size=10),
    "kind": st.sampled_from(["host", "router", "router", "switch", "middlebox", "container"]),
    "family": st.sampled_from(["both", "ipv4", "ipv6"]),
    "peer": st.sampled_from([*NODES, "10.0.1.0/24", "fd00::/16"]),
    "protocol": st.sampled_from(["tcp", "udp", "icmp"]),
    "port": st.integers(1, 65535),
    "vlan": st.integers(1, 3),
    "preferred-family": st.sampled_from(["ipv4", "ipv6"]),
    "emulator": st.sampled_from(["auto", "userspace", "netem"]),
    "duration": st.sampled_from(["10ms", "1s", 0]),
    "rate": st.sampled_from(["10mbit", "1Gbit/s"]),
    "probability": st.sampled_from(["1%", 0.5, 0]),
    "queue-limit": st.sampled_from(["100 packets", "64KiB", "50ms", "2 bdp"]),
    "true-or-false": st.booleans(),
    "count": st.integers(1, 4),
    "seed": st.integers(0, 9),
    "mtu": st.sampled_from([1500, 1280, 1000]),
    "route-mtu": st.sampled_from([1500, 1000]),
    "advmss": st.integers(500, 1460),
    "segments": st.integers(1, 20),
    "snap": st.integers(64, 65535),
    "overhead": st.integers(0, 40),
    "size": st.sampled_from(["10kB", 3000]),
    "aqm": st.sampled_from(["red", "codel", "fq_codel", "pie", "cake"]),
    "distribution": st.sampled_from(["normal", "uniform", "pareto"]),
    "corrupted": st.sampled_from(["any", "header", "payload"]),
    "number": st.integers(1, 5),
    "flags": st.sampled_from(["SYN", "FIN+ACK"]),
    "implementation": st.sampled_from(["kernel", "testbed-tcp"]),
    "fault": st.sampled_from(["no-rto-backoff", "stretch-ack"]),
    "file": st.sampled_from([TRACE, TRACE, "missing", ".", "/dev/zero", "\0"]),
    "forward-or-reverse": st.sampled_from(["forward", "reverse"]),
    "true": st.just(True),
    "processes": st.integers(1, 4),
    "image-name": st.sampled_from(["debian:bookworm-slim", "localhost:5000/a"]),
    "variable": st.sampled_from(["PATH", "a_1"]),
    "path-inside": st.sampled_from(["/srv", "/"]),
    "processors": st.sampled_from([0.5, 2]),
    "capability": st.sampled_from(["NET_ADMIN", "BPF"]),
}
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10.0.0.0/999", "a:b:c", "1e400ms", "::/0", "-", "net.", "9" * 50]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=5,
)


def test_every_scalar_of_the_grammar_is_fuzzed() -> None:
    described = json_schema()["$defs"]
    scalars = {name for name, one in described.items() if one.get("type") != "object"}
    scalars = {name for name in scalars if "properties" not in described[name]}
    assert scalars == VALUES.keys()


def documents(shape: Shape, junk: int) -> st.SearchStrategy[Any]:
    """Data of a shape in which each part is junk with a chance of `junk` percent."""
    good = _good_documents(shape, junk)
    if not junk:
        return good
    return st.integers(1, 100).flatmap(lambda dice: JUNK if dice <= junk else good)


def _good_documents(shape: Shape, junk: int) -> st.SearchStrategy[Any]:
    match shape:
        case Scalar() | OneOf():
            return VALUES[shape.name]
        case Items():
            item = documents(shape.item, junk)
            return st.lists(item, min_size=shape.least, max_size=shape.most or 3)
        case OneOrMore():
            return documents(shape.item, junk)
        case Table():
            few, many = (4, 6) if shape.value is grammar.NODE else (0, 2)
            keys, values = documents(shape.key, 0), documents(shape.value, junk)
            return st.dictionaries(keys, values, min_size=few, max_size=many)
        case Named():
            options = st.sampled_from([None, {}, {"a": [1, "x"], "b": {}}])
            name = documents(shape.name, 0)
            return name | st.dictionaries(name, options, min_size=1, max_size=1)
        case Either():
            return documents(shape.plain, junk) | documents(shape.full, junk)
        case Variants():
            return st.one_of([_variant(shape, word, junk) for word in shape.records])
        case Record():
            values_of = {key.name: documents(key.shape, junk) for key in shape.keys}
            required = {key.name: values_of[key.name] for key in shape.keys if key.required}
            optional = {name: value for name, value in values_of.items() if name not in required}
            if junk:
                optional["nonsense"] = JUNK
            return st.fixed_dictionaries(required, optional=optional)


def _variant(shape: Variants, word: str, junk: int) -> st.SearchStrategy[Any]:
    return documents(shape.records[word], junk).map(
        lambda body: {shape.tag.name: word, **body} if isinstance(body, dict) else body
    )


SHAPES = {key.name: key.shape for key in grammar.LINK.keys}


def outcome(text: str) -> Topology | None:
    """The topology or None; anything but a TopologyError is a fault."""
    try:
        topology = loads(text, "fuzz.yaml")
    except TopologyError as error:
        assert error.problems
        for line in error.problems:
            assert line.startswith(("fuzz.yaml", "... and more")), line
            assert "\n" not in line
            assert len(line) < 2000
        return None
    VALIDATOR.validate(plain(parse(text, "fuzz.yaml")))
    try:
        plan(topology)
    except TopologyError as error:
        assert error.problems
    return topology


@FUZZ
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    outcome(text)


YAML_PARTS = st.sampled_from(
    ["name: t\n", "nodes:\n", "links:\n", "  a:\n", "  - ", "endpoints: ", "[a, b]", "{", "}", "[",
     "]", ": ", "\n", "&x ", "*x", "!!str ", "|\n", ">-\n", "'", '"', "#", "---\n", "? ", "<<: ",
     "%YAML 1.1\n", "\t", "~", "  ", ",", "a", "captures: ", "\\u0000", "0x", "1e9", "@", "`"]
)  # fmt: skip


@FUZZ
@given(st.lists(YAML_PARTS, max_size=40).map("".join))
def test_scraps_of_yaml(text: str) -> None:
    outcome(text)


@FUZZ
@given(documents(grammar.TOPOLOGY, 4))
def test_documents_with_some_junk(document: Any) -> None:
    outcome(yaml.safe_dump(document, allow_unicode=True))


@FUZZ
@given(documents(grammar.TOPOLOGY, 0))
def test_documents_of_the_right_shape_have_semantic_faults_only(document: Any) -> None:
    assert VALIDATOR.is_valid(document)
    outcome(yaml.safe_dump(document))


def network(routes: object = None, **impairments: object) -> dict[str, Any]:
    """A network without faults as far as its arguments have none."""
    return {
        "name": "t",
        "nodes": {
            "s": {"kind": "switch"},
            "h": {"count": 3},
            "r": {"kind": "router"},
            "a": {"routes": routes or []},
        },
        "links": [
            {"endpoints": ["h", "s"], **impairments},
            {"endpoints": ["s", "r"]},
            {"endpoints": ["r:out", "a"], "forward": {"delay": "1ms"}},
            {"endpoints": ["a", "h1"], "mtu": 1000},
        ],
        "captures": ["h", "a"],
    }


ALWAYS_GOOD = (
    *("delay", "loss", "mtu", "offload", "overhead", "duplicate", "log"),
    *("reorder", "jitter", "corrupt"),
)


@FUZZ
@given(
    st.fixed_dictionaries(
        {
            "rate": VALUES["rate"],
            **{key: documents(SHAPES[key], 0) for key in ALWAYS_GOOD},
        }
    )
)
def test_good_networks_are_accepted(settings_of_link: dict[str, Any]) -> None:
    """The other tests would pass with a loader that refuses everything."""
    topology = outcome(yaml.safe_dump(network(**settings_of_link)))
    assert topology is not None
    assert len(topology.nodes) == 6


@FUZZ
@given(
    st.fixed_dictionaries(
        {}, optional={key: documents(SHAPES[key], 3) for key in SHAPES if key != "endpoints"}
    )
)
def test_links_of_all_kinds_are_planned_or_refused(link: dict[str, Any]) -> None:
    outcome(yaml.safe_dump(network(**link)))


@FUZZ
@given(st.lists(documents(grammar.ROUTE, 0), min_size=1, max_size=3))
def test_routes_of_all_kinds_are_planned_or_refused(routes: list[Any]) -> None:
    outcome(yaml.safe_dump(network(routes)))


@pytest.mark.parametrize("text", ["{}", "[]", "a", "1", "name: t", "nodes: {a: }", ": :", "? "])
def test_tiny_documents(text: str) -> None:
    assert outcome(text) is None
