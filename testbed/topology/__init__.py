"""The description of a network: frozen data, from YAML or Python, checked and planned. Pure.

What checks, plans and describes is imported when it is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lazy import lazily
from testbed.topology.model import (
    CapturePoint,
    Chance,
    Codel,
    Corrupt,
    DropRule,
    Endpoint,
    FourState,
    FunctionSpec,
    GilbertElliott,
    Impairments,
    Interface,
    Jitter,
    KernelAqm,
    KernelFunctions,
    Link,
    Node,
    Queue,
    QueueLimit,
    RateTrace,
    Red,
    Reorder,
    Route,
    RouteMetrics,
    Ruleset,
    ScheduledChange,
    Topology,
)
from testbed.topology.planning.plan_model import (
    Plan,
    PlannedInterface,
    PlannedLink,
    PlannedNode,
    PlannedRoute,
)
from testbed.topology.vary import with_function, with_function_if, with_link, with_node

if TYPE_CHECKING:
    from testbed.topology.checks.topology import check
    from testbed.topology.kinds import NodeKind, node_kind
    from testbed.topology.planning.plan import plan
    from testbed.topology.yaml.schema import json_schema

__all__ = [
    "CapturePoint",
    "Chance",
    "Codel",
    "Corrupt",
    "DropRule",
    "Endpoint",
    "FourState",
    "FunctionSpec",
    "GilbertElliott",
    "Impairments",
    "Interface",
    "Jitter",
    "KernelAqm",
    "KernelFunctions",
    "Link",
    "Node",
    "Queue",
    "QueueLimit",
    "RateTrace",
    "Red",
    "Reorder",
    "Route",
    "RouteMetrics",
    "Ruleset",
    "ScheduledChange",
    "Topology",
    "Plan",
    "PlannedInterface",
    "PlannedLink",
    "PlannedNode",
    "PlannedRoute",
    "with_function",
    "with_function_if",
    "with_link",
    "with_node",
    "NodeKind",
    "check",
    "json_schema",
    "node_kind",
    "plan",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "NodeKind": "testbed.topology.kinds",
        "check": "testbed.topology.checks.topology",
        "json_schema": "testbed.topology.yaml.schema",
        "node_kind": "testbed.topology.kinds",
        "plan": "testbed.topology.planning.plan",
    },
)
