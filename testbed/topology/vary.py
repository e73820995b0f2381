"""Variants of a topology: each function returns a new one and leaves the given one alone."""

from __future__ import annotations

from typing import Any

import msgspec

from testbed.errors import TopologyError
from testbed.topology.model import FunctionSpec, Impairments, Link, Node, Topology
from testbed.topology.names import unknown_node
from testbed.wording import join, suggestion

_IMPAIRMENTS = frozenset(field.name for field in msgspec.structs.fields(Impairments))


def with_link(
    topology: Topology, a: str, b: str, *, direction: str = "both", **changes: Any
) -> Topology:
    """The topology with the link between nodes `a` and `b` changed.

    changes: impairments in base units (`delay=0.165`, `rate=1e7`, `loss=0.01`, `queue=Queue(...)`)
    or fields of the link (`mtu=1400`, `emulated=True`). direction: `both`, or the one direction
    in which impairments change, `forward` (from `a` to `b`) or `reverse`.
    Raises TopologyError if there is no such link, or several, or no such field.
    """
    index = _link_between(topology, a, b)
    link = topology.links[index]
    fields = _known(changes, (*_IMPAIRMENTS, *Link.__struct_fields__), "link")
    if direction not in ("both", "forward", "reverse"):
        near = suggestion(direction, ("both", "forward", "reverse"))
        raise TopologyError([f"expected both, forward or reverse, got {direction!r}{near}"])
    impairments = {key: value for key, value in fields.items() if key in _IMPAIRMENTS}
    others = {key: value for key, value in fields.items() if key not in _IMPAIRMENTS}
    turned = link.endpoints[0].node != a
    if impairments and direction in ("both", "reverse" if turned else "forward"):
        others["forward"] = msgspec.structs.replace(link.forward, **impairments)
    if impairments and direction in ("both", "forward" if turned else "reverse"):
        others["reverse"] = msgspec.structs.replace(link.reverse, **impairments)
    links = list(topology.links)
    links[index] = msgspec.structs.replace(link, **others)
    return msgspec.structs.replace(topology, links=tuple(links))


def with_node(topology: Topology, name: str, **changes: Any) -> Topology:
    """The topology with fields of one node replaced: `with_node(t, "gateway", routes=())`.

    Raises TopologyError if there is no such node or field.
    """
    if name not in topology.nodes:
        raise TopologyError([unknown_node(name, topology.nodes)])
    fields = _known(changes, [field for field in Node.__struct_fields__ if field != "name"], "node")
    node = msgspec.structs.replace(topology.nodes[name], **fields)
    return msgspec.structs.replace(topology, nodes={**topology.nodes, name: node})


def with_function(topology: Topology, node: str, function: str, **options: Any) -> Topology:
    """The topology with options of one middlebox function changed; the function is added at
    the end if the node does not have it. Raises TopologyError if there is no such node."""
    if node not in topology.nodes:
        raise TopologyError([unknown_node(node, topology.nodes)])
    functions = list(topology.nodes[node].functions)
    for index, present in enumerate(functions):
        if present.name == function:
            functions[index] = FunctionSpec(function, {**present.options, **options})
            break
    else:
        functions.append(FunctionSpec(function, options))
    return with_node(topology, node, functions=tuple(functions))


def with_function_if(
    wanted: bool, topology: Topology, node: str, function: str, **options: Any
) -> Topology:
    """`with_function` where it is wanted, otherwise the node without any function."""
    if wanted:
        return with_function(topology, node, function, **options)
    return with_node(topology, node, functions=())


def _link_between(topology: Topology, a: str, b: str) -> int:
    for name in (a, b):
        if name not in topology.nodes:
            raise TopologyError([unknown_node(name, topology.nodes)])
    found = [
        index
        for index, link in enumerate(topology.links)
        if {end.node for end in link.endpoints} == {a, b}
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise TopologyError([f"there are {len(found)} links between {a} and {b}; vary one by hand"])
    neighbours = {
        end.node
        for link in topology.links
        for end in link.endpoints
        if a in (other.node for other in link.endpoints) and end.node != a
    }
    existing = f"; {a} is linked to {join(sorted(neighbours), 'and')}" if neighbours else ""
    raise TopologyError([f"there is no link between {a} and {b}{existing}"])


def _known(changes: dict[str, Any], fields: Any, what: str) -> dict[str, Any]:
    for key in changes:
        if key not in fields:
            raise TopologyError([f"a {what} has no {key!r}{suggestion(key, fields)}"])
    return changes
