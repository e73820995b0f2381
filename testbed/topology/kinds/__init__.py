"""The kinds of nodes as planning sees them: one class each, found by the name under `kind:`."""

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import (
    ENTRY_POINTS,
    KIND,
    find,
    keys_of_kinds,
    machine_needs,
    names,
    node_kind,
)

__all__ = [
    "ENTRY_POINTS",
    "KIND",
    "NodeKind",
    "find",
    "keys_of_kinds",
    "machine_needs",
    "names",
    "node_kind",
]
