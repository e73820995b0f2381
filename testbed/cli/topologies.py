"""Commands about topologies: plan, schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import JsonOption, example, print_json, stdout_console, write_file

if TYPE_CHECKING:
    from testbed.topology.planning.plan_model import Plan

TopologyArgument = Annotated[
    Path,
    typer.Argument(metavar="TOPOLOGY", help="A YAML file, or a name such as docomo."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("plan", epilog=example("testbed plan topologies/docomo.yaml"))(plan)
    app.command("schema", epilog=example("testbed schema --out topology.schema.json"))(schema)


def plan(topology: TopologyArgument, json: JsonOption = False) -> None:
    """Show what a lab of this topology would consist of: addresses, links, routes."""
    planned = _plan(topology)
    if json:
        print_json(planned)
        return
    from testbed.report.plan_tables import plan_tables

    stdout_console().print(plan_tables(planned))


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it to a file.")
    ] = None,
) -> None:
    """Print the JSON Schema of topologies, for editors that check YAML as it is typed."""
    import msgspec

    from testbed.middlebox.registry import function_options
    from testbed.topology.yaml.schema import json_schema

    described = json_schema(function_options())
    if out is None:
        print_json(described)
    else:
        write_file(out, msgspec.json.format(msgspec.json.encode(described)).decode() + "\n")


def _plan(path: Path) -> Plan:
    from testbed.loading import load
    from testbed.topology.planning.plan import plan

    return plan(load(path))
