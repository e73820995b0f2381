"""Whatever a foreign file holds, reading it ends in a topology's text or in a TopologyError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from testbed.errors import TopologyError
from testbed.topology.importing.compose import compose
from testbed.topology.importing.containerlab import containerlab
from testbed.topology.importing.writing import yaml_text
from testbed.topology.yaml.document import parse, plain

READERS = [compose, containerlab]
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_WORDS = """
name services networks topology nodes links defaults kinds groups kind image build command cmd exec
environment env volumes binds healthcheck test interval retries cap_add cap-add cpus cpu memory
mem_limit sysctls endpoints type node interface mtu ipam config subnet ipv4_address front linux
bridge veth a b a:e1 b:e1 ${A} ${A:-x} 10.1.0.0/24 10.1.0.5 ./x:/y CMD 1s 512m
"""
WORDS = st.sampled_from(_WORDS.split())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize("reader", READERS)
@FUZZ
@given(data=VALUES)
def test_anything_is_read_or_refused(reader, data):
    attempt(reader, yaml.safe_dump(data))


@pytest.mark.parametrize("reader", READERS)
@FUZZ
@given(body=st.dictionaries(WORDS, VALUES, max_size=6), more=VALUES)
def test_anything_in_the_right_places_is_read_or_refused(reader, body, more):
    whole: dict[str, Any] = {"name": "t", "services": {"a": body}, "networks": {"front": more}}
    if reader is containerlab:
        nodes = {"a": {"kind": "linux", **body}, "b": {"kind": "bridge"}}
        whole = {"name": "t", "topology": {"nodes": nodes, "links": [more, body]}}
    attempt(reader, yaml.safe_dump(whole))


def attempt(reader: Any, text: str) -> None:
    try:
        found = reader(text, "f", Path(), Path())
    except TopologyError:
        return
    assert isinstance(plain(parse(found.text, "made")), dict)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    ["", "~", "[" * 100, "a: *a", "a: !!python/object:os.x {}", "a: 1\n---\nb: 2", "x" * (1 << 21)],
)
def test_what_is_no_document_is_refused(reader, text):
    with pytest.raises(TopologyError, match=r"^f"):
        reader(text, "f", Path(), Path())


def test_a_long_name_of_a_file_is_of_no_file():
    text = f"services: {{a: {{image: i, volumes: ['./{'x' * 5000}:/y']}}}}"
    (line,) = compose(text, "f", Path(), Path()).left_out
    assert "left out: there is no " in line


TREES = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.recursive(
        st.text(max_size=12) | st.integers(-(10**9), 10**9) | st.booleans(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
        ),
        max_leaves=10,
    ),
    min_size=1,
    max_size=4,
).filter(lambda data: "<<" not in str(data))


@FUZZ
@given(data=TREES)
@example(data={"a": "1e3", "b": "0o17", "c": "no", "d": "1:30", "e": "~", "f": "", "g": "0x1"})
@example(data={"a": ".5", "b": "true", "c": "a: b", "d": "# x", "e": "\x07\n", "f": "=", "é": "é"})
def test_what_is_written_is_read_back_as_the_same(data):
    assert plain(parse(yaml_text(data), "t")) == data
