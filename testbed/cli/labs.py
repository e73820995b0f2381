"""The commands about labs that live on: up, ls, down, shell, events, and exec in a lab."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.kernel import KernelChoice
from testbed.cli.output import JsonOption, example, print_error, print_json, stdout_console
from testbed.cli.words import LabArgument, NodeArgument, labs
from testbed.errors import KernelError, LabError

if TYPE_CHECKING:
    from testbed.living.descriptions import LabDescription
    from testbed.living.events import LabEvent


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("up", epilog=example("testbed up docomo", "testbed up pair.yaml --name second"))(up)
    app.command("ls", epilog=example("testbed ls"))(list_labs)
    app.command("down", epilog=example("testbed down docomo", "testbed down --all"))(down)
    app.command("shell", epilog=example("testbed shell docomo gateway"))(shell)
    app.command("events", epilog=example("testbed events docomo"))(events)


def up(
    context: typer.Context,
    topology: Annotated[str, typer.Argument(metavar="TOPOLOGY", help="A YAML file, or a name.")],
    name: Annotated[
        str | None, typer.Option(metavar="LAB", help="Call the lab so; it has the topology's name.")
    ] = None,
    captures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the topology's captures there.")
    ] = None,
) -> None:
    """Start a lab that lives on until `testbed down`; returns when it runs."""
    import os

    from testbed.kernel.seeds import SEED_VARIABLE
    from testbed.living.client import LabClient
    from testbed.living.orders import HolderOrder
    from testbed.living.starting import start_holder

    choice: KernelChoice = context.obj
    if choice.clock == "virtual":
        raise KernelError(
            "A lab by the virtual clock does not wait for you: its time jumps whenever all its "
            "programs wait, hours in a moment. `testbed up` is for the real clock (--clock real); "
            "`testbed exec --clock virtual SCRIPT` runs a script by the virtual one."
        )
    if choice.seed is not None:
        os.environ[SEED_VARIABLE] = str(choice.seed)
    made = start_holder(
        HolderOrder(
            source=topology, name=name, captures=None if captures is None else str(captures)
        )
    )
    nodes = " ".join(node["name"] for node in LabClient.of(made).ask("GET", "/lab")["nodes"])
    console = stdout_console()
    console.print(f"{made} is up: {nodes}", soft_wrap=True)
    first = nodes.split(" ")[0]
    console.print(f"testbed shell {made} {first}  |  testbed down {made}", soft_wrap=True)


def list_labs(json: JsonOption = False) -> None:
    """List the labs that live on."""
    from rich.table import Table

    from testbed.living.client import LabClient
    from testbed.living.descriptions import LabDescription
    from testbed.living.records import running_labs

    told: dict[str, LabDescription | LabError] = {}
    records = running_labs()
    for record in records.values():
        try:
            told[record.name] = LabClient(record).ask(
                "GET", "/lab", answer=LabDescription, wait=2.0
            )
        except LabError as error:  # it is being built, or ends just now
            told[record.name] = error
    if json:
        print_json(
            [
                {
                    "record": record,
                    "socket": str(record.socket),
                    "lab": None if isinstance(told[name], LabError) else told[name],
                }
                for name, record in records.items()
            ]
        )
        return
    if not records:
        stdout_console().print("No lab lives on. Start one: testbed up FILE", soft_wrap=True)
        return
    table = Table("lab", "topology", "state", "since", "nodes", "holder")
    for name, record in records.items():
        table.add_row(
            name, record.source, _state(told[name]), _age(record.began), _nodes(told[name]),
            str(record.pid),
        )  # fmt: skip
    stdout_console().print(table)


def _state(lab: LabDescription | LabError) -> str:
    if isinstance(lab, LabError):
        return str(lab)
    return f"failed: {lab.failure}" if lab.failure else lab.state


def _nodes(lab: LabDescription | LabError) -> str:
    return "" if isinstance(lab, LabError) else " ".join(node.name for node in lab.nodes)


def _age(began: float) -> str:
    import time

    seconds = max(0, int(time.time() - began))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def down(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LAB...", autocompletion=labs)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All labs.")] = False,
) -> None:
    """End labs; returns when nothing of them is left.

    The exit status is 1 where something was wrong with one, such as an incomplete capture.
    """
    from testbed.living.client import LabClient
    from testbed.living.records import running_labs

    if bool(names) == every:
        raise LabError("Name the labs to end, or say --all.")
    records = running_labs()
    clients = [
        LabClient(records[name]) if name in records else LabClient.of(name)
        for name in (names or records)
    ]
    complaints = [complaint for client in clients if (complaint := client.end())]
    for complaint in complaints:
        print_error(LabError(complaint))
    if complaints:
        raise typer.Exit(1)


def run_in_lab(name: str, node: str, argv: Sequence[str], *, terminal: bool) -> int:
    """The status of a program in a node; without one, what a shell there ends with."""
    from testbed.living.attaching import run_in_node
    from testbed.living.client import LabClient

    client = LabClient.of(name)
    if not argv:
        raise LabError(f"What is to be run? testbed exec {name} {node} -- COMMAND")
    if terminal and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("--tty takes a terminal at both standard input and output.")
    return run_in_node(client, node, argv, terminal=terminal)


def shell(lab: LabArgument, node: NodeArgument) -> None:
    """Open a shell in a node of a lab."""
    import os

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    program = os.environ.get("SHELL") or "/bin/sh"
    raise typer.Exit(run_in_lab(lab, node, [program], terminal=terminal))


def events(
    lab: LabArgument,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin with what came after this event; 0: all.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tell what happens to a lab, as it happens: changes of links, switches, deaths."""
    import msgspec

    from testbed.living.client import LabClient

    for event in LabClient.of(lab).events(after):
        line = msgspec.json.encode(event).decode() if json else _event_line(event)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _event_line(event: LabEvent) -> str:
    from datetime import datetime

    when = datetime.fromtimestamp(event.time_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    words = (f"{name}={value}" for name, value in event.what.items() if value not in (None, "", {}))
    return f"{when}  {event.number:>4}  {event.kind:<8}  {event.about}  {' '.join(words)}"
