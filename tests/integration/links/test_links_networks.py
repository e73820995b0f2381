"""What networks do from the first moment on, and tags between switches where a kernel has them."""

from __future__ import annotations

import subprocess

import pytest

from testbed.errors import KernelError
from testbed.lab import Lab
from testbed.topology.yaml.load import loads

TRUNK = """
name: trunk
nodes:
  a:
  b:
  c:
  d:
  s1: {kind: switch, interfaces: {1: {vlan: 10}, 2: {vlan: 20}, up: {vlans: [10, 20]}}}
  s2: {kind: switch, interfaces: {1: {vlan: 10}, 2: {vlan: 20}, up: {vlans: [10, 20]}}}
links:
  - {endpoints: [a, s1:1]}
  - {endpoints: [b, s1:2]}
  - {endpoints: [c, s2:1]}
  - {endpoints: [d, s2:2]}
  - {endpoints: [s1:up, s2:up], emulated: true}
captures: [s1:up]
"""


def test_one_link_carries_several_vlans_with_tags(tmp_path):
    try:
        lab = Lab(loads(TRUNK), captures=tmp_path).start()
    except KernelError as error:
        if "8021q" not in str(error):
            raise
        pytest.skip("this kernel has no 8021q; `make test-virtual` has")
    try:
        lab["b"].ping("d")
        lab["a"].ping("c")
    finally:
        lab.stop()
    words = subprocess.run(
        ["tcpdump", "-n", "-e", "-r", tmp_path / "s1-up.pcap"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "vlan 10" in words and "vlan 20" in words


def test_a_lab_answers_by_ipv6_from_the_moment_it_is_ready():
    """A kernel has an address before it takes packets to it; by the virtual clock, always."""
    text = "name: six\nnodes: {a: , r: {kind: router}, b: }\nlinks: [%s]"
    for _ in range(3):
        with Lab(loads(text % "{endpoints: [a, r]}, {endpoints: [r, b]}")) as lab:
            lab["a"].ping(lab["b"].address6)
