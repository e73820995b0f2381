"""A plan as tables: what a lab would build."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from testbed.report.impairment_words import delay_of, loss_of, others_of, queue_of, rate_of
from testbed.topology import kinds
from testbed.topology.broadcast_domains import LOOPBACK
from testbed.topology.model import Impairments, RouteMetrics
from testbed.topology.planning.plan_model import Plan, PlannedLink, PlannedNode, PlannedRoute
from testbed.topology.units import format_duration


def plan_tables(plan: Plan) -> Group:
    """Three tables, to be printed with rich: nodes with addresses, links, routes."""
    topology = plan.topology
    title = Text(topology.name, style="bold")
    if topology.description:
        title.append(f": {topology.description}", style="not bold")
    tables = [_nodes(plan), _links(plan)]
    if any(node.routes for node in plan.nodes.values()):
        tables.append(_routes(plan))
    return Group(title, *tables)


def _table(*headings: str) -> Table:
    table = Table(title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _nodes(plan: Plan) -> Table:
    captured = {str(end) for end in plan.captures}
    table = _table("node", "kind", "interface", "addresses", "settings")
    for node in plan.nodes.values():
        settings = "\n".join(_settings(plan, node))
        first: tuple[str, str] = (node.name, node.kind)
        for interface in node.interfaces:
            mark = " (captured)" if str(interface) in captured else ""
            addresses = "\n".join(interface.addresses)
            _add(table, *first, f"{interface.name}{mark}", addresses, settings)
            first, settings = ("", ""), ""
        if node.loopback:
            _add(table, *first, LOOPBACK, "\n".join(node.loopback), settings)
        elif not node.interfaces:
            _add(table, *first, "", "", settings)
        table.add_section()
    return table


def _settings(plan: Plan, node: PlannedNode) -> Iterator[str]:
    if node.congestion_control is not None:
        yield f"congestion control {node.congestion_control}"
    kind = kinds.find(node.kind)
    if kind is not None:
        yield from kind.shown(plan.topology.nodes[node.name])
    kernel = plan.topology.nodes[node.name].kernel
    if kernel is not None:
        yield f"nftables: {kernel.nftables.file}"
    yield from (f"{name} = {value}" for name, value in node.sysctls.items())


def _links(plan: Plan) -> Table:
    table = _table(
        "link", "MTU", "made of", "direction", "rate", "delay", "loss", "queue", "others"
    )
    for link in plan.links:
        made_of = "emulator" if link.emulated else "cable (veth)"
        first = (f"{link.a} - {link.b}", str(link.a.mtu), made_of)
        for arrow, impairments in _directions(link):
            _add(table, *first, arrow, *_impairments(impairments))
            first = ("", "", "")
        table.add_section()
    return table


def _directions(link: PlannedLink) -> Iterator[tuple[str, Impairments]]:
    if link.forward == link.reverse:
        yield "both", link.forward
    else:
        yield f"to {link.b.node}", link.forward
        yield f"to {link.a.node}", link.reverse


def _impairments(impairments: Impairments) -> tuple[str, str, str, str, str]:
    rate = rate_of(impairments)
    return (
        rate or "-",
        delay_of(impairments) or "-",
        loss_of(impairments) or "-",
        "\n".join(queue_of(impairments.queue)) if rate else "-",
        "\n".join(others_of(impairments)),
    )


def _routes(plan: Plan) -> Table:
    table = _table("node", "route to", "via", "interface", "metrics")
    for node in plan.nodes.values():
        name = node.name
        for route in node.routes:
            _add(table, name, route.destination, route.via or "-", route.interface, _metrics(route))
            name = ""
        if node.routes:
            table.add_section()
    return table


def _metrics(route: PlannedRoute) -> str:
    metrics: RouteMetrics = route.metrics
    given = []
    for name in metrics.__struct_fields__:
        value = getattr(metrics, name)
        if value is not None:
            shown = format_duration(value) if name == "rto_min" else value
            given.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(given)


def _add(table: Table, *cells: str) -> None:
    """A row of literal text: what a user wrote is no markup."""
    table.add_row(*(Text(cell) for cell in cells))
