"""Commands about captures: trace and ladder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from testbed.cli.output import (
    JsonOption,
    example,
    only_ascii,
    print_json,
    reading_progress,
    stdout_console,
    write_file,
)
from testbed.errors import TraceError

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.report import TraceTable
    from testbed.trace import Connection, Trace

CapturesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PCAP...",
        help="Captures, pcap or pcapng, also compressed (gz, zst, lz4), or what tcpdump prints; "
        "- is standard input.",
    ),
]
CopiesOption = Annotated[
    bool,
    typer.Option(
        "--ignore-copies", help="Leave out packets that the capture holds twice, or forwarded."
    ),
]


class Sort(StrEnum):
    """What connections are sorted by."""

    START = "start"
    DURATION = "duration"
    RTT = "rtt"
    BYTES = "bytes"
    SEGMENTS = "segments"
    RETRANSMISSIONS = "retransmissions"


class ConnectionEnding(StrEnum):
    """How a connection ended, as the table says it."""

    FIN = "FIN"
    RST = "RST"
    HALF_CLOSED = "half-closed"
    OPEN = "open"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "trace",
        epilog=example(
            "testbed trace client.pcap",
            "tcpdump -w - -i eth0 -c 1000 | testbed trace -",
            "testbed trace big.pcap.gz --port 443 --sort retransmissions --limit 20",
        ),
    )(trace)
    app.command(
        "ladder",
        epilog=example(
            "testbed ladder client.pcap server.pcap --columns client,router,server --svg ladder.svg"
        ),
    )(ladder)


def trace(
    captures: CapturesArgument,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Only connections of an address, or of a network."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Only connections of a port.")
    ] = None,
    end: Annotated[
        ConnectionEnding | None, typer.Option(help="Only connections that ended so.")
    ] = None,
    sort: Annotated[
        Sort | None, typer.Option(help="Largest first; `start`: earliest first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Show so many at most.")] = None,
    connection: Annotated[
        int | None,
        typer.Option(
            "--connection", "-c", min=1, help="Tell the story of one connection, by its number."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With -c: write its plots to a .png, .svg or .pdf file."),
    ] = None,
    ignore_copies: CopiesOption = False,
    parquet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the segments to a Parquet file, and the connections beside it to "
            "FILE.connections (for one capture).",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tabulate the TCP connections of captures: round-trip times, bytes, retransmissions, end.

    With -c the story of one of them: in words, as a ladder and in plots; of several captures, the
    first that has connections, with what became of its segments in the others.
    Exit status 1 when a file is damaged: it is read up to there.
    """
    from testbed.report import trace_table

    if parquet is not None and len(captures) != 1:
        raise TraceError(f"--parquet writes one capture to one file; {len(captures)} are given.")
    if connection is not None:
        _tell(captures, connection, plot, ignore_copies=ignore_copies, json=json)
        return
    if plot is not None:
        raise TraceError("--plot draws one connection: name it with -c.")
    wanted = _wanted(host, port, end)
    traces = [read(name, ignore_copies=ignore_copies) for name in captures]
    tables = [
        trace_table(one, wanted=wanted, sort=sort.value if sort else "", limit=limit)
        for one in traces
    ]
    if parquet is not None:
        _write_parquet(parquet, traces[0], tables[0])
    if json:
        print_json([table.data() for table in tables])
    else:
        console = stdout_console()
        for table in tables:
            console.print(table)
    if any(one.damage for one in traces):
        raise typer.Exit(1)


