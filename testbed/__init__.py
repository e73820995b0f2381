"""Network emulation testbed: real Linux TCP through lossy links and misbehaving middleboxes.

    from testbed import Lab

    with Lab("topologies/pair.yaml") as lab:
        lab["client"].ping("server")

The names below are imported when they are used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lazy import lazily

if TYPE_CHECKING:
    from testbed.errors import TestbedError
    from testbed.expectations import eventually, expect
    from testbed.lab import Lab
    from testbed.loading import load, loads
    from testbed.report import ladder_from_files
    from testbed.topology.model import Topology
    from testbed.topology.planning.plan import plan
    from testbed.trace import read_trace

__version__ = "0.1.0"

__all__ = [
    "Lab",
    "TestbedError",
    "Topology",
    "eventually",
    "expect",
    "ladder_from_files",
    "load",
    "loads",
    "plan",
    "read_trace",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Lab": "testbed.lab",
        "TestbedError": "testbed.errors",
        "Topology": "testbed.topology.model",
        "eventually": "testbed.expectations",
        "expect": "testbed.expectations",
        "ladder_from_files": "testbed.report",
        "load": "testbed.loading",
        "loads": "testbed.loading",
        "plan": "testbed.topology.planning.plan",
        "read_trace": "testbed.trace",
    },
)
