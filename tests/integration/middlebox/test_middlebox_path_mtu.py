"""What the kernel of a middlebox says about packets that its functions have rewritten.

The link behind the box is narrower than what the sender knows of. The kernel of the box finds that
out when the functions are done: its error must come back through them (RFC 5508 section 4).
"""

from __future__ import annotations

import errno
import socket

import pytest

from testbed import Lab, loads
from testbed.traffic import transfer

TOPOLOGY = """
name: narrow
nodes:
  client: {{}}
  near: {{kind: router}}
  box: {{kind: middlebox, outside: {outside}, functions: [{function}]}}
  far: {{kind: router}}
  server: {{}}
links:
  - endpoints: [client, near]
  - endpoints: [near, box]
    mtu: {near}
  - endpoints: [box, far]
    mtu: {far}
  - endpoints: [far, server]
"""
SIZE = 200_000


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize(
    ("function", "outside"),
    [
        ("nat", "far"),
        ("nat: {mapping: endpoint-dependent}", "far"),
        ("sequence-randomiser", "far"),
        ("sequence-randomiser", "near"),
        ("setup-proxy: {mss: 1460}", "near"),
        ("trace-log", "far"),
        ("pep", "far"),
        ("firewall: {strict_windows: true}", "far"),
    ],
)
def test_large_segments_get_through_a_narrow_link_behind_the_box(
    function, outside, direction, family
):
    near, far = (1500, 1400) if direction == "upload" else (1400, 1500)
    text = TOPOLOGY.format(function=function, outside=outside, near=near, far=far)
    with Lab(loads(text)) as lab:
        found = transfer(
            lab["client"], lab["server"], SIZE, direction=direction, family=family, timeout=10
        )
        # The setup proxy cuts segments to the MTU, and the accelerator repeats them itself.
        if direction == "upload" and not function.startswith(("setup-proxy", "pep")):
            assert found.info.total_retrans > 0
        assert lab["box"].counters().missing == 0


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("function", ["nat", "sequence-randomiser"])
def test_a_client_learns_at_once_that_the_box_knows_no_way(function, family):
    text = TOPOLOGY.format(function=function, outside="far", near=1500, far=1500)
    version = socket.AF_INET6 if family == 6 else socket.AF_INET
    with Lab(loads(text)) as lab, lab["client"].socket(version) as sock:
        (address,) = lab["server"].addresses(family)
        lab["box"].run(["ip", f"-{family}", "route", "add", "unreachable", address])
        sock.settimeout(30)
        with pytest.raises(OSError) as told:
            sock.connect((address, 80))
        assert told.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