def _tell(
    captures: list[str], number: int, plot: Path | None, *, ignore_copies: bool, json: bool
) -> None:
    """The story of one connection."""
    from testbed.report import draw, draw_connection, ladder_from_traces, terminal_plots
    from testbed.report.connection_story import story_data, story_lines
    from testbed.report.story import connection_story
    from testbed.report.telling import telling_frames

    traces = [read(name, ignore_copies=ignore_copies) for name in captures]
    trace = next((one for one in traces if one.connections), traces[0])
    chosen = trace.numbered(number)
    if plot is not None:
        draw_connection(chosen, plot)
    if json:
        print_json(story_data(traces, trace, chosen))
    else:
        console = stdout_console()
        frames = telling_frames(chosen, connection_story(trace, chosen))
        drawn = ladder_from_traces(traces, connection=number, frames=frames)
        plain = only_ascii(console)
        parts = [
            *story_lines(traces, trace, chosen),
            "",
            draw(drawn, _usual_width(console), ascii_only=plain),
        ]
        if not plain and plot is None:
            parts += ["", terminal_plots(chosen)]
        for part in parts:
            console.print(part, no_wrap=True, crop=False, soft_wrap=True)
    if any(one.damage for one in traces):
        raise typer.Exit(1)


def _wanted(
    host: str | None, port: int | None, end: ConnectionEnding | None
) -> Callable[[Connection], bool] | None:
    """Whether to show a connection; None for all of them."""
    from ipaddress import ip_address, ip_network

    if host is None and port is None and end is None:
        return None
    try:
        network = None if host is None else ip_network(host, strict=False)
    except ValueError:
        raise TraceError(
            f"--host takes an address or a network such as 10.0.0.0/8, not '{host}'."
        ) from None

    def wanted(connection: Connection) -> bool:
        ends = connection.initiator, connection.responder
        return (
            (network is None or any(ip_address(one.address) in network for one in ends))
            and (port is None or any(one.port == port for one in ends))
            and (end is None or connection.ended.value == end.value)
        )

    return wanted


def _write_parquet(path: Path, trace: Trace, shown: TraceTable) -> None:
    """The segments and the connections that the table shows."""
    import numpy as np

    from testbed.trace.table.export import rows_table, write_parquet

    segments = trace.table
    if shown.hidden:
        numbers = [row.number for row in shown.rows]
        segments = segments.take(np.isin(segments.connection, numbers))
    write_parquet(path, segments.to_arrow())
    rows = shown.data()["connections"]
    write_parquet(path.with_name(f"{path.name}.connections"), rows_table(rows))


def read(name: str, *, ignore_copies: bool) -> Trace:
    """The trace of a file, or of standard input."""
    from testbed.trace import read_trace

    source: str | BinaryIO = name
    if name == "-":
        if sys.stdin.isatty():
            raise TraceError("There is no capture on standard input, but a terminal.")
        source = sys.stdin.buffer
    with reading_progress() as progress:
        return read_trace(source, ignore_copies=ignore_copies, progress=progress)


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
    windows: Annotated[
        bool, typer.Option("--windows", help="Show the window that each segment offers.")
    ] = False,
    ignore_copies: CopiesOption = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters.")] = False,
    json: JsonOption = False,
) -> None:
    """Draw one connection as a ladder diagram; give captures along its path, either end first."""
    from testbed.report import draw, draw_svg, ladder_from_traces

    names = None if columns is None else [name.strip() for name in columns.split(",")]
    traces = [read(name, ignore_copies=ignore_copies) for name in captures]
    drawn = ladder_from_traces(traces, names=names, connection=connection, limit=limit)
    if svg is not None:
        write_file(svg, draw_svg(drawn, windows=windows))
    if json:
        print_json(drawn)
    elif svg is None:
        console = stdout_console()
        drawing = draw(
            drawn,
            width or _usual_width(console),
            ascii_only=ascii or only_ascii(console),
            windows=windows,
        )
        console.print(drawing, no_wrap=True, crop=False, soft_wrap=True)
    if any(one.damage for one in traces):
        raise typer.Exit(1)


def _usual_width(console: Console) -> int:
    from testbed.report.ladder_terminal import DEFAULT_WIDTH

    return console.width if console.is_terminal else DEFAULT_WIDTH
