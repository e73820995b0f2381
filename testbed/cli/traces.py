"""Commands about captures: trace and ladder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import JsonOption, example, print_json, stdout_console, write_file

if TYPE_CHECKING:
    from rich.console import Console

CapturesArgument = Annotated[
    list[Path], typer.Argument(metavar="PCAP...", help="Captures, pcap or pcapng.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("trace", epilog=example("testbed trace client.pcap"))(trace)
    app.command(
        "ladder",
        epilog=example(
            "testbed ladder client.pcap server.pcap --columns client,router,server --svg ladder.svg"
        ),
    )(ladder)


def trace(captures: CapturesArgument, json: JsonOption = False) -> None:
    """Tabulate the TCP connections of captures: round-trip times, bytes, retransmissions, end."""
    from testbed.report.tables import trace_table
    from testbed.trace import read_trace

    tables = [trace_table(read_trace(path)) for path in captures]
    if json:
        print_json([table.data() for table in tables])
        return
    console = stdout_console()
    for table in tables:
        console.print(table)


def ladder(
    captures: CapturesArgument,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names of the columns: one more than captures."),
    ] = None,
    connection: Annotated[
        int | None, typer.Option(min=1, help="The connection to draw, by its number.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Draw so many arrows at most.")] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture instead of text.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=40, max=1000, help="Characters per line.")
    ] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters.")] = False,
    json: JsonOption = False,
) -> None:
    """Draw one connection as a ladder diagram; give captures from the client's to the server's."""
    from testbed.report.ladder import ladder_from_files
    from testbed.report.ladder_svg import draw_svg
    from testbed.report.ladder_terminal import draw

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    drawn = ladder_from_files(captures, names=names, connection=connection, limit=limit)
    if svg is not None:
        write_file(svg, draw_svg(drawn))
    if json:
        print_json(drawn)
    elif svg is None:
        console = stdout_console()
        only_ascii = ascii or not console.encoding.startswith("utf")
        drawing = draw(drawn, width or _usual_width(console), ascii_only=only_ascii)
        console.print(drawing, no_wrap=True, crop=False, soft_wrap=True)


def _usual_width(console: Console) -> int:
    from testbed.report.ladder_terminal import DEFAULT_WIDTH

    return console.width if console.is_terminal else DEFAULT_WIDTH
