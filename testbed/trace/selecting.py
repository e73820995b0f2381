"""One connection of a trace, by its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from testbed.errors import TraceError
from testbed.trace.connections import Connection
from testbed.trace.segments import Endpoint
from testbed.wording import quote

_MOST_LISTED = 10


def select_connection(
    connections: Sequence[Connection],
    nodes: Mapping[str, Sequence[str]],
    *,
    client: str | int | None,
    server: str | int | None,
    source: str,
) -> Connection:
    """The one connection between these ends; client is the initiator.

    nodes: addresses by name of a node. source: what the connections are from, for errors.
    Raises TraceError unless exactly one fits; it lists those that there are.
    """
    found = [
        one
        for one in connections
        if _fits(one.initiator, client, nodes) and _fits(one.responder, server, nodes)
    ]
    if len(found) == 1:
        return found[0]
    asked = " and ".join(
        f"{name}={quote(end)}"
        for name, end in (("client", client), ("server", server))
        if end is not None
    )
    unknown = [
        end
        for end in (client, server)
        if isinstance(end, str) and end.isidentifier() and end not in nodes
    ]
    names = f" Names of nodes known here: {', '.join(nodes) or 'none'}." if unknown else ""
    listed = found or list(connections)
    shown = "; ".join(
        f"{one.number}: {one.initiator} to {one.responder}" for one in listed[:_MOST_LISTED]
    )
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    raise TraceError(
        f"{source}: expected exactly one connection with {asked or 'any ends'}, found "
        f"{len(found)}. {'They are' if found else 'There are'} {shown or 'none at all'}{more}."
        f"{names}"
    )


def _fits(endpoint: Endpoint, end: str | int | None, nodes: Mapping[str, Sequence[str]]) -> bool:
    if end is None:
        return True
    if isinstance(end, int):
        return endpoint.port == end
    if end in nodes:
        return endpoint.address in nodes[end]
    return end in (endpoint.address, str(endpoint))
