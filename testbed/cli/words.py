"""Words that the commands about running labs have in common, and how a shell completes them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from testbed.errors import TestbedError


def labs(incomplete: str) -> list[str]:
    """The labs that run."""
    from testbed.living.records import running_labs

    try:
        return [name for name in running_labs() if name.startswith(incomplete)]
    except TestbedError:
        return []


def nodes(context: typer.Context, incomplete: str) -> list[str]:
    """The nodes of the lab that stands before."""
    described = _described(context)
    return _beginning(incomplete, (node["name"] for node in described.get("nodes", ())))


def interfaces(context: typer.Context, incomplete: str) -> list[str]:
    """The interfaces of the lab, as `node:interface`."""
    described = _described(context)
    ends = (
        f"{node['name']}:{end}" for node in described.get("nodes", ()) for end in node["addresses"]
    )
    return _beginning(incomplete, ends)


def link_ends(context: typer.Context, incomplete: str) -> list[str]:
    """The nodes at the ends of links that can be changed; of the first one's, for the second."""
    described = _described(context)
    first = context.params.get("a")
    found: set[str] = set()
    for link in described.get("links", ()):
        one, other = (end.split(":")[0] for end in link["ends"])
        if link["emulated"]:
            found |= {one, other} if first is None else ({other} if first == one else set())
            found |= {one} if first == other else set()
    return _beginning(incomplete, sorted(found))


def impairments(incomplete: str) -> list[str]:
    """The beginnings of changes of a link."""
    from testbed.topology.impairments.declared import DECLARED

    return _beginning(incomplete, (f"{one.name}=" for one in DECLARED))


def lab_node(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The words of `exec`: a lab, or nothing that is known; then a node."""
    words = context.params.get("words") or ()
    if not words:
        return labs(incomplete)
    return nodes(context, incomplete) if len(words) == 1 else []


def _described(context: typer.Context) -> dict[str, Any]:
    from testbed.living.client import LabClient

    words = context.params.get("words") or ()
    name = context.params.get("lab") or (words[0] if words else "")
    try:
        found: dict[str, Any] = LabClient.of(name).ask("GET", "/lab", wait=1.0)
    except TestbedError:
        return {}
    return found


def _beginning(incomplete: str, names: Any) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


LabArgument = Annotated[
    str, typer.Argument(metavar="LAB", help="A lab that `testbed ls` lists.", autocompletion=labs)
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="One of its nodes.", autocompletion=nodes)
]
FirstEnd = Annotated[
    str,
    typer.Argument(
        metavar="A", help="A node, or node:interface, at an end.", autocompletion=link_ends
    ),
]
SecondEnd = Annotated[
    str, typer.Argument(metavar="B", help="The other end.", autocompletion=link_ends)
]
TowardOption = Annotated[
    str | None,
    typer.Option(
        metavar="NODE", help="Only in the direction to this end.", autocompletion=link_ends
    ),
]
