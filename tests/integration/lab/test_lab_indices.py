"""Labs where every namespace is born with interfaces: fallback tunnels of ipip, sit and gre."""

from __future__ import annotations

import pytest

from testbed import Lab, loads
from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Netlink

BORN = ("tunl0", "sit0", "gre0")
TEXT = """
name: t
emulator: userspace
nodes:
  a: {}
  s: {kind: switch}
  m: {kind: middlebox, outside: b, functions: [nat]}
  b: {}
links:
  - {endpoints: [a, s]}
  - {endpoints: [s, m], delay: 1ms}
  - {endpoints: [m, b]}
captures: [b]
"""


@pytest.fixture
def _namespaces_with_tunnels(monkeypatch):
    create = NamespaceThread._create

    def with_tunnels(thread: NamespaceThread):
        namespace = create(thread)
        with Netlink() as netlink:
            for index, name in enumerate(BORN, 2):  # any interface takes the index
                netlink.execute([rtnetlink.bridge(name, index)])
        return namespace

    monkeypatch.setattr(NamespaceThread, "_create", with_tunnels)


@pytest.mark.usefixtures("_namespaces_with_tunnels")
def test_a_lab_is_built_beside_fallback_tunnels():
    with Lab(loads(TEXT)) as lab:
        links = lab["a"].run(["ip", "-br", "link"]).stdout
        assert all(name in links for name in BORN)
        assert lab["a"].ping("b") < 30
